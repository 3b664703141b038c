"""Trouble of one event topic, or of some events, under a running cluster: all others go on.

One broker, Redis and PostgreSQL, which other tests use too; a receiver, two workers, a console.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from deploy.cluster import kafka_admin
from deploy.local import ports
from deploy.local.engine import EngineSpec
from deploy.local.roles import Role
from schemas import topics
from tests.support.cluster import Cluster, Note, is_ready, until
from tests.support.kafka_topics import admin

WISHED = EngineSpec(receivers=1, workers=2, console=True, sandbox=True)

PER_S = 30
OLDEST_S = 5.0  # the longest that an order event may wait while another topic is away
REFUSED = 600  # more than fit into a round of the relay
TOPIC_BYTES_MAX = 12_000


@pytest.fixture
async def cluster(started: Cluster) -> AsyncIterator[Cluster]:
    yield started
    await started.whole()
    await started.apply_topics()


async def delete(cluster: Cluster, *names: str) -> None:
    async with admin({"bootstrap_servers": cluster.kafka.bootstrap}) as asked:
        await asked.delete_topics([cluster.topic(name) for name in names])

        async def are_gone() -> bool:
            return not {cluster.topic(name) for name in names}.intersection(await asked.list_topics())

        await until(are_gone, 30, every_s=0.2)


async def oldest_s(cluster: Cluster, *names: str) -> float:
    """For how long the oldest unsent event of these topics waits; 0 if there is none."""
    waits = "SELECT extract(epoch FROM now() - min(written_at)) FROM outbox WHERE sent_at IS NULL AND topic = ANY($1)"
    return float(await cluster.one(waits, names) or 0)


async def waiting(cluster: Cluster, *names: str) -> int:
    return int(await cluster.one("SELECT count(*) FROM outbox WHERE sent_at IS NULL AND topic = ANY($1)", names))


async def troubles(role: Role) -> str:
    """What the process tells about the event topics."""
    checks = msgspec.json.decode(await ports.body(role.admin_port, "/readyz?verbose"))["checks"]
    return str(next(check["detail"] for check in checks if check["name"] == "events"))


async def park(cluster: Cluster, *names: str) -> None:
    """Payments of orders that are not registered: each is held, and a notice announces it."""
    for name in names:
        world = ("--to", cluster.engine.public_url, "--dir", str(cluster.engine.world.directory))
        await cluster.command("trigger", "paid", "--account", "demo-web", "--order", name, "--amount", "12.80", *world)


async def test_missing_topics_of_notices_delay_no_order_event(cluster: Cluster, measured: Note) -> None:
    await delete(cluster, topics.HELD, topics.NOTED)
    worst_s = 0.0
    async with cluster.sending(rate=PER_S, seconds=90) as load:
        await park(cluster, "NOTICE-1", "NOTICE-2")
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            worst_s = max(worst_s, await oldest_s(cluster, topics.ORDER_EVENT))
            await asyncio.sleep(0.2)
        told = [await troubles(role) for role in cluster.engine.workers]
    measured("order events waited at most", worst_s)
    assert await waiting(cluster, topics.HELD) >= 2
    assert any(cluster.topic(topics.HELD) in each for each in told)
    assert all([await is_ready(role) for role in cluster.engine.workers])
    assert worst_s < OLDEST_S
    await load.judged()
    await cluster.apply_topics()
    back_at = time.monotonic()

    async def is_sent() -> bool:
        return await waiting(cluster, topics.HELD, topics.NOTED) == 0

    await until(is_sent, 60, every_s=0.2)
    measured("notices sent, after their topics were made", time.monotonic() - back_at)

    async def nobody_complains() -> bool:
        return not any([await troubles(role) for role in cluster.engine.workers])

    await until(nobody_complains, 90, every_s=1)


async def test_missing_topics_of_order_events_delay_no_notice(cluster: Cluster, measured: Note) -> None:
    await delete(cluster, topics.ORDER_EVENT)
    async with cluster.sending(rate=PER_S, seconds=60) as load:
        await park(cluster, "NOTICE-3")
        await asyncio.sleep(8)
        assert await oldest_s(cluster, topics.HELD, topics.NOTED) < OLDEST_S
    assert await waiting(cluster, topics.ORDER_EVENT) > PER_S
    await cluster.apply_topics()
    await load.judged()


async def test_refused_events_starve_no_others_even_after_a_takeover(cluster: Cluster, measured: Note) -> None:
    """Left behind by a dead process, and too large for their topic: the leader meets all of them again and again."""
    names = (topics.ORDER_EVENT, topics.ORDER_STATE)
    await limit(cluster, TOPIC_BYTES_MAX)
    await leave_behind(cluster, REFUSED)
    worst_s = 0.0
    async with cluster.sending(rate=PER_S, seconds=120) as load:
        for victim in cluster.engine.workers:
            await asyncio.sleep(10)
            await victim.process.kill()
            await asyncio.sleep(10)
            victim.process.spawn()
            await victim.process.ready()
        rest = "SELECT extract(epoch FROM now() - min(written_at)) FROM outbox WHERE sent_at IS NULL AND id NOT LIKE $1"
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            worst_s = max(worst_s, float(await cluster.one(rest, "demo-cn:LARGE-%") or 0))
            await asyncio.sleep(0.2)
    measured("order events waited at most, at the end", worst_s)
    assert await waiting(cluster, *names) >= REFUSED
    await load.judged()
    await limit(cluster, 1_048_588)
    raised_at = time.monotonic()

    async def is_empty() -> bool:
        return await waiting(cluster, *names) == 0

    await until(is_empty, 120, every_s=0.5)
    measured("refused events sent, after the limit was raised", time.monotonic() - raised_at)
    versions = await left_behind_versions(cluster)
    assert len(versions) == REFUSED
    assert all(list(dict.fromkeys(each)) == [1, 2] for each in versions.values())


async def limit(cluster: Cluster, size: int) -> None:
    """Let the topics of order events take batches up to this size."""
    async with kafka_admin.connected({"bootstrap_servers": cluster.kafka.bootstrap}) as asked:
        for name in (topics.ORDER_EVENT, topics.ORDER_STATE):
            await asked.set_config(cluster.topic(name), {"max.message.bytes": str(size)})


async def leave_behind(cluster: Cluster, orders: int) -> None:
    """The first versions of these orders, too large; and the second ones behind them."""
    await cluster.sql(
        """
        INSERT INTO outbox (id, topic, key, value, headers, version, written_at)
        SELECT 'demo-cn:LARGE-' || number || ':' || version, $1, convert_to('demo-cn:LARGE-' || number, 'UTF8'),
            convert_to('{"version":' || version || ',"padding":"' || CASE version WHEN 1 THEN (
                SELECT string_agg(md5(number || '.' || piece), '') FROM generate_series(1, 1250) AS piece
            ) ELSE '' END || '"}', 'UTF8'), '\\x90', version, now()
        FROM generate_series(1, $2::bigint) AS number, generate_series(1, 2) AS version
        ORDER BY version, number
        """,
        topics.ORDER_EVENT,
        orders,
    )


async def left_behind_versions(cluster: Cluster) -> dict[bytes, list[int]]:
    """The versions of these orders in the event topic, in their order there."""
    reader = AIOKafkaConsumer(
        cluster.topic(topics.ORDER_EVENT), bootstrap_servers=cluster.kafka.bootstrap, auto_offset_reset="earliest"
    )
    await reader.start()
    try:
        found: dict[bytes, list[int]] = {}
        while records := await reader.getmany(timeout_ms=3000):
            for record in (each for batch in records.values() for each in batch if b":LARGE-" in each.key):
                found.setdefault(record.key, []).append(msgspec.json.decode(record.value)["version"])
        return found
    finally:
        await reader.stop()
