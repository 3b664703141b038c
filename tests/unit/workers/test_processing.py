"""The workers' story: a record's own fault holds that record and no other; trouble of infrastructure holds nothing."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from schemas import interpret
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.notification import Notification
from schemas.orders import Status
from schemas.record_format import VERSION, Header, Record, RecordContents
from tests.support import facts
from tests.support.facts import form, payment
from tests.support.fakes import MemoryTopics, Offsets, PlanObserver
from tests.support.stores import MemoryStore
from workers.errors import EventRefused, InfrastructureDown, TooManyDeadLetters, VersionConflict
from workers.processing import Authenticate, Processing
from workers.settlement import order_view
from workers.settlement.plan import HeldRow, Position, Registration, WritePlan

SHOP = facts.account("mapi")
FORGED = b"forged"


class Forged(Exception):
    """What a signature check raises here."""


def authenticate(sealed: RecordContents, account: Account, *, anew: bool = False) -> None:
    if FORGED in sealed.body:
        raise Forged


class Story:
    """Processing with everything it calls, in memory."""

    def __init__(
        self,
        refuses: Callable[[WritePlan], bool] = lambda plan: False,
        dead_letters_max: int = 20,
        authenticate: Authenticate = authenticate,
        published: MemoryTopics | None = None,
    ) -> None:
        self.store = MemoryStore(refuses)
        self.published = published or MemoryTopics()
        self.watched = PlanObserver()
        self.log = Offsets()
        self.processing = Processing(
            accounts=facts.ACCOUNTS,
            authenticate=authenticate,
            store=self.store,
            events=self.published,
            observer=self.watched,
            now_ms=lambda: 1_743_480_000_000,
            chance=lambda: 0.5,
            dead_letters_max=dead_letters_max,
        )

    async def process(self, *records: Record) -> list[Position]:
        batch = [self.log.log_record(record) for record in records]
        await self.processing.process(batch)
        return [logged.position for logged in batch]

    def ends(self) -> list[tuple[Disposition, Reason]]:
        deliveries = self.store.deliveries
        return [(deliveries[position].disposition, deliveries[position].reason) for position in sorted(deliveries)]

    def held(self, offset: int = 0) -> HeldRow:
        return self.store.held[Position(0, offset)]


def paid(order: str, **more: str) -> Record:
    told = form(f"id-{order}", "TRADE_SUCCESS", order=order, trade=f"T-{order}", **more)
    return facts.record(facts.body(told), SHOP, number=order)


def with_header(record: Record, name: str, value: bytes | None) -> Record:
    """The record with one header changed, or without it."""
    headers = [(known, old) for known, old in record.headers if known != name]
    return structs.replace(record, headers=(*headers, *([] if value is None else [(name, value)])))


APPLIED = (Disposition.APPLIED, Reason.CHANGED)


async def test_a_batch_is_applied_in_one_transaction_and_its_events_go_out_once() -> None:
    story = Story()
    await story.process(*(paid(order) for order in "ABC"))
    assert story.ends() == [APPLIED] * 3
    assert len(story.store.settled_batches) == 1
    assert await story.processing.emit() == 3
    assert await story.processing.emit() == 0
    assert [event.id for event in story.published.events] == ["mapi-any:A:1", "mapi-any:B:1", "mapi-any:C:1"]
    assert story.watched.emitted_ids == [event.id for event in story.published.events]


async def test_events_that_no_topic_took_stay_in_the_outbox() -> None:
    story = Story()
    await story.process(paid("A"))
    story.published.down = True
    with pytest.raises(InfrastructureDown):
        await story.processing.emit()
    story.published.down = False
    assert await story.processing.emit() == 1


async def test_an_event_that_no_topic_will_ever_take_does_not_keep_the_others_in_the_outbox() -> None:
    class TooLarge(MemoryTopics):
        async def publish(self, events: Sequence[Outgoing]) -> None:
            sound = [place for place, event in enumerate(events) if event.key != b"mapi-any:B"]
            await super().publish([events[place] for place in sound])
            if len(sound) < len(events):
                raise EventRefused("too large", sound)

    story = Story(published=TooLarge())
    await story.process(*(paid(order) for order in "ABC"))
    assert await story.processing.emit() == 2
    assert [event.id for event in story.published.events] == ["mapi-any:A:1", "mapi-any:C:1"]
    assert [event.id for _, event in await story.store.unsent(10)] == ["mapi-any:B:1"]
    with pytest.raises(EventRefused):
        await story.processing.emit()
    assert story.watched.emitted_ids == ["mapi-any:A:1", "mapi-any:C:1"]


async def test_a_batch_delivered_again_changes_nothing() -> None:
    story = Story()
    batch = [story.log.log_record(paid(order)) for order in "AB"]
    await story.processing.process(batch)
    await story.processing.process(batch)
    assert story.ends() == [APPLIED] * 2
    assert len(story.store.outbox) == 2


async def test_one_record_that_the_store_refuses_is_held_and_its_seven_neighbours_are_applied() -> None:
    story = Story(refuses=lambda plan: any(row.order == "E" for row in plan.ledger))
    await story.process(*(paid(order) for order in "ABCDEFGH"))
    ends = story.ends()
    assert ends.pop(4) == (Disposition.DEAD, Reason.OUR_FAULT)
    assert ends == [APPLIED] * 7
    row = story.held(4)
    assert (row.order, row.notification_id, row.record) == ("E", "id-E", paid("E"))
    assert row.detail.startswith("RecordRefused, traceback ")


async def test_a_store_that_cannot_hold_even_the_dead_record_is_infrastructure() -> None:
    story = Story(refuses=lambda plan: True)
    with pytest.raises(InfrastructureDown):
        await story.process(paid("A"))
    assert story.ends() == []


@pytest.mark.parametrize("error", [InfrastructureDown("away"), VersionConflict("A"), asyncio.CancelledError()])
async def test_trouble_of_infrastructure_passes_through_and_holds_nothing(error: BaseException) -> None:
    story = Story()
    story.store.trouble = [error]
    batch = [story.log.log_record(paid(order)) for order in "AB"]
    with pytest.raises(type(error)):
        await story.processing.process(batch)
    assert (story.ends(), story.store.held) == ([], {})
    await story.processing.process(batch)
    assert story.ends() == [APPLIED] * 2


async def test_twenty_dead_in_a_row_stop_the_worker_and_are_held() -> None:
    story = Story()
    with pytest.raises(TooManyDeadLetters):
        await story.process(*(facts.record(b"no form", SHOP) for _ in range(20)))
    assert len(story.store.held) == 20


async def test_dead_records_among_living_ones_stop_nothing() -> None:
    story = Story(dead_letters_max=2)
    for order in "ABC":
        await story.process(facts.record(b"no form", SHOP), paid(order))
    assert story.ends() == [(Disposition.DEAD, Reason.MALFORMED), APPLIED] * 3


async def test_a_run_of_dead_is_counted_across_batches() -> None:
    story = Story(dead_letters_max=3)
    await story.process(facts.record(b"no form", SHOP))
    await story.process(facts.record(b"no form", SHOP))
    with pytest.raises(TooManyDeadLetters):
        await story.process(facts.record(b"no form", SHOP))


@pytest.mark.parametrize(
    "value",
    [b"\x00\xff no form", facts.body(form("p", "TRADE_SUCCESS"))[:-40] + b"%4", b"", b"a=1&a=2"],
    ids=["P01 no form", "P02 truncated", "empty", "a name twice"],
)
async def test_bytes_that_are_no_form_are_dead_at_the_first_try(value: bytes) -> None:
    story = Story()
    await story.process(facts.record(value, SHOP), paid("B"))
    assert story.ends() == [(Disposition.DEAD, Reason.MALFORMED), APPLIED]
    assert story.held().record.value == value


async def test_a_form_cut_off_between_two_parameters_is_held_for_what_it_lacks() -> None:
    story = Story()
    cut = facts.body(form("p", "TRADE_SUCCESS")).partition(b"&trade_status=")[0]
    await story.process(facts.record(cut, SHOP))
    assert story.ends() == [(Disposition.QUARANTINED, Reason.MISSING_FIELD)]


async def test_a_record_of_the_next_envelope_version_is_parked() -> None:
    story = Story()
    await story.process(with_header(paid("A"), Header.VERSION, b"%d" % (VERSION + 1)))
    assert story.ends() == [(Disposition.PARKED, Reason.NEWER_ENVELOPE)]
    assert story.held().due_at_ms is not None


async def test_every_older_envelope_version_is_processed() -> None:
    for version in range(1, VERSION + 1):
        story = Story()
        await story.process(with_header(paid("A"), Header.VERSION, b"%d" % version))
        assert story.ends() == [APPLIED]


@pytest.mark.parametrize("name", [header for header in Header if header in dict(paid("A").headers)])
async def test_a_record_without_a_header_that_every_receiver_writes_is_dead(name: str) -> None:
    story = Story()
    await story.process(with_header(paid("A"), name, None), paid("B"))
    assert story.ends() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (Header.VERSION, b"0"),
        (Header.VERSION, b"one"),
        (Header.ACCOUNT, b"\xff"),
        (Header.ACCOUNT, b"nobody"),
        (Header.FAMILY, b"antom"),
        (Header.FAMILY, b""),
    ],
)
async def test_a_header_that_is_not_what_it_should_be_makes_a_record_dead(name: str, value: bytes) -> None:
    story = Story()
    await story.process(with_header(paid("A"), name, value), paid("B"))
    assert story.ends() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED]


@pytest.mark.parametrize("value", [b"yesterday", b"9" * 30, b"-1"])
async def test_a_moment_of_receipt_that_cannot_be_is_advice_and_now_stands_in(value: bytes) -> None:
    story = Story()
    await story.process(with_header(paid("A"), Header.RECEIVED_AT, value))
    assert story.ends() == [APPLIED]
    assert story.store.deliveries[Position(0, 0)].received_at_ms == 1_743_480_000_000


async def test_a_header_that_occurs_twice_makes_a_record_dead() -> None:
    story = Story()
    record = paid("A")
    await story.process(structs.replace(record, headers=(*record.headers, record.headers[0])))
    assert story.ends() == [(Disposition.DEAD, Reason.BAD_RECORD)]


async def test_a_record_under_another_orders_key_is_processed() -> None:
    story = Story()
    await story.process(structs.replace(paid("A"), key=b"mapi-any:B"))
    assert story.ends() == [APPLIED]
    assert list(story.store.orders) == [(SHOP.name, "A")]


async def test_a_megabyte_with_a_thousand_headers_is_dead_and_its_headers_are_capped() -> None:
    story = Story()
    headers = (*paid("A").headers, *((f"h{n}", b"x" * 5000) for n in range(1000)))
    await story.process(Record(b"k", b"v" * 1_048_576, headers), paid("B"))
    assert story.ends() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED]
    kept = story.held().record
    assert len(kept.value) == 1_048_576
    assert len(kept.headers) <= 64
    assert max(len(value) for _, value in kept.headers) <= 4096


@pytest.mark.parametrize("name", ["out_trade_no", "subject"])
async def test_a_nul_bound_for_a_text_column_is_held_at_the_first_try(name: str) -> None:
    story = Story()
    await story.process(paid("A", **{name: "A\x00B"}), paid("B"))
    assert story.ends() == [(Disposition.QUARANTINED, Reason.CONTROL_CHAR), APPLIED]
    assert "\x00" not in story.held().order


async def test_a_lone_surrogate_in_a_message_is_held_at_the_first_try() -> None:
    story = Story()
    antom = facts.account("antom")
    await story.process(facts.record(facts.body(payment("p", note="\ud800")), antom), paid("B"))
    assert story.ends() == [(Disposition.DEAD, Reason.MALFORMED), APPLIED]


class Weird(BaseException):
    """No Exception, and nobody's signal to stop."""


