"""Snoozed held notifications, and refunds outside, on every order store."""

import pytest
from msgspec import structs

from deploy.embedded.snoozes import SqliteSnoozes
from deploy.embedded.store import SqliteOrderStore
from schemas import times
from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.orders import Status
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import parked, register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Operator, Time
from workers.postgres.snoozes import PostgresSnoozes
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.queries import HeldCount, HeldQuery, Snooze
from workers.replays import NewTask
from workers.settlement.verdicts import DecisionRefused
from workers.snoozes import SnoozesPort, until_and_why

HOUR_MS = 3_600_000


@pytest.fixture
def snoozes(store: AnyStore) -> SnoozesPort:
    if isinstance(store, SqliteOrderStore):
        return SqliteSnoozes(store.database)
    assert isinstance(store, PostgresOrderStore)
    return PostgresSnoozes(store.database)


async def hold(work: Processing, *orders: str) -> None:
    await work.process(log_records.logged([parked(order) for order in orders]))


async def listed(store: AnyStore, query: HeldQuery) -> list[str]:
    pages = await store.held_list(query)
    assert sum(group.count for group in await store.held_groups(query)) == len(pages)
    return [page.row.order for page in pages]


async def test_snoozed_row_leaves_list_and_gauges_and_comes_back_by_itself(
    work: Processing, store: AnyStore, snoozes: SnoozesPort, time: Time
) -> None:
    await hold(work, "P1")
    time.now_ms += 1000
    await work.process(log_records.logged([parked("P2"), parked("P3")], first=2))
    until_ms = time.now_ms + HOUR_MS
    snooze = Snooze(until_ms=until_ms, by="kim", why="the shop is asked")
    assert await snoozes.snooze("0-1", snooze, now_ms=time.now_ms)
    awake, asleep = HeldQuery(awake_at_ms=time.now_ms), HeldQuery(snoozed_at_ms=time.now_ms)
    for query in (awake, structs.replace(awake, reason=Reason.UNKNOWN_ORDER), structs.replace(awake, since_ms=0)):
        assert await listed(store, query) == ["P2", "P3"]
        (group,) = await store.held_groups(query)
        assert group.oldest_ms == NOW_MS + 1000
    assert await listed(store, asleep) == ["P1"]
    assert await listed(store, HeldQuery()) == ["P1", "P2", "P3"], "money at risk counts it"
    gauge = HeldCount(disposition=Disposition.PARKED, count=2, oldest_ms=NOW_MS + 1000)
    assert (await store.counts()).held == (gauge,)
    (page,) = await store.held_list(asleep)
    assert page.snooze == snooze
    time.now_ms = until_ms
    assert await listed(store, HeldQuery(awake_at_ms=time.now_ms)) == ["P1", "P2", "P3"]
    assert (await store.counts()).held == (structs.replace(gauge, count=3, oldest_ms=NOW_MS),)


@pytest.mark.parametrize("filter_", [HeldQuery(), HeldQuery(reason=Reason.UNKNOWN_ORDER, since_ms=0)])
async def test_task_over_all_that_match_leaves_snoozed_rows_out_unless_they_are_named(
    work: Processing, store: AnyStore, snoozes: SnoozesPort, time: Time, filter_: HeldQuery
) -> None:
    await hold(work, "P1", "P2", "P3")
    snooze = Snooze(until_ms=time.now_ms + HOUR_MS, by="kim", why="the shop is asked")
    assert await snoozes.snooze("0-2", snooze, now_ms=time.now_ms)

    async def rows_of(query: HeldQuery) -> tuple[int, list[str]]:
        new = NewTask(query=structs.replace(query, before_ms=time.now_ms + 1), rate=20, by="ana", why="registered")
        started = await store.start_replay(new, now_ms=time.now_ms)
        kept = await store.replay(started.number)
        assert kept is not None
        return started.total, await listed(store, structs.replace(kept.query, after=None))

    assert await rows_of(filter_) == (2, ["P1", "P3"])
    assert await rows_of(HeldQuery(ids=("0-1", "0-2"))) == (2, ["P1", "P2"])
    time.now_ms += HOUR_MS
    assert await rows_of(filter_) == (3, ["P1", "P2", "P3"]), "the snooze is over"


async def test_snooze_and_its_end_are_among_the_acts_on_the_order(
    work: Processing, store: AnyStore, snoozes: SnoozesPort, time: Time
) -> None:
    await hold(work, "P1", "P2")
    until_ms = NOW_MS + HOUR_MS
    given = Snooze(until_ms=until_ms, by="kim", why="the shop is asked")
    assert await snoozes.snooze("0-1", given, now_ms=NOW_MS)
    assert await snoozes.snooze("0-2", given, now_ms=NOW_MS)
    await store.note_replay(["0-1"], by="ana", why="perhaps now", now_ms=NOW_MS + 1)
    assert await snoozes.snooze("0-1", Snooze(until_ms=NOW_MS + 2, by="ana", why="answered"), now_ms=NOW_MS + 2)
    page = await store.order_page(REGISTERED.name, "P1")
    assert page is not None
    told = [(act.action, act.subject, act.by, act.at_ms - NOW_MS) for act in page.acts]
    assert told == [("snooze", "0-1", "kim", 0), ("replay", "0-1", "ana", 1), ("unsnooze", "0-1", "ana", 2)]
    first, *_, last = page.acts
    assert until_and_why(first.why) == (times.from_epoch_ms(until_ms), "the shop is asked")
    assert last.why == "answered"
    time.now_ms = until_ms


