"""Faults of PostgreSQL: transactions stay whole, no record is blamed, and every call ends in time.

The server is this module's own, because it is killed, frozen and filled with locks.
"""

import asyncio
import time as clock
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import asyncpg
import pytest

from deploy.local import postgres
from deploy.local.postgres import Postgres
from schemas.dispositions import Disposition, Reason
from tests.contract.engines import Cluster
from tests.faults.wire import wire
from tests.support import log_records
from tests.support.fakes import PlanObserver
from tests.support.log_records import Time
from tests.support.real_servers import Servers
from workers.errors import InfrastructureDamaged, InfrastructureDown, RecordRefused
from workers.postgres import errors, load
from workers.postgres.database import Database, DatabaseLimits, DatabaseNotUsable, SqlConnection
from workers.postgres.orphans import ORPHANED_AFTER_S, WALK_AGAIN_S
from workers.postgres.store import PostgresOrderStore
from workers.queries import HeldQuery, OrderQuery
from workers.settlement import drafting
from workers.settlement.plan import HeldRow, LoadRequest, StoreSnapshot, WritePlan

QUICK = DatabaseLimits(command_s=0.5, transaction_s=1.5, lock_ms=200, acquire_s=0.5)
RECOVERED_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def server(servers: Servers) -> Postgres:
    return servers.start(partial(postgres.running, name="faulty-postgres"))


@pytest.fixture
async def place(server: Postgres) -> Cluster:
    """A schema of its own, made ready."""
    place = Cluster(server, None, Time())
    async with place.store():
        return place


@pytest.fixture
async def store(place: Cluster) -> AsyncIterator[PostgresOrderStore]:
    store = await opened(place.url)
    yield store
    await store.close()


async def opened(url: str, limits: DatabaseLimits = QUICK) -> PostgresOrderStore:
    return await PostgresOrderStore.open(url, holder="worker", now_ms=Time(), limits=limits)


async def pay(store: PostgresOrderStore, order: str, offset: int = 1) -> None:
    await log_records.processing(store, Time()).process(log_records.logged([log_records.record(order)], first=offset))


async def until_done(work: Callable[[], Awaitable[Any]]) -> Any:
    """Return the result of the work once infrastructure is back."""
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        while True:
            try:
                return await work()
            except InfrastructureDown:
                await asyncio.sleep(0.05)


async def ends(store: PostgresOrderStore, order: str) -> list[Disposition]:
    page = await store.order_page("shop-sg", order)
    return [] if page is None else [delivery.disposition for delivery in page.deliveries]


# The server


async def test_killed_server_delays_work_no_longer_than_its_absence(
    server: Postgres, store: PostgresOrderStore
) -> None:
    await pay(store, "N1")
    await server.process.kill()
    with pytest.raises(InfrastructureDown):
        await pay(store, "N2", 2)
    trouble = store.trouble
    assert trouble
    await server.start_again()
    await until_done(lambda: pay(store, "N2", 2))
    assert (await ends(store, "N1"), await ends(store, "N2")) == ([Disposition.APPLIED], [Disposition.APPLIED])
    assert store.trouble is None
    assert await store.held_list(HeldQuery()) == []


async def test_frozen_server_is_given_up_within_the_deadline(server: Postgres, store: PostgresOrderStore) -> None:
    await pay(store, "N1")
    server.process.freeze()
    begun = clock.monotonic()
    try:
        with pytest.raises(InfrastructureDown):
            await pay(store, "N2", 2)
        assert clock.monotonic() - begun < QUICK.transaction_s + 1
        with pytest.raises(InfrastructureDown):
            await store.order_list(OrderQuery(limit=1))
    finally:
        server.process.thaw()
    await until_done(lambda: pay(store, "N2", 2))
    assert await ends(store, "N2") == [Disposition.APPLIED]


