"""Run a real Alertmanager on loopback with the shipped configuration, whose receivers have no address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

from deploy.local import ports, programs
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.local.processes import Process, ProcessSpec

NAME = "alertmanager"
PORT = 9093  # Alertmanager's usual port
CONFIGURATION = Path(__file__).parents[1] / "alertmanager" / "alertmanager.yml"
READY_WITHIN_S = 30.0


class Alertmanager(Struct, frozen=True, kw_only=True):
    """A server that takes alerts and shows them."""

    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"


@asynccontextmanager
async def running(directory: Directory, machine: Machine, *, port: int | None = None) -> AsyncIterator[Alertmanager]:
    """Run a server with the shipped configuration.

    Raises:
        Missing: Alertmanager is not on this machine and cannot be installed.
        DidNotStart: it did not start.
    """
    program = await machine.find(programs.ALERTMANAGER)
    port = port or ports.free(1)[0]
    argv = (
        str(program),
        f"--config.file={CONFIGURATION}",
        f"--storage.path={directory.home(NAME) / 'files'}",
        f"--web.listen-address={ports.LOOPBACK}:{port}",
        "--cluster.listen-address=",  # no other instances, and no port for them
        "--log.level=warn",
    )
    spec = ProcessSpec(name=NAME, argv=argv, environ=machine.environ, ready_within_s=READY_WITHIN_S)
    process = Process(directory, spec, healthy=partial(ports.is_ok, port, "/-/ready"))
    async with process.running():
        yield Alertmanager(port=port, process=process)
