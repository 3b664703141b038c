"""`alipay-notify doctor`: find problems of this installation, with their remedies."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import options, terminal

if TYPE_CHECKING:
    from deploy.doctor import Finding

_HELP = """Check settings, keys, data, disk, clock, ports and servers.

It reads the same settings as `up` and the cluster's processes, and changes nothing. Each problem comes with its remedy.
If Kafka, PostgreSQL or Redis is configured, or a local stack runs in .stack, it checks those too: topics, copies, the
workers' group, schema, clock skew, durability and eviction. With --prometheus, or with a local stack, it asks
Prometheus whether it scrapes our processes and has the shipped alerts. With --notify-url it sends a GET there, which a
receiver refuses.

    alipay-notify doctor
    alipay-notify doctor --accounts accounts.toml --output json
    alipay-notify doctor --kafka k1:9092 --redis redis://redis/0
    alipay-notify doctor --prometheus http://prometheus:9090
    alipay-notify doctor --notify-url https://pay.example/notify/shop
"""
CLIENTS = ("aiokafka", "asyncpg", "redis", "yaml")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("doctor", help=_HELP, epilog=exits.EPILOG)(doctor)


def doctor(
    accounts: options.Accounts = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(readable=False, envvar="ALIPAY_NOTIFY_DATA_DIR", help="Folder of the journal and the orders."),
    ] = None,
    kafka: options.Kafka = None,
    postgres: options.Postgres = None,
    redis: options.Redis = None,
    prometheus: Annotated[
        str, typer.Option(envvar="ALIPAY_NOTIFY_PROMETHEUS", help="Address of Prometheus, to check alerts and targets.")
    ] = "",
    notify_url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A notify URL as registered at Alipay: does it lead to a receiver?"),
    ] = None,
    output: terminal.Output = "table",
) -> None:
    """Print the findings; exit with 3 if one is a problem."""
    from deploy import doctor_notify_url
    from deploy.doctor import FindingState, examine

    environ = dict(os.environ)
    given = {"ACCOUNTS": accounts, "DATA_DIR": data_dir, "KAFKA": kafka, "POSTGRES": postgres, "REDIS": redis}
    environ |= {f"ALIPAY_NOTIFY_{name}": str(value) for name, value in given.items() if value is not None}
    findings = examine(environ)
    seen = {finding.detail for finding in findings}  # both checks report the same faults of settings
    findings += [finding for finding in _cluster(environ) if finding.detail not in seen]
    findings += _monitoring(prometheus)
    findings += [doctor_notify_url.examine(url) for url in notify_url or ()]
    wrong = [finding for finding in findings if finding.state is FindingState.WRONG]
    if output == "json":
        rows = [{name: str(getattr(each, name)) for name in each.__struct_fields__} for each in findings]
        terminal.as_json({"ok": not wrong, "findings": rows})
    else:
        columns = ("", "check", "finding", "what to do")
        terminal.table("", columns, [(each.state.value, each.name, each.detail, each.advice) for each in findings])
    raise typer.Exit(exits.FOUND_WRONG if wrong else exits.DONE)


def _monitoring(prometheus: str) -> list[Finding]:
    """Return the findings about the given Prometheus or that of a local stack, none if there is neither."""
    from deploy import doctor_monitoring
    from deploy.cluster import servers

    url = prometheus or (servers.of_stack(servers.STACK) or {}).get("prometheus", "")
    return doctor_monitoring.examine(url) if url else []


def _cluster(environ: dict[str, str]) -> list[Finding]:
    """Return the findings about the cluster, none if no cluster is configured."""
    from deploy.cluster import servers
    from deploy.doctor import Finding, FindingState
    from ingest.settings import BadSettings

    try:
        found = servers.find({"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml", **environ})
    except BadSettings as bad:
        advice = "correct this environment variable; `alipay-notify config show` explains each setting"
        return [Finding(name="cluster", state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults]
    if found is None:
        return []
    missing = [module for module in CLIENTS if find_spec(module) is None]
    if missing:
        advice = "run pip install 'alipay-notify[cluster]'"
        detail = f"configured but not checked, because {', '.join(missing)} is not installed"
        return [Finding(name="cluster", state=FindingState.WRONG, detail=detail, advice=advice)]
    from deploy.cluster import doctor as cluster_doctor

    return asyncio.run(cluster_doctor.examine(found))
