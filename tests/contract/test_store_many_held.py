"""Many held notifications in every order store: listed page by page, their counts kept, no batch behind operators."""

import asyncio
import time as clock

import pytest
from msgspec import structs

from deploy.embedded.store import SqliteOrderStore
from schemas.dispositions import Disposition, Reason
from tests.contract.engines import AnyStore
from tests.contract.held_counts import check_held_counts
from tests.contract.several_workers import Opener
from tests.contract.shortcuts import parked
from tests.support import bulk, log_records
from tests.support.bulk import HeldKind
from tests.support.log_records import NOW_MS, REGISTERED, Time
from workers.errors import ReadTooSlow
from workers.postgres.database import SqlConnection
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.queries import HeldPlace, HeldQuery, OrderQuery
from workers.settlement.plan import Position

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
    listed = await store.order_list(OrderQuery(limit=2))
    while listed.pages:
        seen += [page.number for page in listed.pages]
        listed = await store.order_list(OrderQuery(limit=2, after=listed.next_))
        if listed.next_ is None:
            seen += [page.number for page in listed.pages]
            break
    assert sorted(seen) == [f"N{number}" for number in range(5)]


async def test_reason_of_several_dispositions_is_listed_by_age(work: Processing, store: AnyStore, time: Time) -> None:
    """As an unknown order is parked for a day, and then quarantined."""
    kinds = [HeldKind("shop-reg", disposition, "unknown_order") for disposition in ("parked", "quarantined")]
    await bulk.add(store, "held", (bulk.held_row(n, kinds[n % 2], NOW_MS + n // 3, order=f"P{n}") for n in range(30)))
    query, seen = HeldQuery(reason=Reason.UNKNOWN_ORDER, limit=7), []
    while pages := await store.held_list(query):
        seen += [page.row.position.offset for page in pages]
        last = pages[-1].row
        query = structs.replace(query, after=HeldPlace(first_at_ms=last.first_at_ms, position=last.position))
    assert seen == list(range(30))
    newest = await store.held_list(HeldQuery(reason=Reason.UNKNOWN_ORDER, newest_first=True, limit=7))
    assert [page.row.position.offset for page in newest] == list(range(29, 22, -1))


async def test_span_of_time_is_listed_and_counted_by_each_filter(store: AnyStore) -> None:
    kind = HeldKind("isv/2088", "quarantined", "bad_amount")
    await bulk.add(store, "held", (bulk.held_row(n, kind, NOW_MS + n, order=f"P{n}") for n in range(20)))
    whole = HeldQuery(
        account="isv", disposition=Disposition.QUARANTINED, reason=Reason.BAD_AMOUNT, since_ms=NOW_MS + 5,
        before_ms=NOW_MS + 15,
    )  # fmt: skip
    for given in (
        {},
        {"account": None},
        {"reason": None},
        {"disposition": None},
        {"disposition": None, "reason": None},
    ):
        query = structs.replace(whole, **given)
        assert [page.row.position.offset for page in await store.held_list(query)] == list(range(5, 15)), given
        after = structs.replace(query, after=HeldPlace(first_at_ms=NOW_MS + 9, position=Position(0, 9)))
        assert [page.row.position.offset for page in await store.held_list(after)] == list(range(10, 15)), given
        newest = structs.replace(query, newest_first=True, limit=1)
        assert [page.row.position.offset for page in await store.held_list(newest)] == [14], given
        early = structs.replace(query, after=HeldPlace(first_at_ms=NOW_MS, position=Position(0, 0)))
        assert len(await store.held_list(early)) == 10
        assert sum(group.count for group in await store.held_groups(query)) == 10


async def test_batches_are_settled_while_operators_questions_take_long(work: Processing, store: AnyStore) -> None:
    asking = [asyncio.create_task(never_answered(store)) for _ in range(6)]
    try:
        for number in range(1, 4):
            await work.process(log_records.logged([log_records.record(f"N{number}")], first=number))
        assert not any(each.done() for each in asking)
    finally:
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert await count_orders(store) == 3


async def never_answered(store: AnyStore) -> None:
    """An operator's question that the store would work on for a minute."""
    if isinstance(store, SqliteOrderStore):
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        await store.reads.read(lambda connection: connection.execute(endless).fetchone(), deadline_s=60)
        return

    async def sleep(connection: SqlConnection) -> None:
        await connection.execute("SET statement_timeout = 0")
        await connection.fetchval("SELECT pg_sleep(60)")

    assert isinstance(store, PostgresOrderStore)
    await store.reads.read(sleep)


async def count_orders(store: AnyStore) -> int:
    statement = "SELECT count(*) FROM orders"
    if isinstance(store, SqliteOrderStore):
        found: int = await store.database.read(lambda connection: connection.execute(statement).fetchone()[0])
        return found
    assert isinstance(store, PostgresOrderStore)
    return int(await store.database.read(lambda connection: connection.fetchval(statement)))


async def test_question_that_takes_too_long_is_given_up(store: AnyStore) -> None:
    """By the server itself, so that nothing goes on working for nobody."""
    if isinstance(store, SqliteOrderStore):
        return  # tests/unit/deploy/embedded/test_sqlite_reader.py
    assert isinstance(store, PostgresOrderStore)
    with pytest.raises(ReadTooSlow, match="longer than 3 s"):
        await store.reads.read(lambda connection: connection.fetchval("SELECT pg_sleep(60)"))
    assert (store.trouble, store.reads_trouble) == (None, None)
    assert await store.held_list(HeldQuery()) == []


async def test_counts_stay_exact_while_they_are_added_up(workers: Opener, time: Time) -> None:
    """Two workers hold and resolve, a third adds up, and an operator looks on."""
    stores = await workers(3)
    works = [log_records.processing(store, time) for store in stores]
    await works[0].process(log_records.logged([parked(f"A{number}") for number in range(200)]))

    async def hold(work: Processing, first: int) -> None:
        for start in range(first, first + 500, 50):
            await work.process(log_records.logged([parked(f"P{n}") for n in range(start, start + 50)], first=start))

    holding = asyncio.gather(hold(works[0], 1000), hold(works[1], 2000))
    while not holding.done():
        await stores[2].add_up_counts()
        (group,) = await stores[2].held_groups(HeldQuery())
        assert group.count % 50 == 0
    await holding
    await check_held_counts(stores[2])
    (group,) = await stores[2].held_groups(HeldQuery())
    assert group.count == 1200
    assert not await stores[2].add_up_counts()
