"""Operators' questions read the rows that they show, in the order of an index, however many rows there are."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from deploy.embedded import held_lookups as sqlite_held
from deploy.embedded import lookups as sqlite_lookups
from deploy.embedded import order_lists as sqlite_orders
from deploy.embedded import wakes as sqlite_wakes
from deploy.embedded.store import SqliteOrderStore
from schemas.dispositions import Disposition, Reason
from tests.contract.engines import AnyStore, Cluster
from tests.support import bulk, query_plans
from tests.support.bulk import HeldKind
from tests.support.log_records import NOW_MS
from tests.support.query_plans import Cost
from workers.postgres import held_lookups, lookups, order_lists, wakes
from workers.postgres.store import PostgresOrderStore
from workers.queries import HeldPlace, HeldQuery, OrderPlace, OrderQuery
from workers.row_codec import Row
from workers.settlement.plan import Position

MANY, FEW = 2000, 20
LIMIT = 10
LATE_MS = NOW_MS + MANY

# The many are alike. The others are younger and differ in a point or two, so that a plan which goes through all by age
# reads the many before it finds one.
ALIKE = HeldKind("many", "parked", "unknown_order")
OTHERS = (
    HeldKind("many", "dead", "our_fault"),
    HeldKind("many", "quarantined", "bad_amount"),
    HeldKind("few/2088", "quarantined", "bad_amount"),
    HeldKind("many", "quarantined", "unknown_order"),
    HeldKind("few/2088", "parked", "unknown_order"),
    HeldKind("many", "parked", "unknown_order", is_resolved=True),
)
QUERIES = {
    "all": HeldQuery(),
    "account": HeldQuery(account="few"),
    "disposition": HeldQuery(disposition=Disposition.DEAD),
    "reason": HeldQuery(reason=Reason.BAD_AMOUNT),
    "disposition and reason": HeldQuery(disposition=Disposition.QUARANTINED, reason=Reason.UNKNOWN_ORDER),
    "account and reason": HeldQuery(account="many", reason=Reason.BAD_AMOUNT),
    "account, disposition and reason": HeldQuery(
        account="many", disposition=Disposition.QUARANTINED, reason=Reason.UNKNOWN_ORDER
    ),
    "merchant": HeldQuery(account="few", scope="few/2088"),
    "merchant and reason": HeldQuery(account="few", scope="few/2088", reason=Reason.UNKNOWN_ORDER),
    "order": HeldQuery(order="late7"),
    "order of a merchant": HeldQuery(order="late7", scope="few/2088"),
    "since": HeldQuery(since_ms=LATE_MS),
    "before": HeldQuery(before_ms=NOW_MS + 5),
    "disposition, since": HeldQuery(disposition=Disposition.PARKED, since_ms=NOW_MS + MANY - 5),
    "next page": HeldQuery(after=HeldPlace(first_at_ms=NOW_MS + MANY - 50, position=Position(0, MANY - 50))),
    "next page of a reason": HeldQuery(
        reason=Reason.UNKNOWN_ORDER, after=HeldPlace(first_at_ms=NOW_MS + MANY - 50, position=Position(0, MANY - 50))
    ),
    "resolved": HeldQuery(resolved=True),
    "newest": HeldQuery(newest_first=True),
    "newest of a reason": HeldQuery(reason=Reason.UNKNOWN_ORDER, newest_first=True),
    "newest of an account": HeldQuery(account="few", newest_first=True),
    "newest of a disposition": HeldQuery(disposition=Disposition.PARKED, newest_first=True),
    "newest of a merchant": HeldQuery(account="few", scope="few/2088", newest_first=True),
}


def rows(count: int) -> Iterator[Row]:
    offsets = itertools.count()
    for number in range(count):
        yield bulk.held_row(next(offsets), ALIKE, NOW_MS + number, order=f"P{number}")
    for number in range(FEW):
        for kind in OTHERS:
            yield bulk.held_row(next(offsets), kind, LATE_MS + number, order=f"late{number}")


async def fill(store: AnyStore, count: int) -> None:
    """So many held rows that are alike and some others, and so many orders that changed at one moment."""
    await bulk.add(store, "held", rows(count))
    await bulk.add(store, "orders", (bulk.order_row(f"N{number}", "many", NOW_MS) for number in range(count)))


async def cost(store: AnyStore, name: str, *arguments: Any) -> Cost:
    """What this lookup of the store's engine reads."""
    if isinstance(store, SqliteOrderStore):
        work = getattr(sqlite_held, name, None) or getattr(sqlite_lookups, name)
        return await store.database.read(
            lambda connection: query_plans.on_sqlite(connection, lambda explained: work(explained, *arguments))
        )
    assert isinstance(store, PostgresOrderStore)
    work = getattr(held_lookups, name, None) or getattr(lookups, name)
    database = store.database if name == "due" else store.reads  # the sweeper asks this one
    return await database.read(
        lambda connection: query_plans.on_postgres(connection, lambda explained: work(explained, *arguments))
    )


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_list_reads_its_page_in_the_order_of_an_index(store: AnyStore, query: HeldQuery) -> None:
    asked = structs.replace(query, limit=LIMIT)
    await fill(store, FEW)
    before = await cost(store, "list_", asked)
    await bulk.add(store, "held", (bulk.held_row(10_000 + n, ALIKE, NOW_MS - n, order=f"Q{n}") for n in range(MANY)))
    found = await cost(store, "list_", asked)
    assert (found.sorts, found.scans) == (0, 0)
    assert found.read <= 3 * before.read