async def test_terminated_sessions_are_replaced_and_blame_no_record(
    server: Postgres, store: PostgresOrderStore
) -> None:
    """The client meets the end of a session in several states, and has an error of its own for each."""
    stranger = await asyncpg.connect(server.dsn)
    for offset in range(1, 40):
        await stranger.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(offset % 4 * 0.0003)
        await until_done(lambda offset=offset: pay(store, f"N{offset}", offset))  # type: ignore[misc]
        assert await until_done(lambda offset=offset: ends(store, f"N{offset}")) == [Disposition.APPLIED]  # type: ignore[misc]
    await stranger.close()


async def test_commit_with_a_lost_answer_is_found_done(place: Cluster, server: Postgres) -> None:
    async with wire(server.port) as line:
        store = await opened(place.url.replace(f":{server.port}/", f":{line.port}/"))
        await pay(store, "N0")
        line.swallow_after = b"COMMIT"
        with pytest.raises(InfrastructureDown):
            await pay(store, "N1", 2)
        assert line.cuts == 1
        observer = PlanObserver()
        again = log_records.processing(store, Time(), observer=observer)
        await until_done(lambda: again.process(log_records.logged([log_records.record("N1")], first=2)))
        assert observer.plans[-1] == drafting.empty()
        assert await ends(store, "N1") == [Disposition.APPLIED]
        await store.close()


async def test_cancelled_batch_leaves_whole_transactions_and_a_usable_pool(store: PostgresOrderStore) -> None:
    for offset in range(1, 30):
        paying = asyncio.create_task(pay(store, f"N{offset}", offset))
        await asyncio.sleep(offset * 0.0004)
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
    for offset in range(1, 30):
        await until_done(lambda offset=offset: pay(store, f"N{offset}", offset))  # type: ignore[misc]
        page = await store.order_page("shop-sg", f"N{offset}")
        assert page is not None
        assert len(page.deliveries) == len(page.events) == 1


# Locks


@asynccontextmanager
async def stranger(place: Cluster, *statements: str) -> AsyncIterator[asyncpg.Connection]:
    """Another session with an open transaction, until the block ends."""
    session = await asyncpg.connect(place.url)
    transaction = session.transaction()
    await transaction.start()
    for statement in statements:
        await session.execute(statement)
    try:
        yield session
    finally:
        await transaction.rollback()
        await session.close()


async def due(store: PostgresOrderStore, order: str) -> list[HeldRow]:
    return [page.row for page in await store.held_list(HeldQuery(order=order))]


LOCKED = (Disposition.PARKED, Reason.LOCKED)
OTHERS = [f"M{number}" for number in range(20)]


async def test_notification_of_a_locked_order_is_parked_and_the_others_are_applied(
    place: Cluster, store: PostgresOrderStore
) -> None:
    await pay(store, "N1")
    processing = log_records.processing(store, Time())
    finished = log_records.record("N1", "TRADE_FINISHED")
    async with stranger(place, "SELECT 1 FROM orders WHERE order_number = 'N1' FOR UPDATE"):
        batch = [*(log_records.record(order) for order in OTHERS[:10]), finished, log_records.record("N9")]
        await processing.process(log_records.logged(batch, first=2))
        assert [await ends(store, order) for order in (*OTHERS[:10], "N9")] == [[Disposition.APPLIED]] * 11
        (row,) = await due(store, "N1")
        assert ((row.disposition, row.reason), row.record) == (LOCKED, finished)
        await processing.retry([row])
        (row,) = await due(store, "N1")
        assert ((row.disposition, row.reason), row.attempts) == (LOCKED, 0)
    await processing.retry([row])
    assert await ends(store, "N1") == [Disposition.APPLIED, Disposition.APPLIED]
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert [event.event.id for event in page.events] == ["shop-sg:N1:1", "shop-sg:N1:2"]


