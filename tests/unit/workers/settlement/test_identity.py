"""Which notification a record is, if its id is ours and another one may have it."""

import pytest
from msgspec import structs

from schemas.dispositions import Disposition, Reason
from schemas.notification import Notification
from tests.support import facts
from tests.support.facts import Fact
from tests.support.world import World
from workers.settlement import identity
from workers.settlement.plan import HeldRow, LedgerEntry, ParsedRecord, ParseFailure, Position

ACCOUNT = facts.account("antom")
FORM = facts.notification(facts.form("n", "TRADE_SUCCESS"), facts.account("mapi"))
PAYMENT = facts.notification(facts.payment("x"), ACCOUNT)
KEY = (PAYMENT.account, PAYMENT.id)


def reading(notification: Notification | None, failure: ParseFailure | None = None) -> ParsedRecord:
    read = facts.reading(PAYMENT, ACCOUNT, Position(0, 0))
    return structs.replace(read, notification=notification, failure=failure)


def failure(id_: str) -> ParseFailure:
    return ParseFailure(disposition=Disposition.QUARANTINED, reason=Reason.MISSING_FIELD, notification_id=id_)


def held(id_: str) -> HeldRow:
    return HeldRow(
        position=Position(0, 0),
        account=ACCOUNT.name,
        order="A",
        notification_id=id_,
        disposition=Disposition.QUARANTINED,
        reason=Reason.SECOND_TRADE,
        detail="",
        record=facts.reading(PAYMENT, ACCOUNT, Position(0, 0)).record,
        first_at_ms=0,
    )


def test_only_antom_s_notifications_may_have_a_second_id() -> None:
    assert identity.ids_of(reading(FORM)) == ("n",)
    assert identity.ids_of(reading(PAYMENT)) == (PAYMENT.id, f"{PAYMENT.id}:{PAYMENT.digest.hex()}")
    assert identity.ids_of(reading(None, failure("n"))) == ("n",)
    assert identity.ids_of(reading(None, failure(""))) == ()


@pytest.mark.parametrize(("known", "id_"), [(None, "id"), (PAYMENT.digest, "id"), (b"other", "content_id")])
def test_id_with_the_content_is_used_where_other_content_has_the_usual_one(known: bytes | None, id_: str) -> None:
    ledger = {} if known is None else {KEY: LedgerEntry(known, Position(0, 0))}
    assert identity.identified(PAYMENT, None, ledger).id == getattr(PAYMENT, id_)


def test_form_keeps_its_id_whatever_content_has_it() -> None:
    assert identity.identified(FORM, None, {(FORM.account, FORM.id): LedgerEntry(b"other", Position(0, 0))}) is FORM


def test_retry_has_the_id_that_the_notification_was_held_with() -> None:
    assert identity.as_held(PAYMENT, None) is PAYMENT
    assert identity.as_held(PAYMENT, held(PAYMENT.id)) is PAYMENT
    assert identity.as_held(PAYMENT, held(PAYMENT.content_id)).id == PAYMENT.content_id
    assert identity.as_held(FORM, held("")) is FORM


@pytest.mark.parametrize(
    ("fact", "other"),
    [
        (facts.antom_refund("R1", "4000", paymentId="T1"), facts.antom_refund("R1", "100", paymentId="T1")),
        (facts.capture("C1", "4000"), facts.capture("C1", "100")),
    ],
)
def test_number_of_another_message_cannot_bring_another_fact(fact: Fact, other: Fact) -> None:
    world = World(facts.account("antom"))
    world.deliver(*(facts.notification(each, world.account) for each in (facts.payment("x"), fact, other)))
    first, second = (world.store.deliveries[Position(0, offset)] for offset in (1, 2))
    assert (first.disposition, second.reason) == (Disposition.APPLIED, Reason.ID_CONFLICT)
    assert identity.shares_number(structs.replace(PAYMENT, id=PAYMENT.content_id))
    assert not identity.shares_number(PAYMENT)
    assert not identity.shares_number(FORM)
