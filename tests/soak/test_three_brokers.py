"""Faults of one of three brokers, and weakened topics, under a running cluster with full guarantees."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from deploy.cluster import kafka_admin
from deploy.local.directory import Directory
from deploy.local.engine import EngineSpec
from deploy.local.kafka import cluster as kafkas
from deploy.local.kafka.cluster import Broker
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.processes import DidNotStart
from deploy.local.redis import Redis
from schemas import topics
from tests.faults import storms
from tests.support import cluster as clusters
from tests.support import real_servers
from tests.support.cluster import Cluster, Note, Sending, is_ready, until

BROKERS = 3
PER_S = 40
# Until the controllers take a silent broker for dead, which is nine seconds, no record is in all in-sync replicas,
# whichever broker leads its partition.
ACKS_AGAIN_S = 15.0
STEADY_S = 3.0
FREEZES = 2
FROZEN_S = 12.0  # beyond the brokers' session, and beyond the requests' deadline
BURST_S = 3.0
GUESTS = 10
ALONE_S = 4.0  # less than the brokers' session
LOOK_S = 2.0  # shipped: a minute
NOTICED_S = 3 * LOOK_S
CORRECTED_S = 30.0


@pytest.fixture(scope="module")
def started(local_postgres: Postgres, local_redis: Redis) -> Iterator[Cluster]:
    servers = real_servers.Servers()
    wished = EngineSpec(receivers=2, workers=2, console=True, balancer=True)

    @asynccontextmanager
    async def running(directory: Directory, machine: Machine) -> AsyncIterator[Cluster]:
        async with (
            kafkas.running(directory, machine, brokers=BROKERS) as kafka,
            clusters.running(
                directory,
                machine,
                wished,
                kafka=kafka,
                postgres=local_postgres,
                redis=local_redis,
                topics_look_interval_s=str(LOOK_S),
            ) as one,
        ):
            yield one

    try:
        yield servers.start(running)
    finally:
        servers.end()


@pytest.fixture
async def cluster(started: Cluster) -> AsyncIterator[Cluster]:
    yield started
    await whole(started)
    await started.whole()


async def test_killed_leader_costs_seconds_and_no_acknowledged_record(cluster: Cluster, measured: Note) -> None:
    leader = await busiest(cluster)
    async with cluster.sending(rate=PER_S, seconds=90) as load:
        await asyncio.sleep(1)
        killed_at = time.monotonic()
        await leader.process.kill()
        await until(lambda: is_steady(load, since=killed_at), ACKS_AGAIN_S + STEADY_S)
    failed = load.failed(since=killed_at)
    measured("acks again after", max((each.ended for each in failed), default=killed_at) - killed_at)
    measured("refused", len(failed))
    measured("acknowledged in the first five seconds", len(load.succeeded(since=killed_at, upto=killed_at + 5)))
    measured("longest answer", max(each.ended - each.began for each in load.attempts))
    assert max((each.ended for each in failed), default=killed_at) - killed_at < ACKS_AGAIN_S
    assert {each.status for each in failed} <= {503}
    await load.judged()


async def test_leader_that_shuts_down_is_hardly_noticed(cluster: Cluster, measured: Note) -> None:
    leader = await busiest(cluster)
    async with cluster.sending(rate=PER_S, seconds=60) as load:
        await asyncio.sleep(1)
        await leader.process.stop()
        assert leader.process.code != -signal.SIGKILL, "it left in good order"
        await asyncio.sleep(BURST_S + 1)
    failed = load.failed()
    # By when they were sent: how long each then waits for its 503 is its deadline's, and no part of the burst.
    sent = [each.began for each in failed]
    burst_s = max(sent) - min(sent) if sent else 0.0
    measured("burst of 503", burst_s)
    measured("refused", len(failed))
    assert burst_s < BURST_S
    assert {each.status for each in failed} <= {503}
    await load.judged()


async def test_each_broker_killed_in_turn_costs_seconds_and_no_acknowledged_record(
    cluster: Cluster, measured: Note
) -> None:
    """So the active controller, the group's coordinator and each leader are among them, whichever broker that is."""
    async with cluster.sending(rate=PER_S, seconds=300) as load:
        for broker in cluster.kafka.brokers:
            await asyncio.sleep(1)
            killed_at = time.monotonic()
            await broker.process.kill()
            await until(partial(is_steady, load, since=killed_at), 2 * ACKS_AGAIN_S + STEADY_S)
            failed = load.failed(since=killed_at)
            measured("acks again after", max((each.ended for each in failed), default=killed_at) - killed_at)
            await whole(cluster)
    assert {each.status for each in load.failed()} <= {503}
    await load.judged()


async def test_two_brokers_that_freeze_and_thaw_lose_no_acknowledged_record(cluster: Cluster, measured: Note) -> None:
    """The third cannot acknowledge alone, and forgets nothing when its leadership moves back and forth."""
    async with cluster.sending(rate=PER_S, seconds=300) as load:
        for turn in range(FREEZES):
            await asyncio.sleep(1)
            frozen = [broker for broker in cluster.kafka.brokers if broker.node.number % BROKERS != turn]
            for broker in frozen:
                broker.process.freeze()
            await asyncio.sleep(FROZEN_S)
            for broker in frozen:
                broker.process.thaw()
            thawed_at = time.monotonic()
            await until(partial(is_steady, load, since=thawed_at), 60)
            again_at = min(each.ended for each in load.succeeded(since=thawed_at))
            measured("acks again after", again_at - thawed_at)
            await whole(cluster)
    assert {each.status for each in load.failed()} <= {503}
    await load.judged()


