"""`alipay-notify doctor`: what is wrong here, and what to do."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.doctor import Finding

_HELP = """Look at what could keep payments from being taken: settings, accounts, keys, data, disk, clock, ports.

It takes its settings as `up` and the cluster's processes do, changes nothing, and says of each thing what is wrong and
what to do. Where Kafka, PostgreSQL or Redis are named, or a local stack runs in .stack, it looks at those too: topics,
schema, durability, eviction.

    alipay-notify doctor
    alipay-notify doctor --accounts /etc/alipay-notify/accounts.toml --output json
    alipay-notify doctor --kafka k1:9092 --redis redis://redis/0
"""
CLIENTS = ("aiokafka", "asyncpg", "redis", "yaml")


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command("doctor", help=_HELP, epilog=exits.EPILOG)(doctor)


def doctor(
    accounts: Annotated[
        Path | None, typer.Option(readable=False, envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts' configuration.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(readable=False, envvar="ALIPAY_NOTIFY_DATA_DIR", help="Where the engine keeps its files."),
    ] = None,
    kafka: Annotated[
        str | None, typer.Option(envvar="ALIPAY_NOTIFY_KAFKA", metavar="HOST:PORT,…", help="The cluster's brokers.")
    ] = None,
    postgres: Annotated[
        str | None, typer.Option(envvar="ALIPAY_NOTIFY_POSTGRES", metavar="URL", help="The cluster's order store.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(envvar="ALIPAY_NOTIFY_REDIS", metavar="URL", help="The cluster's claims.")
    ] = None,
    output: terminal.Output = "table",
) -> None:
    """Looks, tells, and ends with 3 where something is wrong."""
    from deploy.doctor import FindingState, examine

    environ = dict(os.environ)
    options = {"ACCOUNTS": accounts, "DATA_DIR": data_dir, "KAFKA": kafka, "POSTGRES": postgres, "REDIS": redis}
    environ |= {f"ALIPAY_NOTIFY_{name}": str(given) for name, given in options.items() if given is not None}
    findings = examine(environ)
    named = {finding.detail for finding in findings}
    findings += [finding for finding in _cluster(environ) if finding.detail not in named]  # a setting's fault, once
    wrong = [finding for finding in findings if finding.state is FindingState.WRONG]
    if output == "json":
        rows = [{name: str(getattr(each, name)) for name in each.__struct_fields__} for each in findings]
        terminal.as_json({"ok": not wrong, "findings": rows})
    else:
        columns = ("", "what", "how it is", "what to do")
        terminal.table("", columns, [(each.state.value, each.name, each.detail, each.advice) for each in findings])
    raise typer.Exit(exits.FOUND_WRONG if wrong else exits.DONE)


def _cluster(environ: dict[str, str]) -> list[Finding]:
    """What is found in the cluster; nothing where there is none."""
    from deploy.cluster import servers
    from deploy.doctor import Finding, FindingState
    from ingest.settings import BadSettings

    try:
        found = servers.find({"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml", **environ})
    except BadSettings as bad:
        advice = "correct the environment; `alipay-notify config show` explains each setting"
        return [Finding(name="cluster", state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults]
    if found is None:
        return []
    missing = [module for module in CLIENTS if find_spec(module) is None]
    if missing:
        advice = "pip install 'alipay-notify[cluster]'"
        detail = f"named, and not looked at: {', '.join(missing)} is missing"
        return [Finding(name="cluster", state=FindingState.WRONG, detail=detail, advice=advice)]
    from deploy.cluster import doctor as cluster_doctor

    return asyncio.run(cluster_doctor.examine(found))