async def test_many_locked_orders_are_parked_in_one_transaction(place: Cluster, store: PostgresOrderStore) -> None:
    processing = log_records.processing(store, Time())
    await processing.process(log_records.logged([log_records.record(order) for order in OTHERS]))
    mixed = [log_records.record(order, "TRADE_FINISHED") for order in OTHERS]
    mixed += [log_records.record(f"{order}x") for order in OTHERS]
    async with stranger(place, "SELECT 1 FROM orders FOR UPDATE"):
        await processing.process(log_records.logged(mixed, first=100))
        assert [await ends(store, f"{order}x") for order in OTHERS] == [[Disposition.APPLIED]] * 20
    rows = [page.row for page in await store.held_list(HeldQuery())]
    assert [(row.disposition, row.reason) for row in rows] == [LOCKED] * 20
    await processing.retry(rows)
    assert await store.held_list(HeldQuery()) == []


async def test_order_that_another_worker_holds_for_a_moment_is_waited_for(
    place: Cluster, store: PostgresOrderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "BRIEF_S", 0.9)
    await pay(store, "N1")
    processing = log_records.processing(store, Time())
    processing._foreign_locks.meet()
    async with stranger(place, "SELECT 1 FROM orders WHERE order_number = 'N1' FOR UPDATE"):
        finished = log_records.logged([log_records.record("N1", "TRADE_FINISHED")], first=2)
        settling = asyncio.create_task(processing.process(finished))
        await asyncio.sleep(0.05)
    await settling
    assert await ends(store, "N1") == [Disposition.APPLIED, Disposition.APPLIED]


async def test_record_that_meets_an_open_insert_is_parked_alone(place: Cluster, store: PostgresOrderStore) -> None:
    """As a stalled worker leaves it, which has inserted the same notification and has not committed."""
    await pay(store, "N1")
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(2, 9)], first=2)
    id_ = parse_qs(batch[3].record.value.decode())["notify_id"][0]
    copied = f"SELECT '{id_}', account, 'N5', digest, 9, 9, key, value, headers FROM notifications"
    processing = log_records.processing(store, Time())
    async with stranger(place, f"INSERT INTO notifications {copied}"):
        await processing.process(batch)
        assert [await ends(store, f"N{number}") for number in (2, 3, 4, 6, 7, 8)] == [[Disposition.APPLIED]] * 6
        (row,) = await due(store, "N5")
        assert ((row.disposition, row.reason), row.record) == (LOCKED, batch[3].record)
    await processing.retry([row])
    assert await ends(store, "N5") == [Disposition.APPLIED]


async def test_locked_held_row_stays_and_the_others_are_retried(place: Cluster, store: PostgresOrderStore) -> None:
    await pay(store, "N1")
    await pay(store, "N2", 2)
    processing = log_records.processing(store, Time())
    finished = [log_records.record(order, "TRADE_FINISHED") for order in ("N1", "N2")]
    async with stranger(place, "SELECT 1 FROM orders FOR UPDATE"):
        await processing.process(log_records.logged(finished, first=3))
    rows = [*await due(store, "N1"), *await due(store, "N2")]
    async with stranger(place, "SELECT 1 FROM held WHERE order_number = 'N1' FOR UPDATE"):
        with pytest.raises(InfrastructureDown):
            await processing.retry(rows)
        assert (await ends(store, "N1"))[-1] is Disposition.PARKED
        assert (await ends(store, "N2"))[-1] is Disposition.APPLIED
        redelivered = log_records.logged([*finished, log_records.record("N3")], first=3)
        await processing.process(redelivered)
        assert await ends(store, "N3") == [Disposition.APPLIED]
    await processing.retry(await due(store, "N1"))
    assert (await ends(store, "N1"))[-1] is Disposition.APPLIED


async def test_event_whose_row_is_locked_is_not_sent_again_and_is_marked_later(
    place: Cluster, store: PostgresOrderStore
) -> None:
    await pay(store, "N1")
    await pay(store, "N2", 2)
    (first, _), (second, _) = await store.unsent(10)
    async with stranger(place, f"SELECT 1 FROM outbox WHERE number = {first} FOR UPDATE"):
        await store.mark_sent([first, second])
        await pay(store, "N3", 3)
        ((third, _),) = await store.unsent(10)
        await store.mark_sent([third])
        assert await unmarked(place) == [first]
    store._walks.clear()  # as if the time for a look had come
    assert await store.unsent(10) == []
    assert await unmarked(place) == []