async def test_last_broker_standing_that_loses_its_tail_takes_no_acknowledged_record_along(
    cluster: Cluster, measured: Note
) -> None:
    last = await busiest(cluster)
    others = [broker for broker in cluster.kafka.brokers if broker is not last]
    async with cluster.sending(rate=PER_S, seconds=300) as load:
        await asyncio.sleep(2)
        for broker in others:
            broker.process.freeze()
        alone_at, written = time.monotonic(), segments(cluster, last)
        await until(lambda: len(longer(written, segments(cluster, last))) > 1, 30)
        await asyncio.sleep(ALONE_S)
        await last.process.kill()
        killed_at = time.monotonic()
        lost = longer(written, segments(cluster, last))
        for segment in lost:
            os.truncate(segment, written[segment] // 2)  # what is acknowledged too, as after a loss of power
        for broker in others:
            broker.process.thaw()
        await last.process.start()
        await until(partial(is_steady, load, since=killed_at), 90)
        await whole(cluster)
    measured("segments cut", len(lost))
    assert load.succeeded(since=alone_at, upto=killed_at) == [], "one broker of three acknowledges nothing"
    assert {each.status for each in load.failed()} <= {503}
    await load.judged()


async def test_storm_of_rebalances_stops_no_progress(cluster: Cluster, measured: Note) -> None:
    async with cluster.sending(rate=PER_S, seconds=40 * GUESTS) as load:
        await storms.rebalances(cluster, turns=GUESTS, measured=measured)
    assert {each.status for each in load.failed()} <= {503}
    await load.judged()


async def test_receiver_acknowledges_nothing_while_its_topic_is_too_weak(cluster: Cluster, measured: Note) -> None:
    name = cluster.topic(topics.NOTIFICATION)
    async with cluster.sending(rate=PER_S, seconds=120) as load:
        await asyncio.sleep(1)
        weakened_at = time.monotonic()
        async with kafka_admin.connected({"bootstrap_servers": cluster.kafka.bootstrap}) as admin:
            await admin.set_config(name, {"min.insync.replicas": "1"})
        await until(lambda: none_ready(cluster), NOTICED_S)
        noticed_at = time.monotonic()
        await asyncio.sleep(1)
        await a_start_is_refused(cluster, name)
        await development_starts(cluster)
        assert await none_ready(cluster)
        applied_at = time.monotonic()
        await cluster.apply_topics()
        await until(lambda: all_ready(cluster), CORRECTED_S)
        corrected_at = time.monotonic()
        await until(lambda: load.first_success_after(corrected_at), CORRECTED_S)
    measured("noticed, looking every two seconds", noticed_at - weakened_at)
    measured("ready again, from the call of `topics apply` on", corrected_at - applied_at)
    assert load.succeeded(since=noticed_at, upto=applied_at) == []
    assert {each.status for each in load.failed()} == {503}
    await load.judged()


def is_steady(load: Sending, *, since: float) -> bool:
    """Whether for some seconds all went well."""
    steady_from = max(since, time.monotonic() - STEADY_S)
    return (
        steady_from > since
        and bool(load.succeeded(since=steady_from))
        and not any(each.ended > steady_from for each in load.failed(since=since))
    )


def segments(cluster: Cluster, broker: Broker) -> dict[Path, int]:
    """The files of the notification topic at this broker, and their sizes."""
    home = cluster.directory.home(f"kafka-{broker.node.number}-of-{BROKERS}")
    return {file: file.stat().st_size for file in home.glob(f"files/{cluster.topic(topics.NOTIFICATION)}-*/*.log")}


def longer(before: Mapping[Path, int], now: Mapping[Path, int]) -> list[Path]:
    return [file for file, size in now.items() if size > before.get(file, 0)]


async def a_start_is_refused(cluster: Cluster, name: str) -> None:
    """By name, with what to do."""
    strict = cluster.another("ingest", "ingest-strict")
    with pytest.raises(DidNotStart):
        await strict.process.start()
    assert strict.process.code == 1
    said = strict.process.output()
    assert f"{name} has min.insync.replicas 1; it must be at least 2" in said
    assert "alipay-notify topics apply" in said
    assert "Traceback" not in said


async def development_starts(cluster: Cluster) -> None:
    lenient = cluster.another("ingest", "ingest-lenient", development="true", drain_delay_s=0)
    async with lenient.process.running():
        assert await is_ready(lenient)


async def none_ready(cluster: Cluster) -> bool:
    return not any([await is_ready(role) for role in cluster.engine.receivers])


async def all_ready(cluster: Cluster) -> bool:
    return all([await is_ready(role) for role in cluster.engine.receivers])


async def busiest(cluster: Cluster) -> Broker:
    """The broker that leads most partitions of the notification topic."""
    leaders = Counter(each.leader for each in await partitions(cluster))
    ((number, _),) = leaders.most_common(1)
    return next(broker for broker in cluster.kafka.brokers if broker.node.number == number)


async def whole(cluster: Cluster) -> None:
    """Have all brokers run, and each of them have all records."""
    for broker in cluster.kafka.brokers:
        if not broker.process.runs:
            await broker.process.start()
    await cluster.kafka.ready()
    await until(lambda: is_in_sync(cluster), 60, every_s=0.2)


async def is_in_sync(cluster: Cluster) -> bool:
    return all(len(each.isr) == BROKERS for each in await partitions(cluster))


async def partitions(cluster: Cluster) -> list[Any]:
    """The partitions of the notification topic, as the brokers describe them now."""
    name = cluster.topic(topics.NOTIFICATION)
    running = [broker.address for broker in cluster.kafka.brokers if broker.process.runs]
    client = AIOKafkaClient(bootstrap_servers=running)
    try:
        await client.bootstrap()
        await client.set_topics([name])
        return list(client.cluster._partitions[name].values())
    finally:
        await client.close()
