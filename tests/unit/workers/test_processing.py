"""Batches: a record's own failure holds only that record; an infrastructure error holds nothing."""

import asyncio
from typing import Any

import pytest
from msgspec import structs

from schemas import interpret, topics
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.notification import Notification, Unreadable
from schemas.orders import Status
from schemas.record_format import Header, Record, RecordContents
from tests.support import facts
from tests.support.facts import form
from tests.unit.workers.in_memory import APPLIED, FORGED, SHOP, Forged, MemoryWorker, Weird, paid, with_header
from workers.errors import InfrastructureDown, RowsLocked, TooManyDeadLetters, VersionConflict
from workers.settlement import order_view
from workers.settlement.plan import Decide, LoadRequest, Position, Registration, WritePlan


async def test_batch_is_applied_in_one_transaction_and_its_events_are_sent_once() -> None:
    worker = MemoryWorker()
    await worker.process(*(paid(order) for order in "ABC"))
    assert worker.outcomes() == [APPLIED] * 3
    assert len(worker.store.settled_batches) == 1
    assert await worker.processing.emit() == 3
    assert await worker.processing.emit() == 0
    assert [event.id for event in worker.published.events] == ["mapi-any:A:1", "mapi-any:B:1", "mapi-any:C:1"]
    assert worker.observer.emitted_ids == [event.id for event in worker.published.events]


async def test_events_stay_in_the_outbox_while_the_topic_is_away() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A"))
    worker.published.down = True
    with pytest.raises(InfrastructureDown):
        await worker.processing.emit()
    worker.published.down = False
    assert await worker.processing.emit() == 1


async def test_redelivered_batch_changes_nothing() -> None:
    worker = MemoryWorker()
    batch = [worker.log.log_record(paid(order)) for order in "AB"]
    await worker.processing.process(batch)
    await worker.processing.process(batch)
    assert worker.outcomes() == [APPLIED] * 2
    assert len(worker.store.outbox) == 2


async def test_record_that_the_store_refuses_is_held_and_its_neighbours_are_applied() -> None:
    worker = MemoryWorker(refuses=lambda plan: any(row.order == "E" for row in plan.ledger))
    await worker.process(*(paid(order) for order in "ABCDEFGH"))
    ends = worker.outcomes()
    assert ends.pop(4) == (Disposition.DEAD, Reason.OUR_FAULT)
    assert ends == [APPLIED] * 7
    row = worker.held(4)
    assert (row.order, row.notification_id, row.record) == ("E", "id-E", paid("E"))
    assert row.detail.startswith("RecordRefused, traceback ")
    (notice,) = (dict(event.headers) for event in worker.store.outbox if event.topic == topics.HELD)
    assert (notice["held-step"], notice["held-error-class"]) == (b"decide", b"RecordRefused")


async def test_store_that_refuses_even_the_dead_letter_counts_as_infrastructure() -> None:
    worker = MemoryWorker(refuses=lambda plan: True)
    with pytest.raises(InfrastructureDown):
        await worker.process(paid("A"))
    assert worker.outcomes() == []


@pytest.mark.parametrize("error", [InfrastructureDown("away"), VersionConflict("A"), asyncio.CancelledError()])
async def test_infrastructure_errors_pass_through_and_hold_nothing(error: BaseException) -> None:
    worker = MemoryWorker()
    worker.store.trouble = [error]
    batch = [worker.log.log_record(paid(order)) for order in "AB"]
    with pytest.raises(type(error)):
        await worker.processing.process(batch)
    assert (worker.outcomes(), worker.store.held) == ([], {})
    await worker.processing.process(batch)
    assert worker.outcomes() == [APPLIED] * 2


BAD_RECORD = Record(b"x", b"x", ())


async def test_twenty_bad_records_in_a_row_are_held_and_raise() -> None:
    worker = MemoryWorker()
    with pytest.raises(TooManyDeadLetters):
        await worker.process(*[BAD_RECORD] * 20)
    assert len(worker.store.held) == 20


