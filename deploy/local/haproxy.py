"""A real HAProxy on loopback: the balancer that the receivers stand behind, with the configuration that is shipped.

The configuration is checked before anything is started. Its addresses come to it as environment variables, so that the
very file that is run and tested here serves in production.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.local import ports, processes, programs
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.processes import Process, ProcessSpec

NAME = "haproxy"
CONFIGURATION = Path(__file__).parents[1] / "haproxy" / "haproxy.cfg"
CHECKED, FOUND_READY = "haproxy_server_check_status{", 'state="L7OK"'
RECEIVERS_MAX = 4  # what the configuration has lines for
READY_WITHIN_S = 15.0


class Behind(Struct, frozen=True, kw_only=True):
    """A receiver by its two addresses, `host:port`: where requests go, and where its readiness is asked for."""

    public: str
    admin: str


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
    healthy: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncIterator[HAProxy]:
    """The balancer, once it is healthy and accepts on each of the ports `listening`, which its configuration must open.

    `variables` are what the configuration calls `"${NAME}"`.

    Raises:
        Missing: there is none to be had here.
        DidNotStart: the configuration is wrong, or the ports did not open.
    """
    program = await machine.find(programs.HAPROXY)
    environ = {**machine.environ, **(variables or {})}
    # -db keeps it in the foreground and in one process: the one we know.
    argv = (str(program), "-db", "-f", str(configuration.resolve()))
    await processes.finish(directory, ProcessSpec(name=f"{NAME}-check", argv=(*argv, "-c"), environ=environ))

    async def accepting() -> bool:
        return all([await ports.answers(ports.LOOPBACK, port) for port in listening]) and (
            healthy is None or await healthy()
        )

    plan = ProcessSpec(name=NAME, argv=argv, environ=environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, plan, healthy=accepting)
    async with process.running():
        yield HAProxy(process=process)


class Balancer(Struct, frozen=True, kw_only=True):
    """The shipped balancer, before receivers."""

    port: int
    stats_port: int
    process: Process

    @property
    def url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def stats_url(self) -> str:
        return f"http://{self.stats_address}/stats"

    @property
    def stats_address(self) -> str:
        return f"{ports.LOOPBACK}:{self.stats_port}"


@asynccontextmanager
async def balancing(
    directory: Directory, machine: Machine, receivers: Sequence[Behind], *, port: int, stats_port: int
) -> AsyncIterator[Balancer]:
    """The shipped configuration before these receivers, once it has found each of them ready by its own check.

    Until then it takes them for ready, and finds out only afterwards where it may not even ask them.

    Raises:
        Missing, DidNotStart: as `running` does.
    """
    told = variables(receivers, port=port, stats_port=stats_port)
    # Only what we say: a CERTIFICATE or a RECEIVER_3 of somebody else's would be taken for ours.
    bare = msgspec.structs.replace(machine, environ={"PATH": machine.environ.get("PATH", os.defpath)})

    async def all_found_ready() -> bool:
        checks = [line for line in (await ports.body(stats_port, "/metrics")).splitlines() if line.startswith(CHECKED)]
        return sum(FOUND_READY in line and line.endswith(" 1") for line in checks) == len(receivers)

    async with running(
        directory,
        bare,
        configuration=CONFIGURATION,
        listening=[port, stats_port],
        variables=told,
        healthy=all_found_ready,
    ) as haproxy:
        yield Balancer(port=port, stats_port=stats_port, process=haproxy.process)


def variables(receivers: Sequence[Behind], *, port: int, stats_port: int) -> dict[str, str]:
    """What the shipped configuration asks its environment for."""
    if not 1 <= len(receivers) <= RECEIVERS_MAX:
        raise ValueError(f"from 1 to {RECEIVERS_MAX} receivers, not {len(receivers)}")
    told = {"PUBLIC": f"{ports.LOOPBACK}:{port}", "STATS": f"{ports.LOOPBACK}:{stats_port}"}
    for number, receiver in enumerate(receivers, start=1):
        told |= {f"RECEIVER_{number}": receiver.public, f"RECEIVER_{number}_ADMIN": receiver.admin}
    return told
