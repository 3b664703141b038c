"""`alipay-notify ingest`, `worker` and `console`: the cluster engine's processes, one each.

Only options are declared here; what runs is imported when the command runs, so that `--help` stays quick.
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
Everything can be said by environment variables, ALIPAY_NOTIFY_…; `alipay-notify config show` lists them. When it is
ready it prints one JSON line to stdout: {"event": "ready", …}. Logs go to stderr. SIGTERM ends it in good order.
"""
_INGEST = f"""Run a receiver: verify notifications, append them to Kafka, say `success` when Kafka has them.

It needs Kafka and nothing else. Put several behind a load balancer that asks /readyz on the admin port.

    alipay-notify ingest --accounts accounts.toml --kafka k1:9092,k2:9092,k3:9092
    ALIPAY_NOTIFY_REUSE_PORT=1 alipay-notify ingest --port 8080 --admin-port 9465
{_COMMON}"""
_WORKER = f"""Run a worker: bring every notification to its disposition, and send the events of orders.

Kafka shares the partitions out among the workers of a group: start as many as there is work for, at most one for each
partition.

    alipay-notify worker --kafka k1:9092 --postgres postgresql://orders@db/orders --redis redis://redis/0
{_COMMON}"""
_CONSOLE = f"""Run the console and the API: orders, held notifications, registrations and Returns.

    alipay-notify console --postgres postgresql://orders@db/orders --admin-port 9464
{_COMMON}"""


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    app.command("ingest", help=_INGEST, epilog=exits.EPILOG)(ingest)
    app.command("worker", help=_WORKER, epilog=exits.EPILOG)(worker)
    app.command("console", help=_CONSOLE, epilog=exits.EPILOG)(console)


def ingest(
    accounts: options.Accounts = None,
    kafka: options.Kafka = None,
    host: options.Host = None,
    port: options.Port = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
) -> None:
    """Runs a receiver; the options stand above the environment."""

    def running() -> Running:
        from deploy.cluster import receiver

        return receiver.running

    _run(running, accounts=accounts, kafka=kafka, host=host, port=port, admin_host=admin_host, admin_port=admin_port)


def worker(
    accounts: options.Accounts = None,
    kafka: options.Kafka = None,
    postgres: options.Postgres = None,
    redis: options.Redis = None,
    admin_host: options.AdminHost = None,
    admin_port: options.AdminPort = None,
) -> None:
    """Runs a worker; the options stand above the environment."""

    def running() -> Running:
        from deploy.cluster import worker

        return worker.running

    _run(
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
    """Runs a console; the options stand above the environment."""

    def running() -> Running:
        from deploy.cluster import console

        return console.running

    _run(running, accounts=accounts, postgres=postgres, admin_host=admin_host, admin_port=admin_port)


def _run(role: Callable[[], Running], **given: Any) -> None:
    import os

    from deploy.cli import launch
    from ingest.settings import BadSettings

    launch.need("aiokafka", "asyncpg", "redis", extra="cluster")
    from deploy import process
    from deploy.cluster import settings, start_errors

    running = role()
    try:
        told = settings.load(os.environ, **given)
    except BadSettings as bad:
        launch.refuse("cannot start as told", bad.faults, exits.WRONG_USAGE)

    async def started(where: dict[str, str]) -> None:
        typer.echo(process.ready_line(**where))

    launch.run(
        lambda lines: process.run_until_signal(lambda registry: running(told, lines, registry), lines, started),
        queue_max=told.log_queue_max,
        refused_for=start_errors.REFUSALS,
    )
