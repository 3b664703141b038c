"""`alipay-notify ingest`, `worker` and `console`: the processes of the cluster engine.

Only options are declared here. The code that runs is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import typer

from deploy import exits
from deploy.cli import options

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from deploy.cluster.settings import ClusterSettings
    from deploy.logs import LogWriter

    Running = Callable[[ClusterSettings, LogWriter, CollectorRegistry], AbstractAsyncContextManager[dict[str, str]]]

_COMMON = """
All settings are environment variables named ALIPAY_NOTIFY_…; the options override them. `alipay-notify config show`
lists them. When the process is ready, it prints one JSON line to stdout: {"event": "ready", …}. Logs go to stderr.
SIGTERM stops it gracefully.
"""
_INGEST = f"""Run a receiver of the cluster engine.

A receiver verifies notifications, appends them to Kafka, and answers `success` when Kafka has acknowledged them. It
needs Kafka only. Run several behind a load balancer that checks /readyz on the admin port.

    alipay-notify ingest --accounts accounts.toml --kafka k1:9092,k2:9092
    ALIPAY_NOTIFY_REUSE_PORT=1 alipay-notify ingest --admin-port 9465
{_COMMON}"""
_WORKER = f"""Run a worker of the cluster engine.

A worker processes notifications, updates orders in PostgreSQL, and publishes order events. Workers form one Kafka
consumer group: start at most one for each partition.

    alipay-notify worker --kafka k1:9092 \\
        --postgres postgresql://orders@db/orders --redis redis://redis/0
{_COMMON}"""
_CONSOLE = f"""Run the console and the admin API of the cluster engine.

They show orders and held notifications, register orders, and check Returns.

    alipay-notify console --postgres postgresql://orders@db/orders
{_COMMON}"""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("ingest", help=_INGEST, epilog=exits.EPILOG_PROCESS)(ingest)
    app.command("worker", help=_WORKER, epilog=exits.EPILOG_PROCESS)(worker)
    app.command("console", help=_CONSOLE, epilog=exits.EPILOG_PROCESS)(console)


def ingest(
    accounts: options.Accounts = None,
    kafka: options.Kafka = None,
    host: options.Host = None,
    port: options.Port = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
) -> None:
    """Run a receiver; the options override the environment."""

    def running() -> Running:
        from deploy.cluster import receiver

        return receiver.running

    _run(
        "ingest",
        running,
        accounts=accounts,
        kafka=kafka,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
    )


def worker(
    accounts: options.Accounts = None,
    kafka: options.Kafka = None,
    postgres: options.Postgres = None,
    redis: options.Redis = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
) -> None:
    """Run a worker; the options override the environment."""

    def running() -> Running:
        from deploy.cluster import worker

        return worker.running

    _run(
        "worker",
        running,
        accounts=accounts,
        kafka=kafka,
        postgres=postgres,
        redis=redis,
        admin_host=admin_host,
        admin_port=admin_port,
    )


def console(
    accounts: options.Accounts = None,
    postgres: options.Postgres = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
) -> None:
    """Run a console; the options override the environment."""

    def running() -> Running:
        from deploy.cluster import console

        return console.running

    _run("console", running, accounts=accounts, postgres=postgres, admin_host=admin_host, admin_port=admin_port)


def _run(role: str, load: Callable[[], Running], **given: Any) -> None:
    import os

    from deploy.cli import launch
    from ingest.settings import BadSettings

    launch.need("aiokafka", "asyncpg", "redis", extra="cluster")
    from deploy import process
    from deploy.cluster import settings as cluster_settings
    from deploy.cluster import start_errors

    running = load()
    try:
        settings = cluster_settings.load(os.environ, **given)
    except BadSettings as bad:
        launch.refuse("cannot start with these settings", options.with_hint(bad.faults), exits.WRONG_USAGE)

    async def started(where: dict[str, str]) -> None:
        typer.echo(process.ready_line(**where))

    launch.run(
        lambda log_writer: process.run_until_signal(
            lambda registry: running(settings, log_writer, registry),
            log_writer,
            started,
            standstill_limit_s=settings.standstill_limit_s,
        ),
        service=f"alipay-notify-{role}",
        queue_max=settings.log_queue_max,
        refused_for=start_errors.REFUSALS,
    )
