"""`alipay-notify sandbox`: run the simulated Alipay, its cashier and the demo shop until a signal.

Only options are declared here. The code that runs is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import admin as admin_api
from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.sandbox.server import SandboxServer
    from schemas.retry_profiles import Profile

DIRECTORY_ENVIRONMENT = "ALIPAY_NOTIFY_SANDBOX_DIR"
DEFAULT_DIRECTORY = Path(".sandbox")
DEMO_DIRECTORY = Path(".demo/world")
DEFAULT_PORT = 8089
DEFAULT_NOTIFY = "http://127.0.0.1:8080"
DEFAULT_ADMIN = "http://127.0.0.1:9464"
FAMILY = "family"  # the retry schedule of each notification's own family

Directory = Annotated[
    Path,
    typer.Option("--dir", envvar=DIRECTORY_ENVIRONMENT, help="Folder of its keys and of the merchant's accounts.toml."),
]

_HELP = """Run a simulated Alipay with a cashier and a demo shop.

It creates its own keys, and the merchant's accounts.toml beside them. Start the engine with these accounts and open the
shop:

    alipay-notify sandbox &
    ALIPAY_NOTIFY_ACCOUNTS=.sandbox/merchant/accounts.toml alipay-notify up

To retry sixty times as fast as Alipay (25 hours become 25 minutes):

    alipay-notify sandbox --time-scale 60 --profile global-2m
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("sandbox", help=_HELP, epilog=exits.EPILOG_PROCESS)(sandbox)


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")] = DEFAULT_PORT,
    directory: Directory = DEFAULT_DIRECTORY,
    admin: Annotated[str, typer.Option(help="The admin API, which the shop queries.")] = DEFAULT_ADMIN,
    admin_token: admin_api.Token = "",
    notify: Annotated[str, typer.Option(help="The receiver of the notifications.")] = DEFAULT_NOTIFY,
    time_scale: Annotated[float, typer.Option(min=0.001, help="Retry so many times as fast as Alipay.")] = 1.0,
    drop: Annotated[
        float, typer.Option(min=0, max=1, help="Lose this share of the notifications: the merchant has to ask.")
    ] = 0.0,
    profile: Annotated[
        str, typer.Option(help="The retry schedule: cn-4m, global-2m, odoo, …; `family` is that of each family.")
    ] = FAMILY,
) -> None:
    """Run the sandbox until SIGTERM or Ctrl-C."""
    import asyncio
    import errno

    chosen = profile_named(profile)
    from deploy.sandbox import server
    from deploy.sandbox.world import World, WorldError
    from ingest.checkout import requests

    try:
        sock = server.listening(host, port)
    except OSError as error:
        taken = f"{host}:{port} is taken by another program: choose another with --port (0 is any free port)"
        why = taken if error.errno == errno.EADDRINUSE else error.strerror or error
        terminal.fail(f"The sandbox cannot start: {why}")
    try:
        world = World.create(directory, gateway_url=server.url_of(sock), notify_base=notify, queries=True)
    except (OSError, WorldError) as error:
        sock.close()
        terminal.fail(f"The sandbox cannot start: {error}")
    running = server.SandboxServer(
        world,
        sock=sock,
        admin_url=admin,
        admin_token=admin_token,
        request_url=requests.redirect_url,
        profile=chosen,
        time_scale=time_scale,
        drop=drop,
    )
    asyncio.run(_run_until_signal(running))


def profile_named(name: str) -> Profile | None:
    """Return the retry schedule of this name, `None` for that of each family; exit with 2 if there is none."""
    from deploy.sandbox.delivery import PROFILES

    if name == FAMILY:
        return None
    if name not in PROFILES:
        raise typer.BadParameter(
            f"there is no profile {name!r}; the profiles are {', '.join((FAMILY, *PROFILES))}", param_hint="--profile"
        )
    return PROFILES[name]


def started_last() -> Path:
    """Return the folder of the sandbox that was started last: a running receiver most likely has its keys."""
    folders = (DEMO_DIRECTORY, DEFAULT_DIRECTORY)
    made = [folder for folder in folders if (folder / "world.json").exists()]
    return max(made, key=lambda folder: (folder / "world.json").stat().st_mtime, default=folders[-1])


async def _run_until_signal(running: SandboxServer) -> None:
    """Run until SIGTERM or Ctrl-C, then stop gracefully."""
    import asyncio
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running:
        typer.echo(_addresses(running))
        await stop.wait()


def _addresses(running: SandboxServer) -> str:
    return (
        f"The sandbox runs at {running.url}\n"
        f"  shop      {running.url}/shop\n"
        f"  gateway   {running.url}/gateway.do\n"
        f"  accounts  {running.world.accounts_file}   (ALIPAY_NOTIFY_ACCOUNTS)\n"
        f"  notifies  {running.world.notify_base}/notify/ACCOUNT"
    )
