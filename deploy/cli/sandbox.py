"""`alipay-notify sandbox`: runs the simulated Alipay, its cashier and the demo shop, until it is told to stop.

Only options are declared here; what runs them is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import admin as admin_api

if TYPE_CHECKING:
    from deploy.sandbox.delivery import Profile
    from deploy.sandbox.server import SandboxServer

DIRECTORY_ENVIRONMENT = "ALIPAY_NOTIFY_SANDBOX_DIR"
DEFAULT_DIRECTORY = Path(".sandbox")
DEMO_DIRECTORY = Path(".demo/world")
DEFAULT_PORT = 8089
DEFAULT_NOTIFY = "http://127.0.0.1:8080"
DEFAULT_ADMIN = "http://127.0.0.1:9464"

Directory = Annotated[
    Path,
    typer.Option("--dir", envvar=DIRECTORY_ENVIRONMENT, help="Where its keys live, and the merchant's accounts.toml."),
]

_HELP = """Run a simulated Alipay: gateway, cashier page, and a demo shop.

It makes its own keys and writes the merchant's configuration beside them. Point the receiver at it and open the shop:

    alipay-notify sandbox &
    ALIPAY_NOTIFY_ACCOUNTS=.sandbox/merchant/accounts.toml alipay-notify up

Retries sixty times as fast as Alipay's (25 hours become 25 minutes):

    alipay-notify sandbox --time-scale 60 --profile global-2m
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("sandbox", help=_HELP, epilog=exits.EPILOG)(sandbox)


def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free port.")] = DEFAULT_PORT,
    directory: Directory = DEFAULT_DIRECTORY,
    admin: Annotated[str, typer.Option(help="The receiver's admin API, which the shop asks.")] = DEFAULT_ADMIN,
    admin_token: admin_api.Token = "",
    notify: Annotated[str, typer.Option(help="The receiver, to which notifications are sent.")] = DEFAULT_NOTIFY,
    time_scale: Annotated[float, typer.Option(min=0.001, help="How many times as fast as Alipay to retry.")] = 1.0,
    profile: Annotated[str, typer.Option(help="The retry schedule: cn-4m, global-2m, odoo, …")] = "cn-4m",
) -> None:
    """Runs the sandbox; the options are its settings."""
    import asyncio
    import errno

    chosen = profile_named(profile)
    from deploy.sandbox import server
    from deploy.sandbox.world import World, WorldError
    from ingest.checkout import requests

    try:
        sock = server.listening(host, port)
        world = World.create(directory, gateway_url=server.url_of(sock), notify_base=notify)
    except OSError as error:
        taken = f"{host}:{port} is taken by another program: choose another with --port (0 is any free port)"
        why = taken if error.errno == errno.EADDRINUSE else error.strerror or error
        typer.echo(f"The sandbox cannot start: {why}", err=True)
        raise typer.Exit(exits.FAILED) from error
    except WorldError as error:
        typer.echo(f"The sandbox cannot start: {error}", err=True)
        raise typer.Exit(exits.FAILED) from error
    running = server.SandboxServer(
        world,
        sock=sock,
        admin_url=admin,
        admin_token=admin_token,
        request_url=requests.redirect_url,
        profile=chosen,
        time_scale=time_scale,
    )
    asyncio.run(_until_told(running))


def profile_named(name: str) -> Profile:
    """The retry schedule of this name; an unknown one ends the command as wrong usage."""
    from deploy.sandbox.delivery import PROFILES

    if name not in PROFILES:
        raise typer.BadParameter(f"no profile {name!r}; there are {', '.join(PROFILES)}", param_hint="--profile")
    return PROFILES[name]


def started_last() -> Path:
    """The sandbox that was started last, since its keys are those that a running receiver was told."""
    places = (DEMO_DIRECTORY, DEFAULT_DIRECTORY)
    made = [place for place in places if (place / "world.json").exists()]
    return max(made, key=lambda place: (place / "world.json").stat().st_mtime, default=places[-1])


async def _until_told(running: SandboxServer) -> None:
    """Runs until SIGTERM or Ctrl-C, then stops in good order."""
    import asyncio
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running:
        typer.echo(_where(running))
        await stop.wait()


def _where(running: SandboxServer) -> str:
    return (
        f"The sandbox runs at {running.url}\n"
        f"  shop      {running.url}/shop\n"
        f"  gateway   {running.url}/gateway.do\n"
        f"  accounts  {running.world.accounts_file}   (ALIPAY_NOTIFY_ACCOUNTS)\n"
        f"  notifies  {running.world.notify_base}/notify/ACCOUNT"
    )
