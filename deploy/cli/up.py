"""`alipay-notify up`: the embedded engine in one process, and with `--demo` a simulated Alipay in the same process.

Only options are declared here. The code that runs is imported when the command runs, so that `--help` stays quick.
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
DEMO_HINT = "to try it without accounts of your own, run: alipay-notify up --demo"

_HELP = """Run the embedded engine: receiver, worker and console.

One process on one machine. Alipay sends notifications to POST /notify/ACCOUNT on the public port. The admin API and the
console are on the admin port, which is bound to 127.0.0.1 by default. A notification is answered `success` only after
it is on disk, so that killing the process loses none.

    alipay-notify up --demo
    alipay-notify up --accounts accounts.toml --data-dir /srv/alipay
    ALIPAY_NOTIFY_ACCOUNTS=accounts.toml alipay-notify up --port 0

When the process is ready, it prints one JSON line to stdout: {"event": "ready", "public": "http://…", "admin":
"http://…"}. Logs go to stderr. SIGTERM stops it gracefully.
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("up", help=_HELP, epilog=exits.EPILOG_PROCESS)(up)


def up(
    accounts: options.Accounts = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(readable=False, envvar="ALIPAY_NOTIFY_DATA_DIR", help="Folder of the journal and the orders."),
    ] = None,
    host: options.Host = None,
    port: options.Port = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
    demo: Annotated[bool, typer.Option("--demo", help="Add a simulated Alipay, a shop, and sample traffic.")] = False,
) -> None:
    """Run the engine; the options override the environment."""
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
        launch.refuse("cannot start with these settings", [*bad.faults, *hint], exits.WRONG_USAGE)

    from deploy.embedded.up import REFUSALS

    launch.run(
        lambda log_writer: (_demo if demo else _engine)(settings, log_writer),
        service="alipay-notify-up",
        queue_max=settings.log_queue_max,
        refused_for=REFUSALS,
    )


async def _engine(settings: EmbeddedSettings, log_writer: LogWriter) -> None:
    from deploy import process
    from deploy.embedded import up as embedded

    async def started(engine: EmbeddedEngine) -> None:
        typer.echo(process.ready_line(public=engine.public_url, admin=engine.admin_url))

    await process.run_until_signal(
        lambda registry: embedded.running(settings, log_writer, registry),
        log_writer,
        started,
        standstill_limit_s=settings.standstill_limit_s,
    )


async def _demo(settings: EmbeddedSettings, log_writer: LogWriter) -> None:
    from deploy.embedded import demo

    await demo.run_until_signal(
        settings, log_writer, DEMO_DIR if settings.data_dir == DEMO_DIR / "engine" else settings.data_dir
    )
