"""A real HAProxy on loopback, with a configuration of its user's: the balancer that the receivers stand behind.

The configuration is checked before anything is started, and its ports come to it as environment variables, so that one
file serves here and elsewhere.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from deploy.local import ports, processes
from deploy.local.directory import Directory
from deploy.local.machine import Machine, Wanted
from deploy.local.processes import Plan, Process

SERVER = Wanted(
    what="HAProxy",
    programs=("haproxy",),
    places=("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"),
    debian="haproxy",
)
NAME = "haproxy"
READY_WITHIN_S = 15.0


class HAProxy(Struct, frozen=True, kw_only=True):
    """A balancer that accepts connections."""

    process: Process


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    *,
    configuration: Path,
    listening: Sequence[int],
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[HAProxy]:
    """The balancer, once it accepts on each of the ports `listening`, which the configuration must open.

    `variables` are what the configuration calls `"${NAME}"`.

    Raises:
        Missing: there is none to be had here.
        DidNotStart: the configuration is wrong, or the ports did not open.
    """
    program = await machine.find(SERVER)
    environ = {**machine.environ, **(variables or {})}
    # -db keeps it in the foreground and in one process: the one we know.
    argv = (str(program), "-db", "-f", str(configuration.resolve()))
    await processes.finish(directory, Plan(name=f"{NAME}-check", argv=(*argv, "-c"), environ=environ))

    async def accepting() -> bool:
        return all([await ports.answers(ports.LOOPBACK, port) for port in listening])

    plan = Plan(name=NAME, argv=argv, environ=environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, plan, healthy=accepting)
    async with process.running():
        yield HAProxy(process=process)
