"""`up --demo`: the engine with a simulated Alipay beside it, which sends to it until both are stopped.

First the ports are chosen, because the sandbox's accounts need the engine's public address. Then the sandbox's world is
created, because its accounts are the engine's configuration. The sandbox itself starts once the engine answers.
"""

import asyncio
import shutil
import socket
import sys
from contextlib import AsyncExitStack, suppress
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
DEMO_WORLD = Path(".demo/world")  # the default of `trigger`
TIME_SCALE = 120.0  # Alipay's first retry, after four minutes in reality, follows after two seconds


async def run_until_signal(settings: EmbeddedSettings, log_writer: LogWriter, directory: Path) -> None:
    """Run engine and sandbox until a signal arrives. The world and its keys stay in `directory` for the next run.

    Raises:
        FileNotUsable: the data directory belongs to a real engine.
        OpenAdmin: the admin tokens cannot be used.
    """
    _check_own(settings.data_dir, directory / WORLD)
    token = process.admin_access(settings).first_token or b""
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
    async with AsyncExitStack() as stack:

        async def started(engine: EmbeddedEngine) -> None:
            sandbox = SandboxServer(
                world,
                sock=gateway,
                admin_url=engine.admin_url,
                admin_token=token.decode("ascii"),
                request_url=requests.redirect_url,
                time_scale=TIME_SCALE,
            )
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
            traffic = asyncio.create_task(demo.keep_busy(sandbox, chance=SystemRandom()))
            stack.push_async_callback(_cancel, traffic)
            typer.echo(
                process.ready_line(
                    public=engine.public_url, admin=engine.admin_url, sandbox=sandbox.url, shop=f"{sandbox.url}/shop"
                )
            )
            Console(stderr=True, highlight=False).print(welcome(engine, sandbox.url, world.directory), soft_wrap=True)

        await process.run_until_signal(
            lambda registry: up.running(settings, log_writer, registry),
            log_writer,
            started,
            standstill_limit_s=settings.standstill_limit_s,
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _check_own(data_dir: Path, world: Path) -> None:
    """Return if the data directory is new, or a demo made it: play money must not get into a real engine's files.

    Raises:
        FileNotUsable: a real engine's files are in it.
    """
    if (data_dir / JOURNAL).exists() and not world.exists():
        raise FileNotUsable(
            f"{data_dir} holds an engine's files that no demo made: give the demo a directory of its own"
        )


def free_port(host: str, wanted: int) -> int:
    """Return the wanted port if it is free, else any free one."""
    for port in (wanted, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            found: int = probe.getsockname()[1]
            return found
    return wanted


def welcome(engine: EmbeddedEngine, sandbox_url: str, world: Path) -> str:
    """The addresses and the commands to try, for a terminal of eighty columns or a log."""
    program = escape(command_name(Path(sys.argv[0])))
    admin = f" --admin {engine.admin_url}"
    directory = "" if world == DEMO_WORLD else f" --dir {escape(str(world))}"
    return f"""
[bold]alipay-notify is running, and a simulated Alipay is sending to it.[/]

  [bold]shop[/]     {sandbox_url}/shop   buy something, see it turn PAID
  [bold]console[/]  {engine.admin_url}/       every payment, with its history
  [bold]sandbox[/]  {sandbox_url}/       play a scenario yourself
  [bold]metrics[/]  {engine.admin_url}/metrics

  {program} held list{"" if engine.admin_url == DEFAULT_ADMIN else admin}
  {program} trigger wrong_amount{directory}{admin}

Ctrl-C ends it. Its log follows: a line for each notification and its effect.
"""


def command_name(started_as: Path) -> str:
    """The command to type here: the name alone if the shell finds this program by it, else its path."""
    if started_as.name != NAME:
        return NAME
    found = shutil.which(NAME)
    if found is not None and Path(found).resolve() == started_as.resolve():
        return NAME
    path = started_as.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
