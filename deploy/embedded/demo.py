"""`up --demo`: the engine with a simulated Alipay beside it, which keeps it busy until both are stopped.

The sandbox's world comes first, since its accounts are the engine's configuration; its gateway has to know the public
address for that, so the public port is chosen before. The sandbox itself starts once the engine answers.
"""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

import typer
from rich.console import Console
from rich.panel import Panel

from deploy.embedded import up
from deploy.embedded.directory import JOURNAL
from deploy.embedded.migrations import NotUsable
from deploy.embedded.up import Engine
from deploy.logs import Lines
from deploy.sandbox import demo, server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from ingest import requests
from ingest.settings import Settings

SANDBOX_PORT = 8089
WORLD = "world"
TIME_SCALE = 120.0  # Alipay's first retry, four minutes in life, comes after two seconds


async def until_told(settings: Settings, lines: Lines, directory: Path) -> None:
    """Run both until a signal comes. The world and its keys are kept in `directory` and used again the next time.

    Raises:
        NotUsable: the data directory is in real use.
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

    async def started(engine: Engine) -> None:
        sandbox = SandboxServer(
            world, sock=gateway, admin_url=engine.admin_url, request_url=requests.redirect_url, time_scale=TIME_SCALE
        )
        await sandbox.start()
        sandboxes.append(sandbox)
        playing.append(asyncio.create_task(demo.keep_busy(sandbox, chance=SystemRandom())))
        typer.echo(up.ready_line(engine, sandbox=sandbox.url, shop=f"{sandbox.url}/shop"))
        _say_where(engine, sandbox)

    try:
        await up.until_told(settings, lines, started)
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
        raise NotUsable(f"{data_dir} holds an engine's files that no demo made: give the demo a directory of its own")


def free_port(host: str, wanted: int) -> int:
    """The wanted port where nobody has it, else any free one."""
    for port in (wanted, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            found: int = probe.getsockname()[1]
            return found
    return wanted


def _say_where(engine: Engine, sandbox: SandboxServer) -> None:
    Console(stderr=True).print(
        Panel(
            f"[bold]console[/]  {engine.admin_url}/      every payment, and all of it\n"
            f"[bold]shop[/]     {sandbox.url}/shop  buy, pay, and see it turn PAID\n"
            f"[bold]sandbox[/]  {sandbox.url}/      play a scenario yourself\n"
            f"[bold]metrics[/]  {engine.admin_url}/metrics\n\n"
            f"alipay-notify order show NO --admin {engine.admin_url}\n"
            f"alipay-notify held list --admin {engine.admin_url}\n\n"
            "Ctrl-C ends it.",
            title="alipay-notify is running, and a simulated Alipay is sending to it",
            expand=False,
        ),
        soft_wrap=True,
    )
