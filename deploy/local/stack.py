"""The servers that somebody asked for, started in order and stopped in the reverse one, under one directory.

kafka.cluster, redis, postgres      each its own module; this one only composes
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from deploy.local import addresses, postgres, redis
from deploy.local import directory as directories
from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.processes import Process
from deploy.local.redis import Redis


class Asked(Struct, frozen=True, kw_only=True):
    """Which servers; `brokers` is 0, 1 or 3."""

    brokers: int = 0
    redis: bool = False
    postgres: bool = False


class Stack(Struct, frozen=True, kw_only=True):
    """What was asked for, running; nothing stands for what was not."""

    directory: Directory
    kafka: Kafka | None = None
    redis: Redis | None = None
    postgres: Postgres | None = None

    def addresses(self) -> dict[str, str]:
        """Where clients find each server."""
        return {
            **({"kafka": self.kafka.bootstrap} if self.kafka else {}),
            **({"redis": self.redis.url} if self.redis else {}),
            **({"postgres": self.postgres.dsn} if self.postgres else {}),
        }

    def processes(self) -> Sequence[Process]:
        """Every process that is ours."""
        brokers = [broker.process for broker in self.kafka.brokers] if self.kafka else []
        return [*brokers, *(server.process for server in (self.redis, self.postgres) if server)]


@asynccontextmanager
async def running(path: Path, machine: Machine, asked: Asked, *, fresh: bool = False) -> AsyncIterator[Stack]:
    """The servers, all healthy. `fresh` starts with no files of an earlier run, and leaves none.

    Raises:
        AlreadyRunning: another stack has the directory.
        Missing: one is not to be had on this machine.
        DidNotStart: one did not come up; none runs then.
    """
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(directories.held(path, fresh=fresh))
        started = Stack(
            directory=held,
            redis=await stack.enter_async_context(redis.running(held, machine)) if asked.redis else None,
            postgres=await stack.enter_async_context(postgres.running(held, machine)) if asked.postgres else None,
            kafka=await stack.enter_async_context(cluster.running(held, machine, brokers=asked.brokers))
            if asked.brokers
            else None,
        )
        stack.enter_context(addresses.told(held.path, started.addresses()))
        yield started