async def unmarked(place: Cluster) -> list[int]:
    reader = await asyncpg.connect(place.url)
    found = await reader.fetch("SELECT number FROM outbox WHERE sent_at IS NULL ORDER BY number")
    await reader.close()
    return [number for (number,) in found]


async def test_orphaned_event_with_a_locked_row_keeps_back_its_own_order_only(
    place: Cluster, store: PostgresOrderStore
) -> None:
    await pay(store, "N1")
    await pay(store, "N2", 2)
    await log_records.processing(store, Time()).process(
        log_records.logged([log_records.record("N1", "TRADE_FINISHED")], first=3)
    )
    numbers = {event.id: number for number, event in await store.unsent(10)}
    await store.sending.resign()
    now_s = [0.0]
    heir = await PostgresOrderStore.open(place.url, holder="heir", now_ms=Time(), now_s=lambda: now_s[0], limits=QUICK)
    assert await heir.unsent(10) == [], "it has seen them for the first time"
    now_s[0] += ORPHANED_AFTER_S + 1
    async with stranger(place, f"SELECT 1 FROM outbox WHERE number = {numbers['shop-sg:N1:1']} FOR UPDATE"):
        assert [event.id for _, event in await heir.unsent(10)] == ["shop-sg:N2:1"]
    now_s[0] += WALK_AGAIN_S + 1
    assert [event.id for _, event in await heir.unsent(10)] == ["shop-sg:N1:1", "shop-sg:N2:1", "shop-sg:N1:2"]
    await heir.close()


async def test_locked_lease_changes_no_leader_and_stops_no_event(place: Cluster, store: PostgresOrderStore) -> None:
    other = await PostgresOrderStore.open(place.url, holder="other", now_ms=Time(), limits=QUICK)
    assert await store.sending.leads()
    assert not await other.sending.leads()
    async with stranger(place, "SELECT 1 FROM leases FOR UPDATE"):
        for each in (store, other):
            each.sending._asked_at = float("-inf")
        assert await store.sending.leads()
        assert not await other.sending.leads()
        await pay(store, "N1")
        assert len(await store.unsent(10)) == 1
    await other.close()