@pytest.mark.parametrize(
    "query",
    [
        HeldQuery(),
        HeldQuery(resolved=True),
        HeldQuery(account="many"),
        HeldQuery(scope="few/2088"),
        HeldQuery(awake_at_ms=NOW_MS),
        None,
    ],
    ids=str,
)
async def test_summaries_and_gauges_count_no_rows(store: AnyStore, query: HeldQuery | None) -> None:
    """The kept counts are read, and of each group its oldest row."""
    await fill(store, FEW)
    before = await (cost(store, "counts", NOW_MS) if query is None else cost(store, "groups", query))
    await bulk.add(store, "held", (bulk.held_row(10_000 + n, ALIKE, NOW_MS - n, order=f"Q{n}") for n in range(MANY)))
    found = await (cost(store, "counts", NOW_MS) if query is None else cost(store, "groups", query))
    assert found.scans == 0
    assert found.read <= 2 * before.read


async def test_rows_that_are_due_at_one_moment_are_not_sorted(store: AnyStore) -> None:
    """As after an account was added for which thousands were parked."""
    await bulk.add(store, "held", (bulk.held_row(n, ALIKE, NOW_MS, order=f"P{n}") for n in range(MANY)))
    found = await cost(store, "due", NOW_MS, LIMIT)
    assert (found.sorts, found.scans) == (0, 0)
    assert found.read < MANY
    assert [row.order for row in await store.due(now_ms=NOW_MS, limit=LIMIT)] == [f"P{n}" for n in range(LIMIT)]


async def test_batch_looks_only_at_the_rows_that_wait_for_it(store: AnyStore) -> None:
    """Each order of a batch asks for the parked rows that wait for it, and thousands wait for others."""
    await bulk.add(store, "held", (bulk.held_row(n, ALIKE, NOW_MS + n, order=f"P{n}") for n in range(MANY)))
    if isinstance(store, SqliteOrderStore):
        arguments = (NOW_MS, "many", "order:P7", -1, -1, 1000)
        found = await store.database.write(
            lambda connection: query_plans.on_sqlite(
                connection, lambda explained: explained.execute(sqlite_wakes._WAKE, arguments).fetchall()
            )
        )
    else:
        assert isinstance(store, PostgresOrderStore)
        found = await store.database.write(
            lambda connection: query_plans.of_statement(
                connection, wakes._WAITING, ["many", "many"], ["order:P7", "order:none"], 1000
            )
        )
    assert found.scans == 0
    assert found.read < 200


async def test_noted_wake_goes_on_behind_its_place_and_reads_no_row_of_others(cluster: Cluster) -> None:
    """PostgreSQL could as well read all rows behind the place, in the order of the primary key."""
    async with cluster.store() as store:
        await bulk.add(store, "held", (bulk.held_row(n, ALIKE, NOW_MS + n, order=f"P{n // 1000}") for n in range(MANY)))
        for condition, after, rows_read in (("order:P0", 500, LIMIT), ("order:P1", 10, LIMIT), ("order:none", 0, 0)):
            arguments = ("many", condition, 0, after, 2**31 - 1, 10**10, LIMIT)
            found = await store.database.write(
                lambda connection, arguments=arguments: query_plans.of_statement(connection, wakes._IN_SPAN, *arguments)  # type: ignore[misc]
            )
            assert (found.sorts, found.scans) == (0, 0)
            assert found.read <= rows_read + 1


@pytest.mark.parametrize("after", [None, OrderPlace(changed_at_ms=NOW_MS, number="N5", account="many")])
async def test_orders_that_changed_at_one_moment_are_not_sorted(store: AnyStore, after: OrderPlace | None) -> None:
    await fill(store, MANY)
    found = await cost_of_orders(store, OrderQuery(after=after, limit=LIMIT))
    assert (found.sorts, found.scans) == (0, 0)
    assert found.read < MANY


@pytest.mark.parametrize(
    "query",
    [
        OrderQuery(account="few"),
        OrderQuery(account="few", scope="few/2088"),
        OrderQuery(account="few", since_ms=NOW_MS + 2 * MANY),
        OrderQuery(account="few", after=OrderPlace(changed_at_ms=NOW_MS + 3, number="F3", account="few/2088")),
        OrderQuery(is_flagged=True),
        OrderQuery(account="few", is_flagged=True),
        OrderQuery(prefix="F"),
        OrderQuery(prefix="F", after=OrderPlace(changed_at_ms=0, number="F3", account="few/2088")),
        OrderQuery(before_ms=NOW_MS + 3),
    ],
    ids=str,
)
async def test_rare_orders_are_found_without_reading_the_others(store: AnyStore, query: OrderQuery) -> None:
    """The few are older than the many. PostgreSQL may sort those that an account changed at one moment."""
    few = (bulk.order_row(f"F{number}", "few/2088", NOW_MS + number, flags="frozen") for number in range(FEW))
    await bulk.add(store, "orders", few)
    asked = structs.replace(query, limit=LIMIT)
    before = await cost_of_orders(store, asked)
    many = (bulk.order_row(f"N{number}", "many", NOW_MS + MANY + number) for number in range(MANY))
    await bulk.add(store, "orders", many)
    found = await cost_of_orders(store, asked)
    assert found.scans == 0
    assert found.read <= 3 * max(before.read, 2 * FEW)


async def cost_of_orders(store: AnyStore, query: OrderQuery) -> Cost:
    """What this list reads."""
    if isinstance(store, SqliteOrderStore):
        return await store.database.read(
            lambda connection: query_plans.on_sqlite(connection, lambda each: sqlite_orders.page(each, query))
        )
    assert isinstance(store, PostgresOrderStore)
    return await store.reads.read(
        lambda connection: query_plans.on_postgres(connection, lambda each: order_lists.page(each, query))
    )
