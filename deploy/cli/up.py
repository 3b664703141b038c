"""`alipay-notify up`: the embedded engine in one process, and with `--demo` a simulated Alipay beside it.

Only options are declared here; what runs is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import options

if TYPE_CHECKING:
    from deploy.embedded.up import EmbeddedEngine
    from deploy.logs import LogWriter
    from deploy.settings import EmbeddedSettings

DEMO_DIR = Path(".demo")
DEMO_HINT = "to see it work without any: alipay-notify up --demo"

_HELP = """Run the engine on this machine: receiver, worker, admin API and console in one process.

Alipay's notifications come to POST /notify/ACCOUNT on the public port; everything else is on the admin port, which only
this machine reaches. `success` is said when the notification is on disk; killing the process loses nothing.

    alipay-notify up --demo
    alipay-notify up --accounts accounts.toml --data-dir /var/lib/alipay-notify
    ALIPAY_NOTIFY_ACCOUNTS=accounts.toml alipay-notify up --port 0 --admin-port 0

When it is ready it prints one JSON line to stdout: {"event": "ready", "public": "http://…", "admin": "http://…"}.
Logs go to stderr. SIGTERM ends it in good order.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("up", help=_HELP, epilog=exits.EPILOG)(up)


def up(
    accounts: options.Accounts = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(readable=False, envvar="ALIPAY_NOTIFY_DATA_DIR", help="Where journal and orders are kept."),
    ] = None,
    host: options.Host = None,
    port: options.Port = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="With a simulated Alipay, a shop, and traffic to watch.")
    ] = False,
) -> None:
    """Runs the engine; the options stand above the environment."""
    import os

    from deploy import settings as embedded_settings
    from deploy.cli import launch
    from ingest.settings import BadSettings

    given: dict[str, Any] = {
        "accounts": accounts or (Path("accounts.toml") if demo else None),
        "data_dir": data_dir or (DEMO_DIR / "engine" if demo else None),
        "host": host,
        "port": port,
        "admin_host": admin_host,
        "admin_port": admin_port,
    }
    try:
        settings = embedded_settings.load(os.environ, **given)
    except BadSettings as bad:
        hint = [] if given["accounts"] or os.environ.get("ALIPAY_NOTIFY_ACCOUNTS") else [DEMO_HINT]
        launch.refuse("cannot start as told", [*bad.faults, *hint], exits.WRONG_USAGE)

    from deploy.embedded.up import REFUSALS

    launch.run(
        lambda lines: (_demo if demo else _engine)(settings, lines),
        queue_max=settings.log_queue_max,
        refused_for=REFUSALS,
    )


async def _engine(settings: EmbeddedSettings, lines: LogWriter) -> None:
    from deploy import process
    from deploy.embedded import up as embedded

    async def started(engine: EmbeddedEngine) -> None:
        typer.echo(process.ready_line(public=engine.public_url, admin=engine.admin_url))

    await process.run_until_signal(lambda registry: embedded.running(settings, lines, registry), lines, started)


async def _demo(settings: EmbeddedSettings, lines: LogWriter) -> None:
    from deploy.embedded import demo

    await demo.until_told(settings, lines, DEMO_DIR if settings.data_dir == DEMO_DIR / "engine" else settings.data_dir)