async def test_locked_table_is_waited_for_and_holds_nothing(place: Cluster, store: PostgresOrderStore) -> None:
    await pay(store, "N1")
    processing = log_records.processing(store, Time())
    batch = log_records.logged([log_records.record("N1", "TRADE_FINISHED"), log_records.record("N2")], first=2)
    for table in ("orders", "deliveries", "held", "notifications", "outbox", "trades", "numbers", "movements", "wakes"):
        async with stranger(place, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"):
            with pytest.raises(InfrastructureDown, match="a table is locked"):
                await processing.process(batch)
    assert await store.held_list(HeldQuery()) == []
    await processing.process(batch)
    assert await ends(store, "N1") == [Disposition.APPLIED, Disposition.APPLIED]
    assert await ends(store, "N2") == [Disposition.APPLIED]


async def test_deadlock_victim_is_retried(place: Cluster) -> None:
    database = await Database.open(place.url, limits=DatabaseLimits())
    await database.write(
        lambda connection: connection.execute("INSERT INTO leases VALUES ('a', '', now()), ('b', '', now())")
    )
    both = asyncio.Barrier(2)
    attempts = 0

    def crosswise(first: str, second: str) -> Callable[[SqlConnection], Awaitable[None]]:
        tries = 0

        async def work(connection: SqlConnection) -> None:
            nonlocal attempts, tries
            attempts, tries = attempts + 1, tries + 1
            for role in (first, second):
                await connection.execute("UPDATE leases SET holder = holder || 'x' WHERE role = $1", role)
                if role == first and tries == 1:
                    await both.wait()

        return work

    await asyncio.gather(database.write(crosswise("a", "b")), database.write(crosswise("b", "a")))
    assert attempts == 3
    holders = await database.read(lambda connection: connection.fetch("SELECT holder FROM leases"))
    assert [holder for (holder,) in holders] == ["xx", "xx"]
    await database.close()


async def test_repeated_collisions_are_infrastructure_down(place: Cluster) -> None:
    database = await Database.open(place.url, limits=DatabaseLimits())
    attempts = 0

    async def collide(connection: SqlConnection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(errors.Collided):
        await database.write(collide)
    assert attempts == 5
    await database.close()


async def test_work_beyond_the_connections_waits_up_to_its_deadline(store: PostgresOrderStore) -> None:
    await asyncio.gather(*(store.order_list(OrderQuery(limit=1)) for _ in range(50)))
    full = await asyncio.gather(
        *(store._database.read(lambda connection: connection.execute("SELECT pg_sleep(0.4)")) for _ in range(12)),
        return_exceptions=True,
    )
    assert {type(end) for end in full} == {str, InfrastructureDown}
    await pay(store, "N1")


# The refused statement, and its error


async def test_read_only_database_pauses_the_worker(place: Cluster, store: PostgresOrderStore) -> None:
    reading = await opened(f"{place.url}&default_transaction_read_only=on")
    with pytest.raises(InfrastructureDown):
        await pay(reading, "N1")
    await reading.close()
    assert await ends(store, "N1") == []


async def test_replaced_password_is_read_at_the_next_connection(place: Cluster) -> None:
    role, url = f"r{place.name}", [place.url]
    owner = await asyncpg.connect(place.url)
    await owner.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'first'")

    def of(password: str) -> str:
        return f"postgresql://{role}:{password}@{place.url.rpartition('@')[2]}"

    url[0] = of("first")
    store = await PostgresOrderStore.open(lambda: url[0], holder="worker", now_ms=Time(), limits=QUICK)
    try:
        await pay(store, "N1")
        await owner.execute(f"ALTER ROLE {role} PASSWORD 'second'")
        await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
        with pytest.raises(InfrastructureDown, match="28P01"):
            await until_refused(lambda: pay(store, "N2", 2))
        url[0] = of("second")
        await until_done(lambda: pay(store, "N2", 2))
        assert await ends(store, "N2") == [Disposition.APPLIED]
    finally:
        await store.close()
        await owner.close()


async def until_refused(work: Callable[[], Awaitable[Any]]) -> None:
    """Raise once the server refuses the password."""
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        while True:
            try:
                await work()
            except InfrastructureDown as error:
                if "28P01" in str(error):
                    raise
            await asyncio.sleep(0.05)


async def test_session_that_may_only_read_is_replaced(place: Cluster) -> None:
    """As those of before a failover, or of while the database was made read-only for its disk."""
    stranger = await asyncpg.connect(place.url)
    name = await stranger.fetchval("SELECT current_database()")
    await stranger.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        store = await opened(place.url)
        with pytest.raises(InfrastructureDown, match="25006"):
            await pay(store, "N1")
    finally:
        await stranger.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await stranger.close()
    await until_done(lambda: pay(store, "N1"))
    assert await ends(store, "N1") == [Disposition.APPLIED]
    await store.close()


FILL_THE_DISK = """
    CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
    END $$;
    CREATE TRIGGER is_full BEFORE INSERT ON notifications FOR EACH STATEMENT EXECUTE FUNCTION is_full();
"""


async def test_full_disk_is_told_until_a_batch_is_settled(place: Cluster, store: PostgresOrderStore) -> None:
    """A small update needs no new page and succeeds on a full disk: a lease's, or a mark of the outbox."""
    await pay(store, "N1")
    stranger = await asyncpg.connect(place.url)
    await stranger.execute(FILL_THE_DISK)
    with pytest.raises(InfrastructureDown, match="53100"):
        await pay(store, "N2", 2)
    assert await store.leadership.leads()
    await store.mark_sent([number for number, _ in await store.unsent(10)])
    assert (await store.order_list(OrderQuery(limit=1))).pages
    assert "53100" in (store.trouble or "")
    await stranger.execute("DROP FUNCTION is_full CASCADE")
    await stranger.close()
    assert await store.sending.leads()
    still = store.trouble
    assert still, "that there is room again is known when a batch is settled"
    await pay(store, "N2", 2)
    assert store.trouble is None
    assert await store.held_list(HeldQuery()) == []


class Spoilt:
    """A store whose batch has a text with a zero byte, in the one record that is not dead."""

    def __init__(self, store: PostgresOrderStore) -> None:
        self.unsent, self.mark_sent, self.set_aside = store.unsent, store.mark_sent, store.set_aside
        self.tries = 0
        self._store = store

    async def settle(self, needs: LoadRequest, decide: Callable[[StoreSnapshot], WritePlan]) -> WritePlan:
        def spoil(known: StoreSnapshot) -> WritePlan:
            plan = decide(known)
            bad = [each for each in plan.ledger if each.order == "N4"]
            if bad and any(each.disposition is not Disposition.DEAD for each in plan.deliveries):
                self.tries += 1
                plan.ledger[plan.ledger.index(bad[0])] = type(bad[0])(
                    **{name: getattr(bad[0], name) for name in bad[0].__struct_fields__} | {"order": "N4\x00"}
                )
            return plan

        return await self._store.settle(needs, spoil)


async def test_text_with_a_zero_byte_is_held_and_its_neighbours_are_applied(store: PostgresOrderStore) -> None:
    spoilt = Spoilt(store)
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(1, 9)])
    await log_records.processing(spoilt, Time()).process(batch)
    (held,) = await store.held_list(HeldQuery())
    assert (held.row.order, held.row.disposition) == ("N4", Disposition.DEAD)
    assert held.row.record == batch[3].record
    assert [await ends(store, f"N{number}") for number in (1, 2, 3, 5, 6, 7, 8)] == [[Disposition.APPLIED]] * 7
    assert spoilt.tries == 4  # with seven, three, one and no neighbours: each time refused at the first try


