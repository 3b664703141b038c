"""Redis forgets its locks, PostgreSQL stands still or is upgraded, the log is read anew: nothing is lost or doubled.

One receiver, two workers and a console; Redis is this module's own, because it is emptied and its memory is bounded.
"""

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis as Client

from deploy.local import redis, roles
from deploy.local.engine import EngineSpec
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from schemas import topics
from tests.contract.engines import Cluster as Schema
from tests.support import begun, log_records
from tests.support.cluster import PARTITIONS, Cluster, Note, until
from tests.support.log_records import ACCOUNTS, Time
from tests.support.real_servers import Servers
from workers.consumer import Consumer
from workers.metrics import WorkerMetrics
from workers.migration_files import Migration
from workers.postgres import migrations, settling
from workers.postgres.migrations import run
from workers.postgres.migrations.run import NotUpgraded
from workers.redis import clients
from workers.redis.locks import PREFIX, RedisLocks
from workers.settlement.plan import LogRecord, Position

WISHED = EngineSpec(receivers=1, workers=2, console=True, balancer=False)

PER_S = 40
QUIET_WITHIN_S = 60.0
STALL_S = 3.0
BACK_WITHIN_S = 30.0
UPGRADES_MAX = 10


@pytest.fixture(scope="module")
def local_redis(servers: Servers) -> Redis:
    """In place of the one that all modules share."""
    return servers.start(partial(redis.running, name="forgetful-redis"))


@pytest.fixture
async def shell(local_redis: Redis) -> AsyncIterator[Any]:
    """A connection to Redis as an operator has it; its settings are as before after the test."""
    shell: Any = Client(port=local_redis.port)
    yield shell
    await shell.config_set("maxmemory", "0")
    await shell.flushall()
    await shell.aclose()


async def is_quiet(cluster: Cluster) -> bool:
    return await cluster.behind() == 0


async def effects(cluster: Cluster) -> tuple[Any, ...]:
    """What notifications have changed: orders, their histories, held rows, and all events that were ever written."""
    (row,) = await cluster.sql(
        """
        SELECT (SELECT md5(string_agg(facts, ''::bytea ORDER BY account, order_number)) FROM orders),
            (SELECT sum(version) FROM orders), (SELECT count(*) FROM notifications), (SELECT count(*) FROM deliveries),
            (SELECT count(*) FROM deliveries WHERE disposition = 'applied'), (SELECT count(*) FROM held),
            (SELECT count(*) FROM outbox)
        """
    )
    return tuple(row)


# Redis


async def fill(shell: Any) -> None:
    """Write more than Redis may keep, so that it evicts what was used least lately."""
    for number in range(50):
        await shell.set(f"of-another-program:{time.monotonic_ns()}:{number}", b"x" * 20_000)


async def expire(shell: Any) -> None:
    """End locks and done-markers as a clock that jumps ahead does, or delete them."""
    for number, name in enumerate(await shell.keys(PREFIX + b"*")):
        await (shell.pexpire(name, 1) if number % 2 else shell.delete(name))


@asynccontextmanager
async def meanwhile(meddle: Callable[[], Awaitable[None]], every_s: float) -> AsyncIterator[None]:
    """Meddle again and again until the block ends."""

    is_over = asyncio.Event()

    async def again() -> None:
        while not is_over.is_set():
            await meddle()
            await asyncio.sleep(every_s)

    meddling = asyncio.create_task(again())
    try:
        yield
    finally:
        is_over.set()
        await meddling  # it is not cancelled: the client of Redis may swallow that


async def settled_with_a_change_of_workers(cluster: Cluster) -> None:
    """Send load while a worker joins and another dies, so that two workers meet the same records."""
    doomed = cluster.engine.workers[0]
    async with cluster.sending(rate=PER_S, seconds=120) as load:
        await asyncio.sleep(2)
        async with roles.together([cluster.another("worker", f"late-{time.monotonic_ns()}")]):
            await asyncio.sleep(2)
            await doomed.process.kill()
            await asyncio.sleep(2)
    assert load.failed() == []
    await load.judged()


async def test_evicted_locks_and_markers_cost_no_effect(cluster: Cluster, shell: Any, measured: Note) -> None:
    await shell.config_set("maxmemory-policy", "allkeys-lru")
    await shell.config_set("maxmemory", "3mb")
    async with meanwhile(partial(fill, shell), every_s=0.2):
        await settled_with_a_change_of_workers(cluster)
    evicted = (await shell.info("stats"))["evicted_keys"]
    orders = await cluster.one("SELECT count(*) FROM orders")
    measured("keys evicted", evicted)
    assert evicted > 0
    assert len(await shell.keys(PREFIX + b"*")) < orders, "markers of processed records are evicted too"


