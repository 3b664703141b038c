"""`up --demo`: the engine with a simulated Alipay beside it, which keeps it busy until both are stopped.

The sandbox's world comes first, since its accounts are the engine's configuration; its gateway has to know the public
address for that, so the public port is chosen before. The sandbox itself starts once the engine answers.
"""

import asyncio
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

import typer
from rich.console import Console
from rich.markup import escape

from deploy import process
from deploy.embedded import up
from deploy.embedded.directory import JOURNAL
from deploy.embedded.migrations import FileNotUsable
from deploy.embedded.up import EmbeddedEngine
from deploy.logs import LogWriter
from deploy.sandbox import demo, server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from deploy.settings import EmbeddedSettings
from ingest.checkout import requests

NAME = "alipay-notify"
SANDBOX_PORT = 8089
WORLD = "world"
DEFAULT_ADMIN = "http://127.0.0.1:9464"
DEMO_WORLD = Path(".demo/world")  # where `trigger` looks by itself
TIME_SCALE = 120.0  # Alipay's first retry, four minutes in life, comes after two seconds


async def until_told(settings: EmbeddedSettings, lines: LogWriter, directory: Path) -> None:
    """Run both until a signal comes. The world and its keys are kept in `directory` and used again the next time.

    Raises:
        FileNotUsable: the data directory is in real use.
    """
    _check_own(settings.data_dir, directory / WORLD)
    settings = settings.model_copy(
        update={
            "port": free_port(settings.host, settings.port),
            "admin_port": free_port(settings.admin_host, settings.admin_port),
            "drain_delay_s": 0.0,
        }
    )
    gateway = server.listening("127.0.0.1", free_port("127.0.0.1", SANDBOX_PORT))
    world = World.create(
        directory / WORLD, gateway_url=server.url_of(gateway), notify_base=f"http://{settings.host}:{settings.port}"
    )
    settings = settings.model_copy(update={"accounts": world.accounts_file})
    playing: list[asyncio.Task[None]] = []
    sandboxes: list[SandboxServer] = []

    async def started(engine: EmbeddedEngine) -> None:
        sandbox = SandboxServer(
            world, sock=gateway, admin_url=engine.admin_url, request_url=requests.redirect_url, time_scale=TIME_SCALE
        )
        await sandbox.start()
        sandboxes.append(sandbox)
        playing.append(asyncio.create_task(demo.keep_busy(sandbox, chance=SystemRandom())))
        typer.echo(
            process.ready_line(
                public=engine.public_url, admin=engine.admin_url, sandbox=sandbox.url, shop=f"{sandbox.url}/shop"
            )
        )
        Console(stderr=True, highlight=False).print(where(engine, sandbox.url, world.directory), soft_wrap=True)

    try:
        await process.run_until_signal(lambda registry: up.running(settings, lines, registry), lines, started)
    finally:
        for task in playing:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for sandbox in sandboxes:
            await sandbox.stop()


def _check_own(data_dir: Path, world: Path) -> None:
    """An environment that names the directory of a real engine must not have play money booked into it."""
    if (data_dir / JOURNAL).exists() and not world.exists():
        raise FileNotUsable(
            f"{data_dir} holds an engine's files that no demo made: give the demo a directory of its own"
        )


def free_port(host: str, wanted: int) -> int:
    """The wanted port where nobody has it, else any free one."""
    for port in (wanted, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            found: int = probe.getsockname()[1]
            return found
    return wanted


def where(engine: EmbeddedEngine, sandbox_url: str, world: Path) -> str:
    """Where to look, and what to type: lines that a terminal of eighty columns and a log both show whole."""
    program = escape(called(Path(sys.argv[0])))
    admin = f" --admin {engine.admin_url}"
    directory = "" if world == DEMO_WORLD else f" --dir {escape(str(world))}"
    return f"""
[bold]alipay-notify is running, and a simulated Alipay is sending to it.[/]

  [bold]shop[/]     {sandbox_url}/shop   buy something, see it turn PAID
  [bold]console[/]  {engine.admin_url}/       every payment, and all of it
  [bold]sandbox[/]  {sandbox_url}/       play a scenario yourself
  [bold]metrics[/]  {engine.admin_url}/metrics

  {program} held list{"" if engine.admin_url == DEFAULT_ADMIN else admin}
  {program} trigger wrong_amount{directory}{admin}

Ctrl-C ends it. Its log follows: a line for each notification, and what it did.
"""


def called(started_as: Path) -> str:
    """How a person types the program's name here: the name alone only where the shell would find this very program."""
    if started_as.name != NAME:
        return NAME
    found = shutil.which(NAME)
    if found is not None and Path(found).resolve() == started_as.resolve():
        return NAME
    path = started_as.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
