"""Run a real Redis on loopback, or the Valkey of a Python wheel, which has the same protocol and scripts.

It keeps nothing on disk, so that tests see a restart that loses every idempotency lock. Lost locks cost speed, never
correctness.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from msgspec import Struct

from deploy.local import ports, programs
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.processes import Process, ProcessSpec

NAME = "redis"
READY_WITHIN_S = 15.0
ASK_WITHIN_S = 2.0
DOWN_AFTER_MS = 1000


class Redis(Struct, frozen=True, kw_only=True):
    """A server that answers."""

    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"redis://{ports.LOOPBACK}:{self.port}/0"


@asynccontextmanager
async def running(
    directory: Directory, machine: Machine, *, more: Mapping[str, str] | None = None, name: str = NAME
) -> AsyncIterator[Redis]:
    """Run a server, ready for commands. `more` are Redis settings that override ours, such as `maxmemory`.

    Raises:
        Missing: Redis is not on this machine and cannot be installed.
        DidNotStart: it did not start.
    """
    (port,) = ports.free(1)
    home = directory.home(name)
    async with _running(directory, machine, _configuration(port, str(home), more or {}), name=name, port=port) as redis:
        yield redis


@asynccontextmanager
async def running_sentinel(
    directory: Directory, machine: Machine, *, masters: Mapping[str, int], name: str = "sentinel"
) -> AsyncIterator[Redis]:
    """Run a sentinel that leads clients to these masters, given by name and port on loopback.

    It decides alone, and replaces a master that does not answer for a second.

    Raises:
        Missing, DidNotStart: as `running` does.
    """
    (port,) = ports.free(1)
    monitored = "".join(
        f"sentinel monitor {each} {ports.LOOPBACK} {its} 1\n"
        f"sentinel down-after-milliseconds {each} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {each} {5 * DOWN_AFTER_MS}\n"
        for each, its in masters.items()
    )
    configuration = f"bind {ports.LOOPBACK}\nport {port}\n{monitored}"
    async with _running(directory, machine, configuration, "--sentinel", name=name, port=port) as redis:
        yield redis


@asynccontextmanager
async def _running(
    directory: Directory, machine: Machine, configuration: str, *options: str, name: str, port: int
) -> AsyncIterator[Redis]:
    program = await machine.find(programs.REDIS)
    file = directory.home(name) / "redis.conf"
    file.write_text(configuration, encoding="utf-8")
    argv = (str(program), str(file), *options)
    spec = ProcessSpec(name=name, argv=argv, environ=machine.environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, spec, healthy=partial(answers, port))
    async with process.running():
        yield Redis(port=port, process=process)


def _configuration(port: int, home: str, more: Mapping[str, str]) -> str:
    settings = {
        "bind": ports.LOOPBACK,
        "port": str(port),
        "dir": f'"{home}"',
        "daemonize": "no",
        "save": '""',
        "appendonly": "no",
    } | dict(more)
    return "".join(f"{name} {value}\n" for name, value in settings.items())


async def answers(port: int) -> bool:
    """Return whether the server answers PING with PONG, which it does when it has loaded its data."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
    except OSError:  # TimeoutError is a subclass
        return False
