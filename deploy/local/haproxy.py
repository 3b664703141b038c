"""Run a real HAProxy on loopback in front of the receivers, with the shipped configuration.

The configuration is checked before the start. Its addresses are environment variables, so the file that runs here is
the one for production.
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
RECEIVERS_MAX = 4  # the `server` lines of the configuration
READY_WITHIN_S = 15.0


class Backend(Struct, frozen=True, kw_only=True):
    """The addresses (`host:port`) of a receiver: one for requests, one for readiness checks."""

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
    """Run HAProxy with this configuration. Inside the context it is healthy and accepts on each port of `listening`.

    `variables` replace `"${NAME}"` in the configuration.

    Raises:
        Missing: HAProxy is not on this machine and cannot be installed.
        DidNotStart: the configuration is wrong, or a port did not open.
    """
    program = await machine.find(programs.HAPROXY)
    environ = {**machine.environ, **(variables or {})}
    # -db keeps it in the foreground and in one process.
    argv = (str(program), "-db", "-f", str(configuration.resolve()))
    await processes.finish(directory, ProcessSpec(name=f"{NAME}-check", argv=(*argv, "-c"), environ=environ))

    async def accepting() -> bool:
        return all([await ports.answers(ports.LOOPBACK, port) for port in listening]) and (
            healthy is None or await healthy()
        )

    spec = ProcessSpec(name=NAME, argv=argv, environ=environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, spec, healthy=accepting)
    async with process.running():
        yield HAProxy(process=process)


class Balancer(Struct, frozen=True, kw_only=True):
    """HAProxy with the shipped configuration."""

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
    directory: Directory, machine: Machine, receivers: Sequence[Backend], *, port: int, stats_port: int
) -> AsyncIterator[Balancer]:
    """Run the shipped configuration in front of these receivers. Inside the context it has checked each of them.

    Before its first check HAProxy takes a server for ready, even if it cannot reach it.

    Raises:
        Missing, DidNotStart: as `running` does.
    """
    # The environment has only our variables: the configuration would use a CERTIFICATE or RECEIVER_3 of the user's too.
    bare = msgspec.structs.replace(machine, environ={"PATH": machine.environ.get("PATH", os.defpath)})

    async def all_found_ready() -> bool:
        checks = [line for line in (await ports.body(stats_port, "/metrics")).splitlines() if line.startswith(CHECKED)]
        return sum(FOUND_READY in line and line.endswith(" 1") for line in checks) == len(receivers)

    async with running(
        directory,
        bare,
        configuration=CONFIGURATION,
        listening=[port, stats_port],
        variables=variables(receivers, port=port, stats_port=stats_port),
        healthy=all_found_ready,
    ) as haproxy:
        yield Balancer(port=port, stats_port=stats_port, process=haproxy.process)


def variables(receivers: Sequence[Backend], *, port: int, stats_port: int) -> dict[str, str]:
    """Return the environment variables of the shipped configuration."""
    if not 1 <= len(receivers) <= RECEIVERS_MAX:
        raise ValueError(f"from 1 to {RECEIVERS_MAX} receivers, not {len(receivers)}")
    found = {"PUBLIC": f"{ports.LOOPBACK}:{port}", "STATS": f"{ports.LOOPBACK}:{stats_port}"}
    for number, receiver in enumerate(receivers, start=1):
        found |= {f"RECEIVER_{number}": receiver.public, f"RECEIVER_{number}_ADMIN": receiver.admin}
    return found
