"""The deliveries of callbacks in the order store of each engine."""

from collections.abc import Sequence

import pytest
from msgspec import structs

from deploy.embedded.callbacks import SqliteCallbacks
from deploy.embedded.store import SqliteOrderStore
from schemas.times import HOUR_MS
from tests.contract.engines import AnyStore
from tests.support import log_records
from tests.support.log_records import NOW_MS
from workers.callbacks import deliveries, schedule
from workers.callbacks.deliveries import (
    ALL_KEPT_MS,
    FINISHED_KEPT_MS,
    CallbackDelivery,
    DeliveriesPort,
    DeliveryQuery,
    DueDelivery,
    Step,
)
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.schedule import GIVE_UP_MS, AttemptResult, CallbackAnswer, CallbackOutcome, DeliveryState
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing

SHOP = Endpoint(name="shop", url="https://shop.example/callbacks", secrets=(b"x" * 24,))
OTHER = structs.replace(SHOP, name="other")
REFUSED_EVENTS = 2500  # more than may be due at once
STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
DELIVERED = CallbackAnswer(outcome=CallbackOutcome.DELIVERED, status=204)
REFUSED = CallbackAnswer(outcome=CallbackOutcome.REFUSED, status=500, detail="it answered 500")


@pytest.fixture
def callbacks(store: AnyStore) -> DeliveriesPort:
    if isinstance(store, SqliteOrderStore):
        return SqliteCallbacks(store.database, store.reads)
    assert isinstance(store, PostgresOrderStore)
    return PostgresCallbacks(store.database, store.reads)


class Orders:
    """Writes orders, of which each notification makes one event."""

    def __init__(self, work: Processing) -> None:
        self._work = work
        self._records = 0

    async def pay(self, *numbers: str, statuses: Sequence[str] = STATUSES) -> None:
        records = [log_records.record(number, status) for number in numbers for status in statuses]
        await self._work.process(log_records.logged(records, first=self._records + 1))
        self._records += len(records)


@pytest.fixture
def orders(work: Processing) -> Orders:
    return Orders(work)


async def step(
    callbacks: DeliveriesPort,
    *results: AttemptResult,
    endpoint: Endpoint = SHOP,
    busy: Sequence[bytes] = (),
    limit: int = 100,
    now_ms: int = NOW_MS,
    is_recovering: bool = False,
) -> Step:
    return await callbacks.step(endpoint, results, busy=busy, limit=limit, now_ms=now_ms, is_recovering=is_recovering)


def ids(found: Step) -> list[str]:
    return [due.event.id for due in found.due]


def result(due: DueDelivery, answer: CallbackAnswer = DELIVERED, now_ms: int = NOW_MS) -> AttemptResult:
    return schedule.result(
        answer,
        number=due.number,
        event_id=due.event.id,
        key=due.event.key,
        attempts=due.attempts + 1,
        first_at_ms=due.first_at_ms,
        began_ms=now_ms,
        now_ms=now_ms,
        random=lambda: 0.5,
    )


async def log(callbacks: DeliveriesPort, **query: object) -> list[CallbackDelivery]:
    return list(await callbacks.deliveries(DeliveryQuery(endpoint="shop", **query)))  # type: ignore[arg-type]


