"""What somebody asked for, started in order and stopped in the reverse one, under one directory.

kafka.cluster, redis, postgres      each its own module; this one only composes
engine                              our own processes over them
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.local import addresses, engine, postgres, redis, roles
from deploy.local import directory as directories
from deploy.local.directory import Directory
from deploy.local.engine import ClusterEngine, EngineServers, EngineSpec
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.processes import Process
from deploy.local.redis import Redis
from deploy.local.steps import Steps, Untold


class StackSpec(Struct, frozen=True, kw_only=True):
    """Which servers, and what of ours over them; `brokers` is 0, 1 or 3."""

    brokers: int = 0
    redis: bool = False
    postgres: bool = False
    ours: EngineSpec = EngineSpec()

    @property
    def is_nothing(self) -> bool:
        return not (self.brokers or self.redis or self.postgres) and self.ours.is_nothing


ALL = StackSpec(
    brokers=3,
    redis=True,
    postgres=True,
    ours=EngineSpec(
        receivers=2, workers=2, console=True, sandbox=True, balancer=True, prometheus=True, well_known=True
    ),
)


class Stack(Struct, frozen=True, kw_only=True):
    """What was asked for, running; nothing stands for what was not."""

    directory: Directory
    kafka: Kafka | None = None
    redis: Redis | None = None
    postgres: Postgres | None = None
    engine: ClusterEngine | None = None

    def addresses(self) -> dict[str, str]:
        """Where clients find each server, and what of ours runs."""
        return {
            **({"kafka": self.kafka.bootstrap} if self.kafka else {}),
            **({"redis": self.redis.url} if self.redis else {}),
            **({"postgres": self.postgres.dsn} if self.postgres else {}),
            **(self.engine.addresses() if self.engine else {}),
        }

    def processes(self) -> list[Process]:
        """Every process that is ours."""
        brokers = [broker.process for broker in self.kafka.brokers] if self.kafka else []
        servers = [server.process for server in (self.redis, self.postgres) if server]
        return [*servers, *brokers, *(self.engine.processes() if self.engine else [])]


@asynccontextmanager
async def running(
    path: Path,
    machine: Machine,
    asked: StackSpec,
    *,
    fresh: bool = False,
    argv: tuple[str, ...] = roles.PROGRAM,
    told: Mapping[str, str] | None = None,
    brokers_told: Mapping[str, str] | None = None,
    steps: Steps | None = None,
) -> AsyncIterator[Stack]:
    """All of it, healthy. `fresh` starts with no files of an earlier run, and leaves none.

    `argv` and `told` are as for `engine.running`; `brokers_told` are broker settings with the last word.

    Raises:
        AlreadyRunning: another stack has the directory.
        Missing: something is not to be had on this machine.
        DidNotStart: something did not come up; nothing runs then.
    """
    steps = steps or Untold()
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(directories.held(path, fresh=fresh))
        started = await _servers(stack, held, machine, asked, brokers_told or {}, steps)
        if not asked.ours.is_nothing:
            ours = engine.running(held, machine, _found(started, asked), asked.ours, argv=argv, told=told, steps=steps)
            started = msgspec.structs.replace(started, engine=await stack.enter_async_context(ours))
        stack.enter_context(addresses.published(held.path, started.addresses()))
        yield started


async def _servers(
    stack: AsyncExitStack,
    held: Directory,
    machine: Machine,
    asked: StackSpec,
    brokers_told: Mapping[str, str],
    steps: Steps,
) -> Stack:
    started = Stack(directory=held)
    if asked.redis:
        with steps.doing("Redis"):
            one = await stack.enter_async_context(redis.running(held, machine))
        started = msgspec.structs.replace(started, redis=one)
    if asked.postgres:
        with steps.doing("PostgreSQL"):
            database = await stack.enter_async_context(postgres.running(held, machine))
        started = msgspec.structs.replace(started, postgres=database)
    if asked.brokers:
        with steps.doing("Kafka, one broker" if asked.brokers == 1 else f"Kafka, {asked.brokers} brokers"):
            kafka = cluster.running(held, machine, brokers=asked.brokers, more=brokers_told)
            started = msgspec.structs.replace(started, kafka=await stack.enter_async_context(kafka))
    return started


def _found(started: Stack, asked: StackSpec) -> EngineServers:
    return EngineServers(
        kafka=started.kafka.bootstrap if started.kafka else "",
        brokers=asked.brokers,
        redis=started.redis.url if started.redis else "",
        postgres=started.postgres.dsn if started.postgres else "",
    )
