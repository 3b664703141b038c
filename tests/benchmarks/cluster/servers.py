"""The real servers that the benchmarks share, and in them a place for each measurement that no other one has filled."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

from msgspec import Struct
from redis.asyncio import Redis

from deploy.cluster import connections, kafka_admin, settings
from deploy.cluster import topics as topics_
from deploy.local import ports, roles, stack, steps
from deploy.local.machine import Machine
from deploy.local.roles import Program, Role
from deploy.local.stack import Stack, StackSpec
from deploy.sandbox.world import World
from schemas import topics
from schemas.record_format import Record
from tests.benchmarks.cluster import cores
from tests.support.real_servers import STACK
from workers.kafka import clients
from workers.postgres.database import Database, DatabaseLimits
from workers.postgres.migrations import run

AT_ONCE = 2000  # records that wait for their acknowledgement
DIRECTORY = STACK / "benchmarks"


class Servers(Struct, frozen=True, kw_only=True):
    """Servers that run on the cores that are not measured."""

    stack: Stack
    machine: Machine
    world: World
    brokers: int

    @property
    def kafka(self) -> str:
        assert self.stack.kafka is not None
        return self.stack.kafka.bootstrap

    def cpu_s(self) -> dict[str, float]:
        """What each kind of server has used so far, in seconds of a processor."""
        kafka, redis, postgres = self.stack.kafka, self.stack.redis, self.stack.postgres
        pids = {
            "kafka": [broker.process.pid for broker in kafka.brokers] if kafka else [],
            "redis": [redis.process.pid] if redis else [],
            "postgres": [postgres.process.pid] if postgres else [],
        }
        return {name: sum(map(cores.cpu_s, each)) for name, each in pids.items()}


class Place(Struct, frozen=True, kw_only=True):
    """Topics, a schema and a consumer group of their own."""

    prefix: str
    postgres: str
    told: Mapping[str, str]  # the settings of our processes in it


@asynccontextmanager
async def running(*, brokers: int, stores: bool = True) -> AsyncIterator[Servers]:
    """That many brokers, with Redis and PostgreSQL beside them unless they are not asked for."""
    machine = Machine(environ=dict(os.environ))
    asked = StackSpec(brokers=brokers, redis=stores, postgres=stores)
    async with AsyncExitStack() as entered:
        # A server runs on the cores of the process that starts it; three brokers need all cores.
        with cores.on(cores.REST if brokers == 1 else cores.ALL):
            started = await entered.enter_async_context(
                stack.running(DIRECTORY, machine, asked, fresh=True, steps=steps.StepLines())
            )
        world = World.create(
            started.directory.home("world"), gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1"
        )
        yield Servers(stack=started, machine=machine, world=world, brokers=brokers)


async def place(servers: Servers, *, prefix: str = "", **told: str) -> Place:
    """A new place, or one whose topics are those under a `prefix` that was used before."""
    name = f"b{secrets.token_hex(6)}"
    if not prefix:
        prefix = name
        await make_topics(servers, prefix)
    url = await _schema(servers, name) if servers.stack.postgres else ""
    secret = _receipt_key(servers)
    redis = servers.stack.redis
    settings = {
        "accounts": str(servers.world.accounts_file),
        "kafka": servers.kafka,
        "development": str(servers.brokers < 3).lower(),
        "topic_prefix": prefix,
        "group": name,
        "postgres": url,
        "redis": redis.url if redis else "",
        "receipt_key_file": str(secret),
        "drain_delay_s": "0",
    }
    return Place(prefix=prefix, postgres=url, told={k: v for k, v in (settings | told).items() if v})


async def make_topics(servers: Servers, prefix: str) -> None:
    """The topics under this prefix, as `topics apply` makes them."""
    async with kafka_admin.connected({"bootstrap_servers": servers.kafka}) as admin:
        for topic in topics_.wanted(prefix=prefix, development=servers.brokers < 3):
            await admin.create(topic)
            await admin.until(topic.name, lambda found, wanted=topic: found.partitions >= wanted.partitions)  # type: ignore[misc]


async def _schema(servers: Servers, name: str) -> str:
    assert servers.stack.postgres is not None
    url = f"{servers.stack.postgres.dsn}?search_path={name}"
    database = await Database.open(url, limits=DatabaseLimits())
    await database.write(lambda connection: connection.execute(f"CREATE SCHEMA {name}"))
    await database.close()
    await run.upgrade(url)
    return url


def _receipt_key(servers: Servers) -> Path:
    path = servers.stack.directory.path / "receipt-key"
    if not path.exists():
        path.write_text(secrets.token_hex(32), encoding="ascii")
    return path


def receipt_key(place: Place) -> bytes:
    """The key with which receipts are made there."""
    return connections.receipt_keys(settings.load({}, accounts="-", receipt_key_file=place.told["receipt_key_file"]))[0]


def receiver(servers: Servers, place: Place) -> Role:
    """`alipay-notify ingest`, not started."""
    port, admin = ports.free(2)
    name = f"ingest-{place.told['group']}"
    return roles.receiver(
        servers.stack.directory, servers.machine, Program(settings=place.told), name=name, port=port, admin=admin
    )


def worker(servers: Servers, place: Place) -> Role:
    """`alipay-notify worker`, not started."""
    (admin,) = ports.free(1)
    name = f"worker-{place.told['group']}"
    program = Program(settings=place.told)
    return roles.inner(servers.stack.directory, servers.machine, program, command="worker", name=name, admin=admin)


async def forget_locks(servers: Servers) -> None:
    """Remove all locks and done-markers of earlier drains."""
    if servers.stack.redis is not None:
        async with Redis.from_url(servers.stack.redis.url) as redis:
            await redis.flushall()


async def fill(servers: Servers, prefix: str, records: Sequence[Record]) -> None:
    """Append the records to the log under this prefix."""
    topic = topics.named(topics.NOTIFICATION, prefix)
    producer = clients.producer({"bootstrap_servers": servers.kafka})
    await producer.start()
    try:
        count = len(await producer.partitions_for(topic))
        rest = iter(records)
        while some := list(islice(rest, AT_ONCE)):
            sends = [
                await producer.send(
                    topic, each.value, each.key, topics.partition_of(each.key, count), headers=[*each.headers]
                )
                for each in some
            ]
            await asyncio.gather(*sends)
    finally:
        await producer.stop()


@asynccontextmanager
async def at_work(role: Role, on: frozenset[int]) -> AsyncIterator[Role]:
    """The process, healthy, on these cores; gone afterwards."""
    with cores.on(on):
        role.process.spawn()
    try:
        await role.process.ready()
        yield role
    finally:
        await role.process.stop()


async def metrics(role: Role) -> dict[str, float]:
    """Every sample that the process shows, by its name with labels, as Prometheus writes it."""
    text = await ports.body(role.admin_port, "/metrics")
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def total(samples: Mapping[str, float], family: str, *, but: str = "\0") -> float:
    """The sum of a family's samples, but for those whose labels hold this text."""
    return sum(value for name, value in samples.items() if name.partition("{")[0] == family and but not in name)