async def test_snooze_is_ended_and_of_no_resolved_row(
    work: Processing, store: AnyStore, snoozes: SnoozesPort, time: Time
) -> None:
    await hold(work, "P1")
    snooze = Snooze(until_ms=NOW_MS + HOUR_MS, by="kim", why="asked")
    assert await snoozes.snooze("0-1", snooze, now_ms=NOW_MS)
    assert (await store.counts()).held == ()
    assert await store.held_groups(HeldQuery(awake_at_ms=NOW_MS)) == []
    assert await snoozes.snooze("0-1", structs.replace(snooze, until_ms=NOW_MS, why="answered"), now_ms=NOW_MS)
    assert await listed(store, HeldQuery(awake_at_ms=NOW_MS)) == ["P1"]
    assert await snoozes.snooze("0-1", snooze, now_ms=NOW_MS)
    await Operator(store, time).discard("0-1")
    for id_ in ("0-1", "0-9", "x"):
        assert not await snoozes.snooze(id_, snooze, now_ms=NOW_MS)


async def test_snoozed_row_is_back_when_it_is_held_for_another_reason(
    work: Processing, store: AnyStore, snoozes: SnoozesPort, time: Time
) -> None:
    await hold(work, "P1", "P2")
    for id_ in ("0-1", "0-2"):
        assert await snoozes.snooze(id_, Snooze(until_ms=NOW_MS + 10 * HOUR_MS, by="kim", why="asked"), now_ms=NOW_MS)
    await register(store, "P1", minor=9900)
    time.now_ms += HOUR_MS
    await work.retry([page.row for page in await store.held_list(HeldQuery())])
    assert await listed(store, HeldQuery(awake_at_ms=time.now_ms)) == ["P1"]
    (page,) = await store.held_list(HeldQuery(awake_at_ms=time.now_ms))
    assert (page.row.reason, page.snooze) == (Reason.AMOUNT_MISMATCH, None)
    time.now_ms += 10 * HOUR_MS  # the other one is back by itself


async def test_refund_outside_ends_a_mismatch_and_is_on_the_order_and_in_the_audit(
    work: Processing, store: AnyStore, time: Time
) -> None:
    await register(store, "P1", minor=9900)
    await hold(work, "P1")
    operator = Operator(store, time)
    page = await operator.page("0-1")
    assert page.row.reason is Reason.AMOUNT_MISMATCH
    for wrong in ("12.81", "99.00", "0.00", "12.8", "-12.80", "x", ""):
        with pytest.raises(DecisionRefused):
            await operator.decisions.refund_outside(page, wrong, by="kim", why="wrong price")
    await operator.decisions.refund_outside(page, "12.80", by="kim", why="wrong price")
    page = await operator.page("0-1")
    assert (page.resolution, page.by, page.why) == ("refunded_outside", "kim", "wrong price")
    with pytest.raises(DecisionRefused, match="already resolved"):
        await operator.decisions.refund_outside(page, "12.80", by="kim", why="again")
    order = await store.order_page(REGISTERED.name, "P1")
    assert order is not None
    assert order.view is not None
    assert (order.view.status, order.view.flags) == (Status.WAITING, ())
    (decision,) = order.decisions
    assert (decision.action, decision.amount, decision.by) == ("refund_outside", Money(1280, "USD"), "kim")


async def test_payment_of_an_unknown_order_is_refunded_outside(work: Processing, store: AnyStore, time: Time) -> None:
    await hold(work, "P1")
    operator = Operator(store, time)
    await operator.decisions.refund_outside(await operator.page("0-1"), "12.80", by="kim", why="no such order")
    order = await store.order_page(REGISTERED.name, "P1")
    assert order is not None
    assert [(each.action, each.amount) for each in order.decisions] == [("refund_outside", Money(1280, "USD"))]
    assert await store.held_list(HeldQuery()) == []


async def test_what_reports_no_money_is_not_refunded(work: Processing, store: AnyStore, time: Time) -> None:
    record = log_records.record("P1", "WAIT_BUYER_PAY", account=REGISTERED)
    await work.process(log_records.logged([record]))
    operator = Operator(store, time)
    with pytest.raises(DecisionRefused, match="was not made"):
        await operator.decisions.refund_outside(await operator.page("0-1"), "12.80", by="kim", why="a test")
