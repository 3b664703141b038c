"""The flood through the cluster engine, while each of its servers and processes is killed under it, one by one.

Judged from the stores alone: every record of the log's topic, every row of the order store, every copy in the topics
that consumers read, and the group's offsets are compared with the answers to the sender and with the model.
"""

import asyncio
import gc
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec import Struct

from deploy.local import postgres, redis
from deploy.local.directory import Directory
from deploy.local.engine import EngineSpec
from deploy.local.kafka import cluster as kafka
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.sandbox.delivery import PROFILES
from deploy.sandbox.world import World
from tests.acceptance import cluster_dumps, flood, judge, merchant, sending
from tests.acceptance.cluster_dumps import Stores
from tests.acceptance.dumps import EVENTS, Dumps
from tests.acceptance.nemesis import Nemesis
from tests.acceptance.sending import SILENT, History
from tests.support import cluster as clusters
from tests.support import real_servers, tally
from tests.support.cluster import Cluster, until
from tests.support.flood_corpus import Item

WISHED = EngineSpec(receivers=2, workers=2, console=True, balancer=True)
SESSION_S = 10.0
AT_ONCE = 128
# Alipay's own schedule, so much faster that an hour of it is some seconds, and no gap longer than those.
FASTER, GAP_MAX_S = 480, 5.0
GAPS_S = tuple(min(gap_s / FASTER, GAP_MAX_S) for gap_s in PROFILES["cn-4m"].gaps_s)
FLOOD_WITHIN_S = 900.0
QUIET_WITHIN_S = 180.0
WRONG_OF, WRONG_EVERY = ("demo-cn", "demo-md5", "demo-app"), 200


class Servers(Struct, frozen=True, kw_only=True):
    """The servers below the engine, and the items that will be sent."""

    directory: Directory
    machine: Machine
    kafka: Kafka
    postgres: Postgres
    redis: Redis
    world: World
    items: list[Item]


class Took:
    """How long each part took, and other figures; into the report, and on the terminal with `-s`."""

    def __init__(self, note: Callable[[str, object], None]) -> None:
        self._note = note
        self._since_s = time.monotonic()

    def part(self, name: str) -> None:
        """The part ends here, and began where the last one ended."""
        now_s = time.monotonic()
        self.figure(f"{name}, s", now_s - self._since_s)
        self._since_s = now_s

    def figure(self, what: str, figure: float) -> None:
        self._note(what, round(figure, 1))
        print(f"{what:<80}{figure:>12,.1f}")


@pytest.fixture
def took(record_property: Callable[[str, object], None]) -> Took:
    return Took(record_property)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "history.jsonl")) as history:
        yield history


