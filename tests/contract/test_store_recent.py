"""The newest dispositions and events of every order store, by which the tail begins."""

from deploy.embedded.recent import LatestRows
from deploy.embedded.store import SqliteOrderStore
from tests.contract.engines import AnyStore
from tests.contract.several_workers import Opener
from tests.support import log_records, query_plans
from tests.support.plans import always, delivery, plan
from workers.postgres import recent as rows_of_postgres
from workers.postgres.recent import RecentRows
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement import loading
from workers.settlement.plan import Position
from workers.tail import RecentPort


def recent(store: AnyStore) -> RecentPort:
    if isinstance(store, PostgresOrderStore):
        return RecentRows(store.reads)
    assert isinstance(store, SqliteOrderStore)
    return LatestRows(store.reads)


async def test_empty_store_has_nothing_recent(store: AnyStore) -> None:
    assert [*await recent(store).settled(10), *await recent(store).events(10)] == []


async def test_newest_dispositions_and_events_are_found(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record(f"N{n}", id_=f"n{n}", trade=f"T{n}") for n in range(5)]))
    await work.emit()
    settled = await recent(store).settled(3)
    assert [each.order for each in settled] == ["N4", "N3", "N2"]
    events = await recent(store).events(2)
    assert [each.event.key for each in events] == [b"shop-sg:N4", b"shop-sg:N3"]
    assert all(each.sent_at_ms is not None for each in events)


async def test_newest_of_all_partitions_come_by_their_time(workers: Opener) -> None:
    [store] = await workers(1)
    rows = [
        delivery(
            offset, position=Position(partition, offset), notification_id=f"{partition}-{offset}", decided_at_ms=at
        )
        for at, (partition, offset) in enumerate([(7, 1), (0, 1), (7, 2), (3, 9), (0, 2)], 10**12)
    ]
    await store.settle(loading.load_request([]), always(plan(deliveries=rows)))
    found = await recent(store).settled(3)
    assert [str(each.position) for each in found] == ["0-2", "3-9", "7-2"]


async def test_newest_dispositions_cost_the_same_in_a_large_store(workers: Opener) -> None:
    [store] = await workers(1)
    rows = [
        delivery(offset, position=Position(partition, offset), notification_id=f"{partition}-{offset}")
        for partition in range(3)
        for offset in range(3000)
    ]
    await store.settle(loading.load_request([]), always(plan(deliveries=rows)))
    await store.database.write(lambda connection: connection.execute("ANALYZE deliveries"))
    cost = await store.reads.read(
        lambda connection: query_plans.of_statement(connection, rows_of_postgres._SETTLED, 10)
    )
    assert cost.scans == 0
