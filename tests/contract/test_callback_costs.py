"""What a step of callbacks reads: the rows that wait, not those that were finished in the last week."""

from collections.abc import Sequence

from msgspec import structs

from deploy.embedded import callbacks as sqlite
from deploy.embedded.callbacks import SqliteCallbacks
from deploy.embedded.store import SqliteOrderStore
from tests.contract.engines import AnyStore
from tests.contract.test_store_callbacks import REFUSED, SHOP, result
from tests.support import log_records, query_plans
from tests.support.log_records import NOW_MS
from workers.callbacks.deliveries import DeliveryQuery
from workers.callbacks.schedule import AttemptResult, DeliveryState
from workers.postgres import callback_lists
from workers.postgres import callbacks as postgres
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.database import SqlConnection
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing

ORDERS, FINISHED = 40, 4000
LIST_MAX = 500  # of one row; each of the finished rows is one more, or some instructions
MORE_MAX = 1.5  # times; one pass over the finished rows makes it ten times

_OF_SQLITE = """
    WITH RECURSIVE n(number) AS (SELECT ?1 UNION ALL SELECT number + 1 FROM n WHERE number < ?1 + ?2)
    INSERT INTO callback_deliveries (endpoint, number, key, event_id, type, state, created_at_ms, done_at_ms)
    SELECT 'shop', number, CAST('old' || number AS BLOB), 'old', 'order.paid', 'delivered', ?3, ?3 FROM n
"""
_OF_POSTGRES = """
    INSERT INTO callback_deliveries (endpoint, number, key, event_id, type, state, created_at, done_at)
    SELECT 'shop', number, convert_to('old' || number, 'UTF8'), 'old', 'order.paid', 'delivered', $3, $3
    FROM generate_series($1::bigint, $1::bigint + $2::bigint) AS g(number)
"""
_READ = """
    SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
    WHERE relid = 'callback_deliveries'::regclass
"""


async def test_step_costs_the_same_whatever_was_finished(store: AnyStore, work: Processing) -> None:
    callbacks = _callbacks(store)
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    records = [log_records.record(f"N{number}", "TRADE_SUCCESS") for number in range(ORDERS)]
    await work.process(log_records.logged(records))
    due = (await callbacks.step(SHOP, (), busy=(), limit=ORDERS, now_ms=NOW_MS)).due
    assert len(due) == ORDERS
    few = await _cost(store, [result(each) for each in due[:10]])
    await _finish(store)
    many = await _cost(store, [result(each) for each in due[10:20]])
    assert 0 < many < few * MORE_MAX


async def test_list_costs_the_same_whatever_was_delivered(store: AnyStore, work: Processing) -> None:
    callbacks = _callbacks(store)
    await callbacks.configure([SHOP], now_ms=NOW_MS)
    await work.process(log_records.logged([log_records.record(number, "TRADE_SUCCESS") for number in ("N1", "N2")]))
    _, due = (await callbacks.step(SHOP, (), busy=(), limit=2, now_ms=NOW_MS)).due
    given_up = structs.replace(result(due, REFUSED), state=DeliveryState.GIVEN_UP, due_ms=0)
    await callbacks.step(SHOP, (given_up,), busy=(), limit=0, now_ms=NOW_MS)
    await _finish(store)
    for query in (
        DeliveryQuery(endpoint=SHOP.name, order="shop-sg:N1"),
        DeliveryQuery(endpoint=SHOP.name, state=DeliveryState.PENDING),
        DeliveryQuery(endpoint=SHOP.name, state=DeliveryState.GIVEN_UP),
        DeliveryQuery(endpoint=SHOP.name, state=DeliveryState.GIVEN_UP, before=1_000_000),
    ):
        assert len(await callbacks.deliveries(query)) == 1
        assert await _cost_of_list(store, query) < LIST_MAX


async def _cost_of_list(store: AnyStore, query: DeliveryQuery) -> int:
    """Return the rows that the list reads, in SQLite its instructions."""
    if isinstance(store, SqliteOrderStore):
        cost = await store.database.write(
            lambda connection: query_plans.on_sqlite(
                connection, lambda it: it.execute(*sqlite.log_of(query)).fetchall()
            )
        )
        return cost.read

    async def listed(connection: SqlConnection) -> int:
        before = await connection.fetchval(_READ) or 0
        statement, parameters = callback_lists.log_of(query)
        await connection.fetch(statement, *parameters)
        read: int = await connection.fetchval(_READ)
        return read - before

    assert isinstance(store, PostgresOrderStore)
    return await store.database.write(listed)


def _callbacks(store: AnyStore) -> SqliteCallbacks | PostgresCallbacks:
    if isinstance(store, SqliteOrderStore):
        return SqliteCallbacks(store.database, store.reads)
    assert isinstance(store, PostgresOrderStore)
    return PostgresCallbacks(store.database, store.reads)


async def _finish(store: AnyStore) -> None:
    """Add rows of deliveries that are over."""
    parameters = (1_000_000, FINISHED, NOW_MS)
    if isinstance(store, SqliteOrderStore):
        await store.database.write(lambda connection: connection.execute(_OF_SQLITE, parameters))
    else:
        assert isinstance(store, PostgresOrderStore)
        await store.database.write(lambda connection: connection.execute(_OF_POSTGRES, *parameters))


async def _cost(store: AnyStore, results: Sequence[AttemptResult]) -> int:
    """Write the results in a step; return the rows that it reads, in SQLite its instructions."""
    if isinstance(store, SqliteOrderStore):
        cost = await store.database.write(
            lambda connection: query_plans.on_sqlite(
                connection, lambda it: sqlite._advance(it, SHOP, results, (), 10, NOW_MS)
            )
        )
        return cost.read
    assert isinstance(store, PostgresOrderStore)
    callbacks = PostgresCallbacks(store.database, store.reads)

    async def advance(connection: SqlConnection) -> int:
        before = await connection.fetchval(_READ) or 0
        seen = await callbacks._look(connection, name=SHOP.name, now_ms=NOW_MS)
        assert seen is not None
        await postgres._advance(connection, endpoint=SHOP, seen=seen, results=results, busy=(), limit=10, now_ms=NOW_MS)
        read: int = await connection.fetchval(_READ)
        return read - before

    return await store.database.write(advance)