async def test_flood_through_a_cluster_with_kills_ends_in_the_state_of_the_model(
    tmp_path: Path,
    history: History,
    took: Took,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")  # brokers are away on purpose
    async with _servers(tmp_path) as servers:
        items = servers.items
        wrong = merchant.wrongly_expected(items, WRONG_OF, every=WRONG_EVERY)
        refunds = merchant.entries(flood.refunds(items))
        took.part("starting the servers, and signing")
        async with _engine(servers) as cluster:
            took.part("starting the engine")
            stores = Stores(
                kafka=cluster.kafka.bootstrap, postgres=cluster.dsn, prefix=cluster.prefix, group=cluster.prefix
            )
            nemesis = Nemesis(cluster, servers.redis, stores, history, len(items), session_s=SESSION_S)
            await merchant.register(cluster.console.admin_url, wrong)
            with capfd.disabled():
                async with flood.shown(history, len(items)), asyncio.timeout(FLOOD_WITHIN_S):
                    await _flooded(cluster, items, refunds, nemesis, history)
            took.part("the flood")
            await _quiet(stores)
            took.part("until all was quiet")
        ends = {role.name: role.process.code for role in cluster.ours}
        assert set(ends.values()) == {0}, ends
        left = await cluster_dumps.of_stores(stores)
        took.part("stopping the engine, and dumping")

    took.part("stopping the servers")
    _report(took, items, history, nemesis, left)
    assert len(history.acknowledged) == sum(not item.refused for item in items)
    assert not {status for status in history.statuses if status >= 500} - {503}
    registered = merchant.registered([*wrong, *refunds])
    faults = judge.verdict(left, servers.world, sent=items, acknowledged=history.acknowledged, registered=registered)
    took.part("judging")
    assert faults[:5] == []
    tally.add(history.over)
    assert judge.unmet(history, left, faults=list(nemesis.faults)) == [], "a run that met nothing proves nothing"


async def _flooded(
    cluster: Cluster, items: list[Item], refunds: list[merchant.Entry], nemesis: Nemesis, history: History
) -> None:
    """Returns when all is acknowledged, registered, broken and mended."""

    async def by_and_by(place: int) -> None:
        """Refunds are registered before or after their notification arrives, by chance."""
        while history.over < len(items) * place / len(refunds):  # noqa: ASYNC110 - the history is only a count
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(nemesis.run())
        group.create_task(merchant.register(cluster.console.admin_url, refunds, gate=by_and_by))
        group.create_task(
            sending.send_all(
                items,
                lambda: cluster.engine.public_url,
                at_once=AT_ONCE,
                gaps_s=GAPS_S,
                gate=nemesis.gate,
                history=history,
            )
        )


@asynccontextmanager
async def _servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """Three brokers, Redis and PostgreSQL in a directory of their own; the logs of all processes stay with the test."""
    machine = Machine(environ=dict(os.environ))
    async with real_servers.first_free() as directory:
        world = World.create(
            directory.home("world"), gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1"
        )
        signing = asyncio.create_task(asyncio.to_thread(flood.items, world))
        try:
            async with (
                real_servers.had(redis.running(directory, machine)) as claims,
                real_servers.had(postgres.running(directory, machine)) as store,
                real_servers.had(kafka.running(directory, machine, brokers=3)) as log,
            ):
                items = await signing
                gc.collect()
                gc.freeze()  # they live as long as the test
                yield Servers(
                    directory=directory,
                    machine=machine,
                    kafka=log,
                    postgres=store,
                    redis=claims,
                    world=world,
                    items=items,
                )
        finally:
            gc.unfreeze()
            shutil.copytree(directory.path / "log", tmp_path / "log")


def _engine(servers: Servers) -> AbstractAsyncContextManager[Cluster]:
    return clusters.running(
        servers.directory,
        servers.machine,
        WISHED,
        kafka=servers.kafka,
        postgres=servers.postgres,
        redis=servers.redis,
        kafka_session_s=str(SESSION_S),
    )


def _report(took: Took, items: list[Item], history: History, nemesis: Nemesis, left: Dumps) -> None:
    took.figure("notifications", len(items))
    took.figure("records", len(left.bodies))
    took.figure("orders", len(left.orders))
    for disposition, count in Counter(row["disposition"] for row in left.deliveries).items():
        took.figure(f"of them {disposition}", count)
    took.figure("held for a while", sum(bool(row["resolution"]) for row in left.held))
    took.figure("events", len(left.outbox))
    copies = left.published[EVENTS]
    took.figure("copies of events beyond the first", len(copies) - len({copy.id for copy in copies}))
    took.figure("attempts", sum(map(len, history.attempts.values())))
    took.figure("attempts refused with 503", history.count(503))
    took.figure("attempts without an answer", history.count(SILENT))
    took.figure("slowest answer, s", history.slowest_s)
    for fault, seconds in nemesis.lasted_s.items():
        took.figure(f"{fault}: over after, s", seconds)
        took.figure(f"{fault}: recovered from after that, s", nemesis.recovered_s[fault])


async def _quiet(stores: Stores) -> None:
    """Returns when nothing is left to do."""
    unrest: list[str] = []

    async def is_quiet() -> bool:
        unrest[:] = await cluster_dumps.unrest(stores)
        return not unrest

    try:
        await until(is_quiet, QUIET_WITHIN_S, every_s=0.5)
    except TimeoutError:
        pytest.fail(f"after {QUIET_WITHIN_S:.0f} s: {', '.join(unrest)}")
