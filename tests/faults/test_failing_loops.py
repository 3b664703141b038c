"""Loops of a worker that fail by our own bug, stop by themselves, or never return: they stand alone, let go, come back.

On the cluster, with other workers that take over, and on the embedded engine, whose receiver goes on.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from msgspec import structs

from deploy import exits
from deploy.local import ports, roles
from deploy.local.engine import EngineSpec
from deploy.local.roles import Program, Role
from deploy.sandbox.world import World
from schemas import topics
from tests.acceptance import dumps
from tests.support import cluster as clusters
from tests.support import flood_corpus
from tests.support.cluster import SESSION_S, Cluster, Note, is_ready, metrics, partitions, until
from tests.support.processes import Engine, eventually
from workers.dead_letters import IN_A_ROW_MAX

WISHED = EngineSpec(receivers=1, workers=2, console=True, balancer=False, sandbox=True)

PER_S = 40
PROGRAM = (sys.executable, "-P", "-m", "tests.faults.failing_loops")
LEASE_S = 15.0
ENDINGS_MAX = 8  # a rebalance lets one more begin with the batch, and dead letters of earlier tests stop another


def failing(cluster: Cluster, loop: str, **environment: str) -> Role:
    """One more worker, not started, with a bug in this loop."""
    program = Program(argv=PROGRAM, settings=cluster.program.settings)
    (admin,) = ports.free(1)
    environ = {**cluster.machine.environ, "FAIL_LOOP": loop, **environment}
    machine = structs.replace(cluster.machine, environ=environ)
    return roles.inner(cluster.directory, machine, program, command="worker", name=f"worker-{loop}", admin=admin)


async def write_garbage(cluster: Cluster, partition: int, count: int) -> None:
    """Append records to the log that no receiver wrote, one after the other."""
    producer = AIOKafkaProducer(bootstrap_servers=cluster.kafka.bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        for number in range(count):
            assert batch.append(key=None, value=b"garbage %d" % number, timestamp=None) is not None
        await (await producer.send_batch(batch, cluster.topic(topics.NOTIFICATION), partition=partition))
    finally:
        await producer.stop()


async def verbose(role: Role) -> dict[str, str]:
    """The details of the checks that are not good, by name."""
    body = json.loads(await ports.body(role.admin_port, "/readyz?verbose"))
    return {check["name"]: check["detail"] for check in body["checks"] if not check["ok"]}


async def test_worker_that_stops_itself_hands_over_ends_and_works_again(cluster: Cluster, measured: Note) -> None:
    stopped, heir = cluster.engine.workers
    async with cluster.sending(rate=PER_S, seconds=90) as load:
        await until(lambda: clusters.share_all(cluster), 30)
        left = partitions(await metrics(stopped))
        began_at, began_s = time.time(), time.monotonic()
        await write_garbage(cluster, min(left), IN_A_ROW_MAX + 5)
        await until(lambda: "worker stopped" in stopped.process.output(), 30)
        stopped_at, stopped_s = time.time(), time.monotonic()
        await until(lambda: clusters.has_all(heir), 30)
        taken_over_s = time.monotonic() - stopped_s
        assert await stopped.process.ended(30)
        ended_s = time.monotonic() - stopped_s
        assert stopped.process.code == exits.STOPPED_ITSELF
        assert not await ports.is_ok(stopped.admin_port, "/livez")
        await asyncio.sleep(1)
        await stopped.process.start()  # as a service manager does
        await until(lambda: clusters.share_all(cluster), 30)
        await asyncio.sleep(1)
    settled = await first_settled(cluster, left, received_after=stopped_at)
    measured("stopped after", stopped_s - began_s)
    measured("the other has all partitions after", taken_over_s)
    measured("its partitions are worked on again after", settled - stopped_at)
    measured("ended after", ended_s)
    assert taken_over_s < SESSION_S, "it did not wait for the session of the stopped one to end"
    assert load.failed() == []
    line = next(json.loads(line) for line in first_output(stopped) if '"worker stopped"' in line)
    assert (line["loop"], line["reason"]) == ("consumer", "dead_letters")
    dead = await cluster.one(
        "SELECT count(*) FROM held WHERE disposition = 'dead' AND first_at >= to_timestamp($1)", began_at - 1
    )
    assert dead == IN_A_ROW_MAX + 5
    await load.judged()


def first_output(role: Role) -> list[str]:
    """All lines that the process has logged, also before its last start."""
    return role.process._directory.log(role.name).read_text(errors="replace").splitlines()


async def first_settled(cluster: Cluster, left: set[int], *, received_after: float) -> float:
    """When the last of these partitions saw a disposition again, of a record received after that moment."""
    found = await cluster.sql(
        "SELECT extract(epoch FROM min(decided_at))::float8 AS at FROM deliveries "
        "WHERE received_at > to_timestamp($1) AND log_partition = ANY($2) GROUP BY log_partition",
        received_after,
        sorted(left),
    )
    return max(float(row["at"]) for row in found)


async def test_bug_in_a_consumer_ends_its_process_and_the_group_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    begin = tmp_path / "begin"
    faulty = failing(cluster, "consumer", FAIL_FILE=str(begin))
    async with cluster.sending(rate=PER_S, seconds=90) as load:
        await faulty.process.start()
        await until(lambda: shares(faulty), 30)
        begin.touch()
        assert await faulty.process.ended(30)
        await until(lambda: clusters.share_all(cluster), SESSION_S)
    assert faulty.process.code == exits.STOPPED_ITSELF
    assert '"reason":"bug"' in faulty.process.output()
    assert "KeyError" in faulty.process.output()
    assert load.failed() == []
    await load.judged()


async def shares(role: Role) -> bool:
    return bool(partitions(await metrics(role)))


async def test_bug_in_the_leaders_sweeper_leaves_sweeping_to_another_worker(cluster: Cluster, measured: Note) -> None:
    await asyncio.gather(*(role.process.stop() for role in cluster.engine.workers))
    faulty, (other, _) = failing(cluster, "sweeper"), cluster.engine.workers
    public, world = cluster.engine.public_url, str(cluster.engine.world.directory)
    async with roles.together([faulty]), ClientSession() as http:
        await until(lambda: names_trouble(faulty, "sweeper"), 30)
        assert await is_ready(faulty), "new notifications get their dispositions"
        await cluster.command(
            "trigger", "paid", "--account", "demo-web", "--order", "SW-1", "--amount", "12.80",
            "--to", public, "--dir", world,
        )  # fmt: skip
        await until(lambda: cluster.one("SELECT count(*) FROM held WHERE order_number = 'SW-1'"), 30)
        await other.process.start()
        began_s = time.monotonic()
        url = f"{cluster.console.admin_url}/api/orders/demo-web/SW-1"
        async with http.put(url, json={"amount": "12.80"}) as answer:
            assert answer.status in (200, 201), await answer.text()
        resolved = "SELECT count(*) FROM held WHERE order_number = 'SW-1' AND resolved_at IS NOT NULL"
        await until(lambda: cluster.one(resolved), LEASE_S + 15)
        measured("parked payment applied by the other worker after", time.monotonic() - began_s)
        samples = await metrics(faulty)
        assert samples['alipay_notify_worker_loop_failures_total{loop="sweeper",reason="bug"}'] >= 1
        assert faulty.process.runs
    assert faulty.process.code == exits.DONE


async def names_trouble(role: Role, loop: str) -> bool:
    return loop in (await verbose(role)).get("loops", "")


async def test_notification_that_a_worker_never_finishes_is_set_aside_alone(cluster: Cluster, measured: Note) -> None:
    await asyncio.gather(*(role.process.stop() for role in cluster.engine.workers))
    faulty = failing(cluster, "decide", STAND_AT="decide", STAND_ORDER="NEVER", ALIPAY_NOTIFY_HANDLING_LIMIT_S="2")
    async with roles.together([faulty]):
        began_s = time.monotonic()
        for order in ("N-1", "N-2", "NEVER", "N-3", "N-4"):
            await cluster.command(
                "trigger", "paid", "--account", "demo-cn", "--order", order, "--amount", "12.80",
                "--to", cluster.engine.public_url, "--dir", str(cluster.engine.world.directory),
            )  # fmt: skip
        held = "SELECT count(*) FROM deliveries WHERE reason = 'our_fault' AND order_number = 'NEVER'"
        await until(lambda: cluster.one(held), 120)
        await until(lambda: cluster.one("SELECT count(*) = 4 FROM orders WHERE order_number LIKE 'N-%'"), 60)
        measured("set aside, and all others applied, after", time.monotonic() - began_s)
        assert (await metrics(faulty))['alipay_notify_handling_interrupted_total{step="decide"}'] >= 1
        assert faulty.process.runs
    assert faulty.process.code == exits.DONE


async def test_notification_that_ends_each_worker_is_set_aside_alone(cluster: Cluster, measured: Note) -> None:
    await asyncio.gather(*(role.process.stop() for role in cluster.engine.workers))
    for order in ("E-1", "E-2", "ENDS", "E-3", "E-4"):
        await cluster.command(
            "trigger", "paid", "--account", "demo-cn", "--order", order, "--amount", "12.80",
            "--to", cluster.engine.public_url, "--dir", str(cluster.engine.world.directory),
        )  # fmt: skip
    faulty, began_s, endings = failing(cluster, "ends", END_AT="read", END_ORDER="ENDS"), time.monotonic(), 0
    settled = "SELECT count(*) = 4 FROM orders WHERE order_number LIKE 'E-%'"
    dead = "SELECT count(*) FROM held WHERE disposition = 'dead' AND reason = 'ended_process'"
    in_hand = "SELECT count(*) FROM begun WHERE is_alone"
    faulty.process.spawn()
    try:
        while not (await cluster.one(settled) and await cluster.one(dead)) or await cluster.one(in_hand):
            if not faulty.process.runs:
                endings += 1
                assert endings <= ENDINGS_MAX
                faulty.process.spawn()  # as a service manager does
            await asyncio.sleep(0.1)
    finally:
        await faulty.process.stop()
    measured("endings", endings)
    measured("set aside, and all others applied, after", time.monotonic() - began_s)
    assert await cluster.one(dead) == 1
    assert await cluster.one("SELECT count(*) FROM held WHERE order_number LIKE 'E-%'") == 0


# The embedded engine


@pytest.fixture
def items(world: World) -> list[flood_corpus.Item]:
    made = flood_corpus.generate(world, seed=23, orders=10, now=datetime.now(UTC), accounts=("demo-cn",))
    return [item for item in made if not item.refused]


async def send(engine: Engine, items: list[flood_corpus.Item]) -> list[int]:
    statuses = []
    async with aiohttp.ClientSession() as session:
        for item in items:
            async with session.post(engine.public + item.path, data=item.body, headers=dict(item.headers)) as answer:
                statuses.append(answer.status)
    return statuses


async def send_until_accepted(engine: Engine, items: list[flood_corpus.Item]) -> None:
    """Send as Alipay does, once more after a 503: while its event loop stands, the engine may miss a deadline."""
    async with asyncio.timeout(120):
        left = items
        while left:
            statuses = await send(engine, left)
            assert set(statuses) <= {200, 503}
            left = [item for item, status in zip(left, statuses, strict=True) if status != 200]


async def test_engine_acknowledges_while_its_consumer_stands_and_restarts_it(
    engine: Engine, items: list[flood_corpus.Item], tmp_path: Path, measured: Note
) -> None:
    engine.start("tests.faults.failing_loops", FAIL_LOOP="consumer", FAIL_ROUNDS="4")
    eventually(lambda: engine.get("/readyz?verbose")[1]["checks"])
    statuses = await send(engine, items)
    assert set(statuses) == {200}
    status, body = engine.get("/readyz?verbose")
    standing = {check["name"]: check for check in body["checks"]}["worker"]
    assert (status, standing["ok"], standing["detail"]) == (200, False, "failed: KeyError")
    assert engine.get("/readyz?verbose")[0] == 200
    began_s = time.monotonic()
    eventually(lambda: dispositions(tmp_path) == len(items), within_s=60)
    measured("all applied after the last bug, s", time.monotonic() - began_s)
    failures = engine.metrics()['alipay_notify_worker_loop_failures_total{loop="consumer",reason="bug"}']
    assert failures == 4
    assert engine.stop() == 0


def dispositions(tmp_path: Path) -> int:
    return len(dumps.of_files(tmp_path / "engine").deliveries)


@pytest.mark.parametrize("loop", ["sweeper", "replayer", "relay"])
async def test_bug_in_another_loop_of_the_engine_stops_no_notification(
    engine: Engine, items: list[flood_corpus.Item], tmp_path: Path, loop: str
) -> None:
    engine.start("tests.faults.failing_loops", FAIL_LOOP=loop)
    assert set(await send(engine, items)) == {200}
    eventually(lambda: dispositions(tmp_path) == len(items), within_s=30)
    status, body = engine.get("/readyz?verbose")
    checks = {check["name"]: check for check in body["checks"]}
    assert (status, checks["worker"]["ok"], checks["loops"]["detail"]) == (200, True, f"{loop} failed: KeyError")
    assert engine.stop() == 0


@pytest.mark.parametrize("step", ["read", "decide"])
async def test_notification_that_the_engine_never_finishes_is_set_aside_alone(
    engine: Engine, items: list[flood_corpus.Item], tmp_path: Path, step: str
) -> None:
    standing = items[len(items) // 2].order
    engine.start("tests.faults.failing_loops", STAND_AT=step, STAND_ORDER=standing, ALIPAY_NOTIFY_HANDLING_LIMIT_S="2")
    await send_until_accepted(engine, items)
    eventually(lambda: all_settled(tmp_path), within_s=120)
    left = dumps.of_files(tmp_path / "engine").deliveries
    dead = [row for row in left if row["disposition"] == "dead"]
    assert {row["reason"] for row in dead} == {"our_fault"}
    assert len(dead) >= sum(item.order == standing for item in items)
    assert {row["order_number"] for row in dead} <= {standing, ""}
    assert engine.metrics()[f'alipay_notify_handling_interrupted_total{{step="{step}"}}'] >= 1
    assert engine.stop() == 0


@pytest.mark.parametrize("step", ["read", "decide"])
async def test_engine_that_cannot_be_interrupted_ends_and_goes_on_after_its_restart(
    engine: Engine, items: list[flood_corpus.Item], tmp_path: Path, step: str
) -> None:
    engine.start(
        "tests.faults.failing_loops",
        STAND_AT=step,
        STAND_ORDER=items[-1].order,
        STAND_FOR_GOOD="1",
        ALIPAY_NOTIFY_HANDLING_LIMIT_S="2",
        ALIPAY_NOTIFY_STANDSTILL_LIMIT_S="4",
    )
    with contextlib.suppress(aiohttp.ClientError):  # it may stand, and end, while the last ones are sent
        await send(engine, items)
    assert await asyncio.to_thread(engine.died, 120) == exits.STOPPED_ITSELF
    log = engine.log.read_text(errors="replace")
    assert '"event":"process stands still"' in log
    assert "in stand\n" in log, "it says where it stands"
    engine.start()
    statuses = await send(engine, items)
    assert set(statuses) == {200}
    left = eventually(lambda: all_settled(tmp_path), within_s=120)
    assert {row["disposition"] for row in left} <= {"applied", "duplicate", "stale"}
    assert engine.stop() == 0


def all_settled(tmp_path: Path) -> list[Mapping[str, Any]]:
    """The deliveries, when there is one for each record of the journal; nothing before."""
    found = dumps.of_files(tmp_path / "engine")
    return list(found.deliveries) if len(found.deliveries) == len(found.bodies) else []
