"""Many held notifications in every order store: counted in SQL, and listed page by page to the last."""

import time as clock

from msgspec import structs

from schemas.dispositions import Disposition, Reason
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import parked
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from workers.admin import cursors
from workers.processing import Processing
from workers.queries import HeldPlace, HeldQuery, OrderPlace

MANY = 5000
BATCH = 500


async def hold(work: Processing, count: int, time: Time | None = None) -> None:
    """Hold so many notifications, each of an order of its own; with a clock, in batches of later moments."""
    for first in range(0, count, BATCH):
        records = [parked(f"P{number}") for number in range(first, min(first + BATCH, count))]
        await work.process(log_records.logged(records, first=first + 1))
        if time is not None:
            time.now_ms += 1000


async def test_five_thousand_held_notifications_are_counted_and_listed_to_the_last(
    work: Processing, store: AnyStore, time: Time
) -> None:
    await hold(work, MANY, time)
    started = clock.perf_counter()
    (group,) = await store.held_groups(HeldQuery(limit=1))
    assert clock.perf_counter() - started < 5
    assert (group.count, group.disposition, group.reason) == (MANY, Disposition.PARKED, Reason.UNKNOWN_ORDER)
    assert (group.account, group.oldest_ms) == (REGISTERED.name, NOW_MS)
    query, seen = HeldQuery(limit=700), []
    while pages := await store.held_list(query):
        seen += [page.row.id for page in pages]
        last = pages[-1].row
        query = structs.replace(query, after=HeldPlace(first_at_ms=last.first_at_ms, position=last.position))
    assert seen == [f"0-{offset}" for offset in range(1, MANY + 1)]
    page = await store.held_page(seen[-1])
    assert page is not None
    assert page.row.order == f"P{MANY - 1}"


async def test_counts_follow_the_filter(work: Processing, store: AnyStore, time: Time) -> None:
    await hold(work, 600, time)
    await work.process(log_records.logged([log_records.sealed(b"no form at all", "X")], first=601))

    async def count(query: HeldQuery) -> int:
        return sum(group.count for group in await store.held_groups(query))

    assert await count(HeldQuery()) == 601
    assert await count(HeldQuery(disposition=Disposition.DEAD)) == 1
    assert await count(HeldQuery(account=REGISTERED.name)) == 600
    assert await count(HeldQuery(order="P7")) == 1
    assert await count(HeldQuery(before_ms=NOW_MS + 1000)) == BATCH
    assert await count(HeldQuery(since_ms=NOW_MS + 1000)) == 101
    assert await count(HeldQuery(resolved=True)) == 0


async def test_orders_of_one_moment_are_listed_page_by_page(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(5)]))
    seen: list[str] = []
    after: OrderPlace | None = None
    while pages := await store.recent(2, after):
        seen += [page.number for page in pages]
        last = pages[-1]
        after = OrderPlace(changed_at_ms=last.changed_at_ms, number=last.number, account=last.account)
        assert cursors.after_order(last)
    assert sorted(seen) == [f"N{number}" for number in range(5)]