async def test_twenty_exceptions_of_ours_in_a_row_are_held_and_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(body: bytes, account: Account, **read_as: bool) -> Notification:
        raise ValueError

    monkeypatch.setattr(interpret, "read", read)
    worker = MemoryWorker()
    with pytest.raises(TooManyDeadLetters):
        await worker.process(*(paid(f"A{number}") for number in range(20)))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.OUR_FAULT)] * 20


@pytest.mark.parametrize(
    ("record", "end"),
    [
        (facts.record(b"no form", SHOP), (Disposition.DEAD, Reason.MALFORMED)),
        (paid("A", subject=FORGED.decode()), (Disposition.DEAD, Reason.UNAUTHENTICATED)),
        (facts.record(b"no json", facts.account("antom")), (Disposition.QUARANTINED, Reason.MALFORMED)),
    ],
)
async def test_no_sender_stops_the_worker(record: Record, end: tuple[Disposition, Reason]) -> None:
    worker = MemoryWorker(dead_letters_max=2)
    for _ in range(3):
        await worker.process(record, record)
    assert worker.outcomes()[0] == end
    await worker.process(paid("B"))
    assert worker.outcomes()[-1] == APPLIED


async def test_bad_records_among_applied_ones_raise_nothing() -> None:
    worker = MemoryWorker(dead_letters_max=2)
    for order in "ABC":
        await worker.process(BAD_RECORD, paid(order))
    assert worker.outcomes() == [(Disposition.DEAD, Reason.BAD_RECORD), APPLIED] * 3


async def test_bad_records_in_a_row_are_counted_across_batches() -> None:
    worker = MemoryWorker(dead_letters_max=3)
    await worker.process(BAD_RECORD)
    await worker.process(BAD_RECORD)
    with pytest.raises(TooManyDeadLetters):
        await worker.process(BAD_RECORD)