async def test_locks_that_expire_or_are_deleted_at_any_moment_cost_no_effect(
    cluster: Cluster, shell: Any, measured: Note
) -> None:
    ended = 0

    async def meddle() -> None:
        nonlocal ended
        before = await shell.dbsize()
        await expire(shell)
        ended += before

    async with meanwhile(meddle, every_s=0.02):
        await settled_with_a_change_of_workers(cluster)
    measured("locks and markers ended", ended)
    assert ended > PER_S


class Redelivered:
    """A source that has one batch, for the worker that had it first and for the one that took its partition over."""

    def __init__(self, batch: Sequence[LogRecord]) -> None:
        self._batch = batch
        self.committed: list[Position] = []

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        batch, self._batch = self._batch, ()
        return batch

    async def commit(self, upto: Sequence[Position]) -> None:
        self.committed += upto


async def test_work_longer_than_its_lock_is_fenced_by_the_store(
    local_postgres: Postgres, local_redis: Redis, shell: Any, monkeypatch: pytest.MonkeyPatch, measured: Note
) -> None:
    """The first worker stands for 2 s between reading and writing; its locks of 200 ms end, and its heir takes over."""
    place = Schema(local_postgres, None, Time())
    locks = RedisLocks(clients.connect(local_redis.url), prefix=place.name.encode(), ttl_ms=200)
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(20)])
    registry, heirs = CollectorRegistry(), CollectorRegistry()
    write, is_first = settling.write, [True]
    reached = asyncio.Event()

    async def slow_at_first(*arguments: Any, **options: Any) -> Any:
        if is_first:
            is_first.clear()
            reached.set()
            await asyncio.sleep(2)
        return await write(*arguments, **options)

    monkeypatch.setattr(settling, "write", slow_at_first)
    async with place.store() as slow, place.store() as quick:
        consumers = [
            Consumer(
                source=Redelivered(batch),
                locks=locks,
                process=log_records.processing(store, Time()).process,
                wake_relay=lambda: None,
                observer=WorkerMetrics(each, ACCOUNTS, now_ms=Time()),
                token=token,
                fatal=begun.without_notes(),
                are_settled=store.are_settled,
            )
            for store, each, token in ((slow, registry, b"slow"), (quick, heirs, b"quick"))
        ]
        first = asyncio.create_task(consumers[0].run_once())
        await reached.wait()
        await until(lambda: no_locks(shell, place.name), 10)
        assert await consumers[1].run_once() == len(batch)
        assert not first.done(), "the heir was done while the first one stood"
        assert await first == len(batch)
        pages = [await quick.order_page("shop-sg", f"N{number}") for number in range(20)]
    await locks.close()
    for page in pages:
        assert page is not None
        assert (len(page.deliveries), len(page.events)) == (1, 1)
    fenced = [each.get_sample_value("alipay_notify_fenced_writes_total") for each in (registry, heirs)]
    measured("fenced writes", fenced[0] or 0)
    assert (fenced[0] or 0) > 0
    assert fenced[1] == 0


async def no_locks(shell: Any, prefix: str) -> bool:
    return not await shell.keys(f"{prefix}*")


# The log


async def test_log_read_from_its_begin_without_any_marker_has_no_effect(
    cluster: Cluster, shell: Any, measured: Note
) -> None:
    """An operator rewinds the group, a year later: Redis has forgotten everything."""
    async with cluster.sending(rate=PER_S, seconds=60) as load:
        await asyncio.sleep(4)
    await load.judged()
    await until(partial(is_quiet, cluster), QUIET_WITHIN_S)
    before = await effects(cluster)
    await asyncio.gather(*(role.process.stop() for role in cluster.engine.workers))
    await shell.flushall()
    records = await rewind(cluster)
    assert await cluster.behind() == records
    for role in cluster.engine.workers:
        role.process.spawn()
    await cluster.whole()
    await until(partial(is_quiet, cluster), QUIET_WITHIN_S)
    measured("records read again", records)
    assert records >= len(load.succeeded())
    assert await effects(cluster) == before
    await load.judged()