@pytest.mark.parametrize("error", [ValueError("v"), RecursionError(), asyncio.CancelledError(), Weird()])
async def test_whatever_reading_raises_holds_that_record_only(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = interpret.read

    def read(body: bytes, account: Account) -> Notification:
        if b"id-B" in body:
            raise error
        return honest(body, account)

    monkeypatch.setattr(interpret, "read", read)
    story = Story()
    await story.process(*(paid(order) for order in "ABC"))
    assert story.ends() == [APPLIED, (Disposition.DEAD, Reason.OUR_FAULT), APPLIED]
    assert story.held(1).detail.startswith(type(error).__name__)


@pytest.mark.parametrize("error", [ValueError("v"), RecursionError(), asyncio.CancelledError(), Weird()])
async def test_whatever_deciding_raises_holds_that_record_only(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = order_view.view

    def view(order: Any) -> Any:
        if order.number == "B":
            raise error
        return honest(order)

    monkeypatch.setattr(order_view, "view", view)
    story = Story()
    await story.process(*(paid(order) for order in "ABC"))
    assert story.ends() == [APPLIED, (Disposition.DEAD, Reason.OUR_FAULT), APPLIED]
    assert story.held(1).detail.startswith(f"{type(error).__name__}, traceback ")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_who_wants_the_process_to_end_is_not_held_back(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(body: bytes, account: Account) -> Notification:
        raise error

    monkeypatch.setattr(interpret, "read", read)
    story = Story()
    with pytest.raises(type(error)):
        story.processing.read(story.log.log_record(paid("A")), now_ms=0)


async def test_a_record_put_on_the_log_by_hand_has_no_effect() -> None:
    story = Story()
    await story.process(paid("A", subject=FORGED.decode()), paid("B"))
    assert story.ends() == [(Disposition.DEAD, Reason.UNAUTHENTICATED), APPLIED]
    assert list(story.store.orders) == [(SHOP.name, "B")]
    assert not [row for row in story.store.ledger.values() if row.order == "A"]


async def test_the_same_record_twice_in_the_log_has_one_effect() -> None:
    story = Story()
    await story.process(paid("A"), paid("A"))
    await story.process(paid("A"))
    assert [disposition for disposition, _ in story.ends()] == [
        Disposition.APPLIED,
        Disposition.DUPLICATE,
        Disposition.DUPLICATE,
    ]
    assert story.store.orders[SHOP.name, "A"].version == 1


async def test_an_authentic_form_that_cannot_be_read_is_held_once_however_often_it_comes() -> None:
    story = Story()
    await story.process(paid("A", total_fee="1e3"), paid("A", total_fee="1e3"))
    assert story.ends() == [
        (Disposition.QUARANTINED, Reason.BAD_AMOUNT),
        (Disposition.DUPLICATE, Reason.SAME_ID),
    ]


async def test_a_message_without_an_id_that_cannot_be_read_is_held_once_however_often_it_comes() -> None:
    story = Story()
    antom = facts.account("antom")
    broken = [b'{"notifyType": NaN}', facts.body(payment("p", value="1.00"))]
    await story.process(*(facts.record(body, antom) for body in broken * 2))
    held = [(Disposition.DEAD, Reason.MALFORMED), (Disposition.QUARANTINED, Reason.BAD_AMOUNT)]
    assert story.ends() == held + [(Disposition.DUPLICATE, Reason.SAME_ID)] * 2


async def test_a_dead_record_is_applied_by_a_replay_after_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()

    def read(body: bytes, account: Account) -> Notification:
        raise ValueError

    with monkeypatch.context() as broken:
        broken.setattr(interpret, "read", read)
        await story.process(paid("A"))
    row = story.held()
    assert row.disposition is Disposition.DEAD
    await story.processing.retry([row])
    await story.processing.retry([row])
    assert story.ends() == [APPLIED]
    assert not story.store.held
    assert order_view.view(story.store.orders[SHOP.name, "A"]).status is Status.PAID


async def test_a_replay_that_fails_again_keeps_the_row_and_counts_the_attempt() -> None:
    story = Story()
    await story.process(facts.record(b"no form", SHOP))
    await story.processing.retry([story.held()])
    assert (story.held().attempts, story.held().first_at_ms) == (1, 1_743_480_000_000)
    assert story.ends() == [(Disposition.DEAD, Reason.MALFORMED)]
    assert len(story.store.outbox) == 1


async def test_a_held_record_whose_keys_are_gone_is_not_applied_by_a_replay() -> None:
    story = Story()
    await story.process(paid("A", total_fee="1e3"))
    row = story.held()
    tampered = structs.replace(row, record=structs.replace(row.record, value=row.record.value + b"&x=" + FORGED))
    await story.processing.retry([tampered])
    assert story.ends() == [(Disposition.DEAD, Reason.UNAUTHENTICATED)]
    assert not story.store.orders


async def test_a_receipt_spares_the_first_reading_its_verification_and_a_replay_never() -> None:
    asked: list[tuple[bytes, bool]] = []

    def once(sealed: RecordContents, account: Account, *, anew: bool = False) -> None:
        asked.append((sealed.receipt, anew))
        if anew:
            raise Forged

    story = Story(authenticate=once)
    await story.process(with_header(paid("A", total_fee="1e3"), Header.RECEIPT, b"ours"))
    await story.processing.retry([story.held()])
    assert asked == [(b"ours", False), (b"ours", True)]
    assert story.ends() == [(Disposition.DEAD, Reason.UNAUTHENTICATED)]
    assert dict(story.held().record.headers)[Header.RECEIPT] == b"ours", "the record is kept as it was"


async def test_a_parked_record_is_retried_when_its_order_is_registered() -> None:
    story = Story()
    waiting = facts.account("mapi", "registered")
    await story.process(facts.record(facts.body(form("p", "TRADE_SUCCESS")), waiting))
    assert story.ends() == [(Disposition.PARKED, Reason.UNKNOWN_ORDER)]
    story.store.register_now(waiting.name, "A", Registration(expected=Money(10000, "USD")), now_ms=0)
    await story.processing.retry(story.store.due_now(now_ms=0))
    assert story.ends() == [APPLIED]


async def test_those_who_watch_see_each_plan_with_its_readings() -> None:
    story = Story()
    await story.process(paid("A"), facts.record(b"no form", SHOP))
    assert [len(plan.deliveries) for plan in story.watched.plans] == [2]
    assert [parsed.failure is None for parsed in story.watched.parsed_records] == [True, False]