@pytest.mark.parametrize("character", ["\x00", "\ud800"])
async def test_numbers_that_a_database_cannot_hold_are_filed_under_none(
    character: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(body: bytes, account: Account, **read_as: bool) -> Notification:
        raise Unreadable(Reason.BAD_TIME, f"K{character}", order=f"K{character}", notification_id=f"N{character}")

    monkeypatch.setattr(interpret, "read", read)
    worker = MemoryWorker()
    await worker.process(paid("A"))
    row = worker.held()
    assert (row.order, row.notification_id) == ("", "")
    assert row.detail == {"\x00": "K\\x00", "\ud800": "K\\ud800"}[character]


@pytest.mark.parametrize("error", [ValueError("v"), RecursionError(), asyncio.CancelledError(), Weird()])
async def test_any_exception_while_deciding_holds_only_that_record(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = order_view.view

    def view(order: Any) -> Any:
        if order.number == "B":
            raise error
        return honest(order)

    monkeypatch.setattr(order_view, "view", view)
    worker = MemoryWorker()
    await worker.process(*(paid(order) for order in "ABC"))
    assert worker.outcomes() == [APPLIED, (Disposition.DEAD, Reason.OUR_FAULT), APPLIED]
    assert worker.held(1).detail.startswith(f"{type(error).__name__}, traceback ")


async def test_same_record_twice_in_the_log_has_one_effect() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A"), paid("A"))
    await worker.process(paid("A"))
    assert [disposition for disposition, _ in worker.outcomes()] == [
        Disposition.APPLIED,
        Disposition.DUPLICATE,
        Disposition.DUPLICATE,
    ]
    assert worker.store.orders[SHOP.name, "A"].version == 1


async def test_replay_after_a_fix_applies_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = MemoryWorker()

    def read(body: bytes, account: Account, **read_as: bool) -> Notification:
        raise ValueError

    with monkeypatch.context() as broken:
        broken.setattr(interpret, "read", read)
        await worker.process(paid("A"))
    row = worker.held()
    assert row.disposition is Disposition.DEAD
    await worker.processing.retry([row])
    await worker.processing.retry([row])
    assert worker.outcomes() == [APPLIED]
    assert not worker.store.held
    assert order_view.view(worker.store.orders[SHOP.name, "A"]).status is Status.PAID


async def test_replay_that_fails_keeps_the_row_and_counts_the_attempt() -> None:
    worker = MemoryWorker()
    await worker.process(facts.record(b"no form", SHOP))
    await worker.processing.retry([worker.held()])
    assert (worker.held().attempts, worker.held().first_at_ms) == (1, 1_743_480_000_000)
    assert worker.outcomes() == [(Disposition.DEAD, Reason.MALFORMED)]
    assert len(worker.store.outbox) == 1


async def test_replay_applies_no_record_that_todays_keys_refuse() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A", total_fee="1e3"))
    row = worker.held()
    tampered = structs.replace(row, record=structs.replace(row.record, value=row.record.value + b"&x=" + FORGED))
    await worker.processing.retry([tampered])
    assert worker.outcomes() == [(Disposition.DEAD, Reason.UNAUTHENTICATED)]
    assert not worker.store.orders


async def test_replay_is_checked_anew_in_spite_of_a_receipt() -> None:
    asked: list[tuple[bytes, bool]] = []

    def once(contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
        asked.append((contents.receipt, anew))
        if anew:
            raise Forged
        return False

    worker = MemoryWorker(authenticate=once)
    await worker.process(with_header(paid("A", total_fee="1e3"), Header.RECEIPT, b"ours"))
    await worker.processing.retry([worker.held()])
    assert asked == [(b"ours", False), (b"ours", True)]
    assert worker.outcomes() == [(Disposition.DEAD, Reason.UNAUTHENTICATED)]
    assert dict(worker.held().record.headers)[Header.RECEIPT] == b"ours", "the record is kept as it was"


async def test_parked_record_is_applied_after_its_order_is_registered() -> None:
    worker = MemoryWorker()
    waiting = facts.account("mapi", "registered")
    await worker.process(facts.record(facts.body(form("p", "TRADE_SUCCESS")), waiting))
    assert worker.outcomes() == [(Disposition.PARKED, Reason.UNKNOWN_ORDER)]
    worker.store.register_now(waiting.name, "A", Registration(amounts=(Money(10000, "USD"),)), now_ms=0)
    await worker.processing.retry(worker.store.due_now(now_ms=0))
    assert worker.outcomes() == [APPLIED]


async def test_observer_gets_each_plan_with_its_parsed_records() -> None:
    worker = MemoryWorker()
    await worker.process(paid("A"), facts.record(b"no form", SHOP))
    assert [len(plan.deliveries) for plan in worker.observer.plans] == [2]
    assert [parsed.failure is None for parsed in worker.observer.parsed_records] == [True, False]


async def test_row_that_was_dead_while_its_key_was_away_is_applied_later_and_no_duplicate() -> None:
    signed = [True, False, True]

    def check(contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
        if not signed.pop(0):
            raise Forged
        return contents.confirmed

    worker = MemoryWorker(authenticate=check)
    registered = facts.account("mapi", "registered")
    fact = form("w", "TRADE_SUCCESS", order="W")
    await worker.process(facts.record(facts.body(fact), registered, number="W"))
    await worker.processing.retry([worker.held()])
    row = worker.held()
    assert (row.disposition, row.order, row.notification_id) == (Disposition.DEAD, "W", "w")
    await worker.processing.retry([row])
    assert worker.outcomes() == [(Disposition.PARKED, Reason.UNKNOWN_ORDER)]


# Rows that another session of the database has locked

LOCKED = (Disposition.PARKED, Reason.LOCKED)


async def locked_worker() -> MemoryWorker:
    """A worker with the paid orders A and B; another session has locked A."""
    worker = MemoryWorker()
    await worker.process(paid("A"), paid("B"))
    worker.store.locked = {("mapi-any", "A")}
    return worker


def finished(order: str) -> Record:
    fact = form(f"f-{order}", "TRADE_FINISHED", order=order, trade=f"T-{order}")
    return facts.record(facts.body(fact), SHOP, number=order)


async def test_notification_of_a_locked_order_is_parked_and_the_others_are_applied() -> None:
    worker = await locked_worker()
    batches = len(worker.store.settled_batches)
    await worker.process(finished("A"), finished("B"), paid("C"))
    assert worker.outcomes()[2:] == [LOCKED, APPLIED, APPLIED]
    assert len(worker.store.settled_batches) == batches + 1, "all in one transaction"


async def test_notifications_of_a_locked_order_are_later_applied_in_their_order() -> None:
    worker = await locked_worker()
    refund = form("r-A", "TRADE_SUCCESS", order="A", trade="T-A", refund_fee="1.00", gmt_refund="2025-04-01 12:00:00")
    await worker.process(facts.record(facts.body(refund), SHOP, number="A"), finished("A"), finished("B"))
    assert worker.outcomes()[2:] == [LOCKED, LOCKED, APPLIED]
    rows = list(worker.store.held.values())
    assert len({row.due_at_ms for row in rows}) == 1, "they come due together"
    worker.store.locked.clear()
    await worker.processing.retry(sorted(rows, key=lambda row: row.position))
    assert worker.outcomes()[2:] == [APPLIED] * 3
    assert [event.id for event in worker.store.outbox if event.id.startswith("mapi-any:A:")] == [
        f"mapi-any:A:{version}" for version in (1, 2, 3)
    ]


async def test_retry_of_a_still_locked_order_counts_no_attempt() -> None:
    worker = await locked_worker()
    await worker.process(finished("A"))
    for _ in range(3):
        await worker.processing.retry([worker.held(2)])
        assert (worker.held(2).reason, worker.held(2).attempts) == (Reason.LOCKED, 0)
    assert len([event for event in worker.store.outbox if event.id.startswith("held:")]) == 1, "announced once"


async def test_new_order_does_not_wait_for_a_locked_one() -> None:
    worker = await locked_worker()
    await worker.process(finished("A"))
    settle, asked = worker.store.settle, []

    async def noting(needs: LoadRequest, decide: Decide) -> WritePlan:
        asked.append(needs.around_locks)
        return await settle(needs, decide)

    worker.store.settle = noting  # type: ignore[method-assign]
    await worker.process(finished("A"), paid("C"))
    assert asked == [True], "the lock was met lately, so that no batch waits for it first"


async def test_record_that_meets_another_lock_is_found_and_parked_alone() -> None:
    worker = MemoryWorker()
    worker.store.inserting = {("mapi-any", "id-D")}
    await worker.process(*(paid(order) for order in "ABCDEFG"))
    assert worker.outcomes() == [APPLIED] * 3 + [LOCKED] + [APPLIED] * 3
    row = worker.held(3)
    assert (row.order, row.notification_id) == ("D", "id-D")
    worker.store.inserting.clear()
    await worker.processing.retry([row])
    assert worker.outcomes() == [APPLIED] * 7


async def test_retry_of_a_locked_held_row_leaves_it_and_retries_the_others() -> None:
    worker = await locked_worker()
    await worker.process(finished("A"))
    worker.store.locked = {("mapi-any", "B")}
    await worker.process(finished("B"))
    worker.store.locked.clear()
    worker.store.locked_held = {Position(0, 2)}
    with pytest.raises(RowsLocked):
        await worker.processing.retry([worker.held(2), worker.held(3)])
    assert worker.outcomes()[2:] == [LOCKED, APPLIED]
    worker.store.locked_held.clear()
    await worker.processing.retry([worker.held(2)])
    assert worker.outcomes()[2:] == [APPLIED, APPLIED]


async def test_locked_table_keeps_the_batch_waiting_and_holds_nothing() -> None:
    worker = await locked_worker()
    worker.store.is_down = True  # as the store reports a table that it cannot lock
    with pytest.raises(InfrastructureDown):
        await worker.process(finished("A"), finished("B"))
    worker.store.is_down = False
    assert worker.store.held == {}