async def test_events_of_an_order_are_due_one_after_the_other(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1", "N2")
    first = await step(callbacks)
    assert ids(first) == ["shop-sg:N1:1", "shop-sg:N2:1"]
    assert ids(await step(callbacks)) == ids(first)  # nothing is lost if the sender dies now
    assert ids(await step(callbacks, busy=[first.due[0].event.key])) == ["shop-sg:N2:1"]
    second = await step(callbacks, result(first.due[1]), busy=[first.due[0].event.key])
    assert ids(second) == ["shop-sg:N2:2"]
    third = await step(callbacks, result(second.due[0]), result(first.due[0]))
    assert ids(third) == ["shop-sg:N2:3", "shop-sg:N1:2"] or ids(third) == ["shop-sg:N1:2", "shop-sg:N2:3"]
    assert ids(await step(callbacks, limit=1)) == ids(third)[:1]


async def test_results_written_twice_change_nothing(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1")
    (due,) = (await step(callbacks)).due
    assert ids(await step(callbacks, result(due))) == ["shop-sg:N1:2"]
    assert ids(await step(callbacks, result(due, REFUSED))) == ["shop-sg:N1:2"]
    assert [(each.state, each.attempts) for each in await log(callbacks)] == [
        (DeliveryState.PENDING, 0),
        (DeliveryState.PENDING, 0),
        (DeliveryState.DELIVERED, 1),
    ]


async def test_failed_event_waits_and_the_later_ones_of_its_order_behind_it(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1")
    (due,) = (await step(callbacks)).due
    assert ids(await step(callbacks, result(due, REFUSED))) == []
    await orders.pay("N2", statuses=["TRADE_SUCCESS"])
    assert ids(await step(callbacks)) == ["shop-sg:N2:1"]
    again = await step(callbacks, now_ms=NOW_MS + 5_000, busy=[b"shop-sg:N2"])
    assert [(due.event.id, due.attempts, due.first_at_ms) for due in again.due] == [("shop-sg:N1:1", 1, NOW_MS)]
    much_later = result(again.due[0], REFUSED, now_ms=NOW_MS + GIVE_UP_MS)
    much_later = structs.replace(much_later, attempts=schedule.attempts_min(SHOP.disable_after_ms))
    after = await step(callbacks, much_later, now_ms=NOW_MS + 6_000, busy=[b"shop-sg:N2"])
    assert after.is_disabled_now  # it has taken nothing for days


async def test_event_that_is_given_up_lets_the_next_of_its_order_go(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1")
    (due,) = (await step(callbacks)).due
    given_up = structs.replace(result(due, REFUSED), state=DeliveryState.GIVEN_UP, due_ms=0)
    assert ids(await step(callbacks, given_up)) == ["shop-sg:N1:2"]
    assert [each.event_id for each in await log(callbacks, state=DeliveryState.GIVEN_UP)] == ["shop-sg:N1:1"]


async def test_each_endpoint_gets_what_it_wants_from_its_first_moment_on(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await orders.pay("N0", statuses=["TRADE_SUCCESS"])
    paid_only = structs.replace(OTHER, types=frozenset({"order.paid"}))
    await callbacks.configure([SHOP, paid_only], now_ms=NOW_MS)
    await orders.pay("N1")
    assert ids(await step(callbacks)) == ["shop-sg:N1:1"]
    assert ids(await step(callbacks, endpoint=paid_only)) == ["shop-sg:N1:2"]
    nobodys = structs.replace(OTHER, name="nobody")
    assert await step(callbacks, endpoint=nobodys) == Step()
    assert [(page.name, page.pending) for page in await callbacks.endpoints()] == [("other", 1), ("shop", 3)]
    assert await callbacks.configure([SHOP], now_ms=NOW_MS) == ["other"]
    assert await callbacks.configure([SHOP], now_ms=NOW_MS) == []
    pages = await callbacks.endpoints()
    assert [page.is_configured for page in pages] == [False, True]
    assert [await callbacks.endpoint(name) for name in ("other", "shop", "nobody")] == [*pages, None]


async def test_gone_endpoint_is_disabled_and_goes_on_when_it_is_enabled(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1", statuses=["TRADE_SUCCESS"])
    (due,) = (await step(callbacks)).due
    gone = await step(callbacks, result(due, CallbackAnswer(outcome=CallbackOutcome.GONE, status=410)))
    assert gone.is_disabled_now
    assert gone.state.disabled_why == schedule.GONE
    await orders.pay("N2", statuses=["TRADE_SUCCESS"])
    later = await step(callbacks, now_ms=NOW_MS + HOUR_MS)
    assert (ids(later), later.is_disabled_now, later.state.is_disabled) == ([], False, True)
    (page,) = await callbacks.endpoints()
    assert (page.pending, page.oldest_ms is not None) == (1, True)
    assert await callbacks.enable("shop", by="tests", why="mended", now_ms=NOW_MS)
    assert ids(await step(callbacks)) == ["shop-sg:N1:1", "shop-sg:N2:1"]
    assert [due.attempts for due in (await step(callbacks)).due] == [0, 0]
    assert not await callbacks.enable("nobody", by="tests", why="", now_ms=NOW_MS)


async def test_disabled_by_hand_it_gets_nothing(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    assert await callbacks.disable("shop", by="tests", why="it moves", now_ms=NOW_MS)
    assert not await callbacks.disable("shop", by="tests", why="it moves", now_ms=NOW_MS)
    await orders.pay("N1")
    assert (await step(callbacks)).due == ()
    assert (await callbacks.endpoints())[0].state.disabled_why == "tests: it moves"
    assert await log(callbacks) == []  # the events stay in the outbox alone


async def test_everything_is_due_when_an_endpoint_answers_after_an_outage(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1", "N2", statuses=["TRADE_SUCCESS"])
    first, second = (await step(callbacks)).due
    failed = await step(callbacks, result(first, REFUSED), result(second, REFUSED))
    assert ids(failed) == []
    later = NOW_MS + schedule.OUTAGE_MS
    await orders.pay("N3", statuses=["TRADE_SUCCESS"])
    *_, third = (await step(callbacks, now_ms=later)).due
    again = (await step(callbacks, now_ms=later)).due[0]
    await step(callbacks, result(again, REFUSED, later), now_ms=later)
    due = await step(callbacks, result(third, DELIVERED, later), now_ms=later)
    assert sorted(ids(due)) == ["shop-sg:N1:1", "shop-sg:N2:1"]


async def test_more_rows_than_one_step_makes_due_follow_in_the_next_ones(
    callbacks: DeliveriesPort, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "ALL_DUE_MAX", 2)
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay(*(f"N{number}" for number in range(5)), statuses=["TRADE_SUCCESS"])
    first, *others = (await step(callbacks)).due
    await step(callbacks, *(result(each, REFUSED) for each in others))
    await step(callbacks, result(first, REFUSED))
    later = NOW_MS + schedule.OUTAGE_MS
    again = (await step(callbacks, now_ms=later)).due
    await step(callbacks, *(result(each, REFUSED, later) for each in again[1:]), now_ms=later)
    found = await step(callbacks, result(again[0], DELIVERED, later), limit=0, now_ms=later)
    counts = [len(found.due)]
    for _ in range(3):
        found = await step(callbacks, now_ms=later, is_recovering=found.is_recovering)
        counts.append(len(found.due))
    assert (counts, found.is_recovering) == ([0, 4, 4, 4], False)


async def test_enabled_endpoint_begins_anew_with_rows_of_many_slices(
    callbacks: DeliveriesPort, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "BEGIN_ANEW_MAX", 2)
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay(*(f"N{number}" for number in range(5)), statuses=["TRADE_SUCCESS"])
    await step(callbacks, *(result(each, REFUSED) for each in (await step(callbacks)).due))
    assert await callbacks.disable("shop", by="tests", why="it moves", now_ms=NOW_MS)
    assert await callbacks.enable("shop", by="tests", why="moved", now_ms=NOW_MS)
    assert [row.attempts for row in await log(callbacks)] == [0] * 5
    assert len((await step(callbacks)).due) == 5
    assert not await callbacks.enable("nobody", by="tests", why="moved", now_ms=NOW_MS)


async def test_endpoint_shows_what_waits_and_whether_one_is_configured(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    assert await callbacks.has_configured()
    await orders.pay("N1", "N2", statuses=["TRADE_SUCCESS"])
    await step(callbacks)
    (page,) = await callbacks.endpoints()
    assert (page.pending, page.oldest_ms is not None) == (2, True)
    await callbacks.configure([], now_ms=NOW_MS)
    assert not await callbacks.has_configured()


async def test_thousands_of_refused_events_keep_no_other_back(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    for first in range(0, REFUSED_EVENTS, 500):
        await orders.pay(*(f"N{number}" for number in range(first, first + 500)), statuses=STATUSES[:1])
    found, refused = await step(callbacks, limit=1000), 0
    while found.due or found.is_more:
        refused += len(found.due)
        found = await step(callbacks, *(result(due, REFUSED) for due in found.due), limit=1000)
    assert refused == REFUSED_EVENTS
    await orders.pay("M1", statuses=STATUSES[:1])
    assert ids(await step(callbacks)) == ["shop-sg:M1:1"]


async def test_resend_sends_the_events_of_an_order_again_in_version_order(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await orders.pay("N0")
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    more = {"by": "tests", "why": "lost", "now_ms": NOW_MS}
    of_order = {"number": None, "scope": "shop-sg", "order": "N0"}
    assert await callbacks.resend("shop", **of_order, version=None, **more) == 3  # type: ignore[arg-type]
    assert await callbacks.resend("nobody", **of_order, version=None, **more) is None  # type: ignore[arg-type]
    for version in (1, 2, 3):
        (due,) = (await step(callbacks)).due
        assert due.event.id == f"shop-sg:N0:{version}"
        await step(callbacks, result(due))
    assert await callbacks.resend("shop", **of_order, version=2, **more) == 1  # type: ignore[arg-type]
    (due,) = (await step(callbacks)).due
    assert (due.event.id, due.attempts) == ("shop-sg:N0:2", 0)
    assert await callbacks.resend("shop", **(of_order | {"number": due.number - 1}), version=None, **more) == 1  # type: ignore[arg-type]
    assert ids(await step(callbacks)) == ["shop-sg:N0:1"]
    assert await callbacks.resend("shop", **(of_order | {"order": "N9"}), version=None, **more) == 0  # type: ignore[arg-type]


async def test_event_that_was_resent_meanwhile_does_not_overtake(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1")
    (first,) = (await step(callbacks)).due
    (second,) = (await step(callbacks, result(first))).due
    assert await callbacks.resend(
        "shop", number=first.number, scope="", order="", version=None, by="tests", why="", now_ms=NOW_MS
    )
    after = await step(callbacks, result(second, REFUSED))
    assert ids(after) == ["shop-sg:N1:1"]
    assert ids(await step(callbacks, now_ms=NOW_MS + HOUR_MS)) == ["shop-sg:N1:1"]


async def test_log_filters_by_state_and_order_and_goes_on_page_by_page(
    callbacks: DeliveriesPort, orders: Orders
) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1", "N2")
    due, _ = (await step(callbacks)).due
    await step(callbacks, result(due))
    assert len(await log(callbacks)) == 6
    assert [each.event_id for each in await log(callbacks, state=DeliveryState.DELIVERED)] == ["shop-sg:N1:1"]
    of_order = await log(callbacks, order="shop-sg:N2")
    assert [each.event_id for each in of_order] == [f"shop-sg:N2:{version}" for version in (3, 2, 1)]
    newest = await log(callbacks, limit=2)
    assert [each.number for each in await log(callbacks, before=newest[-1].number)] == [4, 3, 2, 1]
    delivered = (await log(callbacks, state=DeliveryState.DELIVERED))[0]
    assert (delivered.type, delivered.attempts, delivered.status, delivered.outcome, delivered.due_ms) == (
        "order.waiting", 1, 204, CallbackOutcome.DELIVERED, None,
    )  # fmt: skip


async def test_rows_are_deleted_when_they_are_old(callbacks: DeliveriesPort, orders: Orders) -> None:
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await orders.pay("N1")
    (due,) = (await step(callbacks)).due
    await step(callbacks, result(due))
    assert await callbacks.prune(now_ms=NOW_MS + FINISHED_KEPT_MS) == 0
    assert await callbacks.prune(now_ms=NOW_MS + FINISHED_KEPT_MS + 1) == 1
    assert len(await log(callbacks)) == 2
    assert await callbacks.prune(now_ms=NOW_MS + ALL_KEPT_MS + HOUR_MS) == 2
    assert await log(callbacks) == []
