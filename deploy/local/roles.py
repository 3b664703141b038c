"""Our own processes on this machine: receivers, workers, the console, and the simulated Alipay that sends to them.

Each is told everything by its environment, and nothing of its user's that has our prefix: a stack must not depend on
what somebody exported last week. Ports are chosen before the start, so that a process that is killed and started again
comes back where its clients, HAProxy and Prometheus look for it.
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

# -P, since what happens to lie in the working directory is not ours to run.
PROGRAM = (sys.executable, "-P", "-m", "deploy.cli.main")
READY_WITHIN_S = 60.0  # several at once on two cores, beside brokers that have just started
STOP_WITHIN_S = 30.0  # a receiver drains, then finishes; a worker finishes a batch and leaves its group: 26 s at worst


class Role(Struct, frozen=True, kw_only=True):
    """One process of ours: where it is reached, and what is done to it. `port` is 0 where it has only an admin port."""

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
    """How the program is called, and what all its processes are told."""

    argv: tuple[str, ...] = PROGRAM
    told: Mapping[str, str]

    def environ(self, machine: Machine, **more: object) -> dict[str, str]:
        """The environment of one process; `more` are settings by their names in small letters."""
        users = {name: value for name, value in machine.environ.items() if not name.upper().startswith(PREFIX)}
        settings = {**self.told, **{name: str(value) for name, value in more.items()}}
        return (
            users
            # The very code that runs now, wherever it lies and whatever else is installed.
            | {"PYTHONPATH": str(Path(deploy.__file__).parents[1]), "PYTHONUNBUFFERED": "1"}
            | {PREFIX + name.upper(): value for name, value in settings.items()}
        )

    def plan(self, name: str, machine: Machine, *arguments: str, **more: object) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            argv=(*self.argv, *arguments),
            environ=self.environ(machine, **more),
            ready_within_s=READY_WITHIN_S,
            stop_within_s=STOP_WITHIN_S,
        )


def receiver(directory: Directory, machine: Machine, program: Program, *, name: str, port: int, admin: int) -> Role:
    """A receiver that is not started yet."""
    where = {"host": ports.LOOPBACK, "port": port, "admin_host": ports.LOOPBACK, "admin_port": admin}
    plan = program.plan(name, machine, "ingest", **where)

    async def healthy() -> bool:
        return await ports.is_ok(admin, "/readyz") and await ports.answers(ports.LOOPBACK, port)

    return Role(port=port, admin_port=admin, process=Process(directory, plan, healthy=healthy))


def inner(directory: Directory, machine: Machine, program: Program, *, command: str, name: str, admin: int) -> Role:
    """A worker or a console that is not started yet: it has an admin port only."""
    plan = program.plan(name, machine, command, admin_host=ports.LOOPBACK, admin_port=admin)
    return Role(admin_port=admin, process=Process(directory, plan, healthy=partial(ports.is_ok, admin, "/readyz")))


def sandbox(
    directory: Directory, machine: Machine, program: Program, *, port: int, world: Path, public: str, admin: str
) -> Role:
    """The simulated Alipay over a world that is there already; it confirms what is sent with that world's keys."""
    where = ("--port", str(port), "--dir", str(world), "--notify", public, "--admin", admin)
    plan = program.plan("sandbox", machine, "sandbox", *where)
    process = Process(directory, plan, healthy=partial(ports.answers, ports.LOOPBACK, port))
    return Role(port=port, admin_port=port, process=process)


@asynccontextmanager
async def together(roles: Sequence[Role]) -> AsyncIterator[None]:
    """All of them, healthy inside the context and gone after it. They start and stop at the same time.

    Raises:
        DidNotStart: one did not come up; none runs then.
    """
    try:
        for role in roles:
            role.process.spawn()
        for role in roles:
            await role.process.ready()
        yield
    finally:
        await asyncio.gather(*(role.process.stop() for role in roles))
