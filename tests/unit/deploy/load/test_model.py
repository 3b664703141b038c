"""The load's model of an order compared with an independent model, which reads the messages themselves."""

from datetime import UTC, datetime
from random import Random
from typing import Any

from msgspec import structs

from deploy.load import corpus, model, origin
from deploy.load.corpus import Mix, Share
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.world import World
from tests.support import model as documents
from tests.unit.deploy.load.parsing import fact
from tests.unit.deploy.load.samples import notification


def test_model_agrees_with_the_documents_on_any_part_of_a_run(load_world: World) -> None:
    accounts = [load_world.account(name) for name in origin.verifiable_offline(load_world)]
    requests = corpus.make(
        Share(seed=5), total=2000, accounts=accounts, mix=Mix(lifecycles=0.9), host="h", now=datetime.now(UTC)
    )
    chance = Random(3)
    arrived = [one for one in requests if not one.sent.forged and chance.random() < 0.7]
    compared = set()
    for account in accounts:
        identity = account.identity
        theirs = [one for one in arrived if one.sent.account == identity.name]
        capture = "manual" if identity.manual_capture else "automatic"
        setting = {"family": identity.family, "currency": identity.currency, "orders": "any", "capture": capture}
        final = documents.final([fact(one) for one in theirs], setting, {})
        assert final.keys() <= {one.sent.order for one in theirs}
        for order in {one.sent.order for one in theirs}:
            sent = [one.sent for one in theirs if one.sent.order == order]
            outcome = model.outcome(sent)
            if order not in final:  # nothing but captures, which wait for their payment
                assert outcome == model.NOTHING
                assert all(model.waits(one, sent) for one in sent)
                continue
            expected = final[order]
            assert shown(outcome) == {name: expected[name] for name in shown(outcome)}, order
            compared.add((outcome.status, outcome.closed_because, bool(outcome.refunded_minor), outcome.flags))
    assert {"capture_failed", "refund_amount_unknown"} <= {flag for *_, flags in compared for flag in flags}
    assert len(compared) >= 8, "a comparison that met nothing proves nothing"


def shown(outcome: model.SendOutcome) -> dict[str, Any]:
    return structs.asdict(outcome) | {"flags": set(outcome.flags)}


def test_no_notifications_make_no_order() -> None:
    assert model.outcome([]) == model.NOTHING


def test_refunds_close_the_order_only_when_they_reach_its_amount() -> None:
    part, whole = (
        notification("n1", MessageKind.REFUND, refunded=500),
        notification("n2", MessageKind.REFUND, refunded=1280),
    )
    assert (model.outcome([part]).status, model.outcome([part]).refunded_minor) == ("PAID", 500)
    closed = model.outcome([whole, part])
    assert (closed.status, closed.closed_because, closed.refunded_minor) == ("CLOSED", "refunded", 1280)


def test_refund_without_an_amount_is_flagged_until_one_has_it() -> None:
    vague = notification("n1", MessageKind.REFUND, refunded=None)
    assert model.outcome([vague]).flags == ("refund_amount_unknown",)
    assert model.outcome([vague, notification("n2", MessageKind.REFUND, refunded=1280)]).flags == ()


def test_capture_waits_for_its_payment() -> None:
    capture = notification("n1", MessageKind.CAPTURE)
    payment = notification("n2", MessageKind.AUTHORIZED)
    assert model.outcome([capture]) == model.NOTHING
    assert model.waits(capture, [capture])
    assert not model.waits(capture, [capture, payment])
    assert model.outcome([capture, payment]).status == "PAID"


def test_card_payment_is_paid_at_a_manual_account_once_it_is_captured() -> None:
    payment = structs.replace(notification("n1", MessageKind.AUTHORIZED), is_manual=True)
    failed = structs.replace(notification("n2", MessageKind.CAPTURE_FAILED), is_manual=True)
    captured = structs.replace(notification("n3", MessageKind.CAPTURE), is_manual=True)
    assert (model.outcome([payment, failed]).status, model.outcome([payment, failed]).flags) == (
        "WAITING",
        ("capture_failed",),
    )
    assert (model.outcome([payment, failed, captured]).status, model.outcome([captured, failed, payment]).flags) == (
        "PAID",
        (),
    )


def test_cancelled_trade_is_refunded_whole() -> None:
    cancelled = notification("n1", MessageKind.REVERSED, refunded=1280)
    assert model.outcome([cancelled]).closed_because == "refunded"