async def rewind(cluster: Cluster) -> int:
    """Set the group, which has no members, to the begin of the log; return how many records it has to read."""
    asked = [TopicPartition(cluster.topic(topics.NOTIFICATION), number) for number in range(PARTITIONS)]
    operator = AIOKafkaConsumer(
        bootstrap_servers=cluster.kafka.bootstrap, group_id=cluster.prefix, enable_auto_commit=False
    )
    operator.assign(asked)
    await operator.start()
    try:
        begins, ends = await operator.beginning_offsets(asked), await operator.end_offsets(asked)
        await operator.commit(begins)
        return int(sum(ends.values()) - sum(begins.values()))
    finally:
        await operator.stop()


# PostgreSQL


async def test_stalled_writes_of_postgresql_delay_and_lose_nothing(cluster: Cluster, measured: Note) -> None:
    """As when its disk does not answer: sessions and the writer of its log stand still in the middle of their work."""
    async with cluster.sending(rate=PER_S, seconds=120) as load:
        await asyncio.sleep(2)
        behind = []
        for _ in range(2):
            async with stalled(cluster):
                await asyncio.sleep(STALL_S)
                behind.append(await cluster.behind())
            await asyncio.sleep(1)
        healed_s = time.monotonic()
    assert load.failed() == []
    assert min(behind) >= PER_S / 4, "the lag grows meanwhile"
    measured("most records behind", max(behind))
    await until(partial(is_quiet, cluster), BACK_WITHIN_S)
    measured("quiet after", time.monotonic() - healed_s)
    await load.judged()


@asynccontextmanager
async def stalled(cluster: Cluster) -> AsyncIterator[None]:
    """Freeze the writer of the write-ahead log and all sessions of our processes, until the block ends."""
    found = await cluster.sql(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter' OR application_name = 'alipay-notify'"
    )
    frozen = [psutil.Process(row["pid"]) for row in found]
    assert len(frozen) > 1
    try:
        for each in frozen:
            each.send_signal(signal.SIGSTOP)
        yield
    finally:
        for each in frozen:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


# What a release may do with the schema: tables, columns and indexes are added, then an index is replaced.
NEXT_RELEASE = (
    """-- expand
    CREATE TABLE next_release (number bigint PRIMARY KEY);
    ALTER TABLE orders ADD COLUMN of_next_release text;
    ALTER TABLE held ADD COLUMN of_next_release integer NOT NULL DEFAULT 0;
    ALTER TABLE outbox ADD COLUMN of_next_release text;""",
    """-- expand
    CREATE INDEX deliveries_by_order_again ON deliveries (order_number, account);
    CREATE INDEX outbox_of_next_release ON outbox (topic, number);""",
    "-- contract\nDROP INDEX deliveries_by_order;",
)


async def upgrade(dsn: str) -> list[str]:
    """Upgrade as the documentation says: run it again when a step has waited too long for a table."""
    done: list[str] = []
    for _ in range(UPGRADES_MAX):
        try:
            return done + await run.upgrade(dsn)
        except NotUpgraded as ended:
            done += ended.done
    raise AssertionError(f"not upgraded in {UPGRADES_MAX} runs")


async def test_schema_is_upgraded_under_traffic(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, measured: Note
) -> None:
    """The workers that run, and those that are started after it, apply every notification meanwhile."""
    known = migrations.steps()
    steps = [
        Migration(number, f"{number:04d}_next_{number}", sql) for number, sql in enumerate(NEXT_RELEASE, len(known) + 1)
    ]
    monkeypatch.setattr(migrations, "steps", lambda: [*known, *steps])
    async with cluster.sending(rate=PER_S, seconds=120) as load:
        await asyncio.sleep(2)
        began_s = time.monotonic()
        done = await asyncio.gather(upgrade(cluster.dsn), upgrade(cluster.dsn))
        measured("steps applied in", time.monotonic() - began_s)
        assert sorted(itertools.chain(*done)) == [step.name for step in steps], "each once, by one of two upgrades"
        upgraded = time.time()
        settled = "SELECT count(*) > 0 FROM deliveries WHERE decided_at > to_timestamp($1)"
        await until(partial(cluster.one, settled, upgraded), BACK_WITHIN_S)
        for role in cluster.engine.workers:  # now the programs, one after another
            await role.process.stop()
            assert role.process.code == 0
            await role.process.start()
        await asyncio.sleep(1)
    assert load.failed() == []
    await load.judged()
    assert await cluster.one("SELECT count(*) = 0 FROM deliveries WHERE disposition = 'dead'")
