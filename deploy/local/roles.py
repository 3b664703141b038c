"""Our own processes on this machine: receivers, workers, the console, and the sandbox that sends to them.

Each gets all its settings from its environment. Variables of the user with our prefix are removed, because a stack must
not depend on the user's shell. Ports are chosen before the start, so a process that is killed and started again has the
same address for its clients, HAProxy and Prometheus.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

import deploy
from deploy.local import ports
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.processes import Process, ProcessSpec
from ingest.settings import PREFIX

# -P keeps modules of the working directory from shadowing ours.
PROGRAM = (sys.executable, "-P", "-m", "deploy.cli.main")
READY_WITHIN_S = 60.0  # several at once on two cores, beside brokers that have just started
STOP_WITHIN_S = 30.0  # a worker that finishes its batch and leaves its group takes 26 s at worst


class Role(Struct, frozen=True, kw_only=True):
    """One process of ours with its ports. `port` is 0 if it has only an admin port."""

    port: int = 0
    admin_port: int
    process: Process

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.admin_address}"

    @property
    def admin_address(self) -> str:
        return f"{ports.LOOPBACK}:{self.admin_port}"


class Program(Struct, frozen=True, kw_only=True):
    """The command line of our program, and the settings of all its processes.

    `tree` is the source tree that it runs: this very code, even if another version is installed.
    """

    argv: tuple[str, ...] = PROGRAM
    settings: Mapping[str, str]
    tree: Path = Path(deploy.__file__).parents[1]

    def environ(self, machine: Machine, **more: object) -> dict[str, str]:
        """Return the environment of one process. `more` are settings by name in lower case, and override the others."""
        users = {name: value for name, value in machine.environ.items() if not name.upper().startswith(PREFIX)}
        settings = {**self.settings, **{name: str(value) for name, value in more.items()}}
        return (
            users
            | {"PYTHONPATH": str(self.tree), "PYTHONUNBUFFERED": "1"}
            | {PREFIX + name.upper(): value for name, value in settings.items()}
        )

    def spec(self, name: str, machine: Machine, *arguments: str, **more: object) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            argv=(*self.argv, *arguments),
            environ=self.environ(machine, **more),
            ready_within_s=READY_WITHIN_S,
            stop_within_s=STOP_WITHIN_S,
        )


def receiver(directory: Directory, machine: Machine, program: Program, *, name: str, port: int, admin: int) -> Role:
    """Return a receiver that is not started yet."""
    where = {"host": ports.LOOPBACK, "port": port, "admin_host": ports.LOOPBACK, "admin_port": admin}
    spec = program.spec(name, machine, "ingest", **where)

    async def healthy() -> bool:
        return await ports.is_ok(admin, "/readyz") and await ports.answers(ports.LOOPBACK, port)

    return Role(port=port, admin_port=admin, process=Process(directory, spec, healthy=healthy))


def inner(directory: Directory, machine: Machine, program: Program, *, command: str, name: str, admin: int) -> Role:
    """Return a worker or console that is not started yet; it has only an admin port."""
    spec = program.spec(name, machine, command, admin_host=ports.LOOPBACK, admin_port=admin)
    return Role(admin_port=admin, process=Process(directory, spec, healthy=partial(ports.is_ok, admin, "/readyz")))


def sandbox(
    directory: Directory, machine: Machine, program: Program, *, port: int, world: Path, public: str, admin: str
) -> Role:
    """Return a sandbox that is not started yet. It uses the keys of an existing world."""
    where = ("--port", str(port), "--dir", str(world), "--notify", public, "--admin", admin)
    spec = program.spec("sandbox", machine, "sandbox", *where)
    process = Process(directory, spec, healthy=partial(ports.answers, ports.LOOPBACK, port))
    return Role(port=port, admin_port=port, process=process)


@asynccontextmanager
async def together(roles: Sequence[Role]) -> AsyncIterator[None]:
    """Start all of these at the same time; they are healthy inside the context and stop together after it.

    Raises:
        DidNotStart: one did not start; none runs then.
    """
    try:
        for role in roles:
            role.process.spawn()
        for role in roles:
            await role.process.ready()
        yield
    finally:
        await asyncio.gather(*(role.process.stop() for role in roles))
