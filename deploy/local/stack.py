"""Compose a local stack in one directory: start its servers and engine in order, and stop them in reverse.

redis, postgres, kafka.cluster      the servers
engine                              our processes over them
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.local import addresses, engine, environment, postgres, redis, roles
from deploy.local import directory as directories
from deploy.local.directory import Directory
from deploy.local.engine import ClusterEngine, EngineServers, EngineSpec
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.processes import Process
from deploy.local.redis import Redis
from deploy.local.steps import NoSteps, Steps


class StackSpec(Struct, frozen=True, kw_only=True):
    """The servers of a stack, and the engine over them. `brokers` is 0, 1 or 3."""

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
    """A running stack. A server that the spec does not have is `None`."""

    directory: Directory
    kafka: Kafka | None = None
    redis: Redis | None = None
    postgres: Postgres | None = None
    engine: ClusterEngine | None = None

    def addresses(self) -> dict[str, str]:
        """Return the address of each server and process, by name."""
        return {
            **({"kafka": self.kafka.bootstrap} if self.kafka else {}),
            **({"redis": self.redis.url} if self.redis else {}),
            **({"postgres": self.postgres.dsn} if self.postgres else {}),
            **(self.engine.addresses() if self.engine else {}),
        }

    def processes(self) -> list[Process]:
        """Return every process that the stack has started."""
        brokers = [broker.process for broker in self.kafka.brokers] if self.kafka else []
        servers = [server.process for server in (self.redis, self.postgres) if server]
        return [*servers, *brokers, *(self.engine.processes() if self.engine else [])]


@asynccontextmanager
async def running(
    path: Path,
    machine: Machine,
    spec: StackSpec,
    *,
    fresh: bool = False,
    argv: tuple[str, ...] = roles.PROGRAM,
    steps: Steps | None = None,
) -> AsyncIterator[Stack]:
    """Start the stack. It is healthy inside the context. `fresh` deletes its files before and afterwards.

    `argv` is the command line of our program.

    Raises:
        AlreadyRunning: another stack uses the directory.
        Missing: a program is not on this machine and cannot be installed.
        DidNotStart: a process did not start; nothing runs then.
    """
    steps = steps or NoSteps()
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(directories.held(path, fresh=fresh))
        started = await _start_servers(stack, held, machine, spec, steps)
        if not spec.ours.is_nothing:
            ours = engine.running(held, machine, _servers(started, spec), spec.ours, argv=argv, steps=steps)
            started = msgspec.structs.replace(started, engine=await stack.enter_async_context(ours))
        found, brokers = started.addresses(), spec.brokers
        stack.enter_context(environment.published(held, found, brokers=brokers, database=started.postgres))
        stack.enter_context(addresses.published(held.path, found))
        yield started


async def _start_servers(
    stack: AsyncExitStack, held: Directory, machine: Machine, spec: StackSpec, steps: Steps
) -> Stack:
    started = Stack(directory=held)
    if spec.redis:
        with steps.doing("Redis"):
            one = await stack.enter_async_context(redis.running(held, machine))
        started = msgspec.structs.replace(started, redis=one)
    if spec.postgres:
        with steps.doing("PostgreSQL"):
            database = await stack.enter_async_context(postgres.running(held, machine))
        started = msgspec.structs.replace(started, postgres=database)
    if spec.brokers:
        with steps.doing("Kafka, one broker" if spec.brokers == 1 else f"Kafka, {spec.brokers} brokers"):
            kafka = cluster.running(held, machine, brokers=spec.brokers)
            started = msgspec.structs.replace(started, kafka=await stack.enter_async_context(kafka))
    return started


def _servers(started: Stack, spec: StackSpec) -> EngineServers:
    return EngineServers(
        kafka=started.kafka.bootstrap if started.kafka else "",
        brokers=spec.brokers,
        redis=started.redis.url if started.redis else "",
        postgres=started.postgres.dsn if started.postgres else "",
    )