async def test_number_too_long_for_an_index_is_held_and_can_be_found(store: PostgresOrderStore) -> None:
    number = "".join(chr(ord("A") + (place * place) % 26) + str(place) for place in range(3000))
    batch = log_records.logged([log_records.record(number), log_records.record("N1")])
    await log_records.processing(store, Time()).process(batch)
    assert await ends(store, "N1") == [Disposition.APPLIED]
    assert await ends(store, number) == [Disposition.DEAD]
    (held,) = await store.held_list(HeldQuery(order=number))
    assert held.row.record == batch[0].record


async def test_foreign_schema_stops_the_worker(place: Cluster, store: PostgresOrderStore) -> None:
    stranger = await asyncpg.connect(place.url)
    await stranger.execute("DROP TABLE trades")
    await stranger.close()
    with pytest.raises(InfrastructureDamaged):
        await pay(store, "N1")


async def test_empty_database_is_refused_with_the_upgrade_command(server: Postgres) -> None:
    with pytest.raises(DatabaseNotUsable, match="alipay-notify db upgrade"):
        await opened(f"{server.dsn}?search_path=nowhere")


async def test_database_that_may_lose_commits_is_refused(place: Cluster) -> None:
    with pytest.raises(DatabaseNotUsable, match="synchronous_commit is off"):
        await opened(f"{place.url}&synchronous_commit=off")


async def test_unreachable_server_is_infrastructure_down(place: Cluster, server: Postgres) -> None:
    with pytest.raises(InfrastructureDown):
        await opened(place.url.replace(f":{server.port}/", ":1/"))


async def test_value_that_cannot_be_sent_is_the_records_fault(place: Cluster) -> None:
    database = await Database.open(place.url, limits=DatabaseLimits())
    for impossible in ("\ud800", 2**63):
        with pytest.raises(RecordRefused):
            await database.write(lambda connection, value=impossible: connection.fetch("SELECT $1::bigint", value))  # type: ignore[misc]
    await database.close()
