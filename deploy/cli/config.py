"""`alipay-notify config show`: what a process would run with, and what is wrong with it. Secrets are names of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from deploy import exits
from deploy.cli import terminal

_HELP = """Show the settings in force, where each comes from, and the accounts; and every fault in them.

    alipay-notify config show
    ALIPAY_NOTIFY_PORT=80 alipay-notify config show --output json
"""
_NOT_SHOWN = frozenset({"name", "family", "sign_type"})


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    group = typer.Typer(help="The configuration.", no_args_is_help=True)
    group.command("show", help=_HELP, epilog=exits.EPILOG)(show)
    group.callback()(_group)  # a group of one command would be taken for that command
    app.add_typer(group, name="config")


def _group() -> None:
    """Nothing of its own."""


def show(output: terminal.Output = "table") -> None:
    """Shows it; ends with 3 where there is a fault."""
    settings, faults = _settings()
    accounts, found = _accounts()
    faults += found
    if output == "json":
        terminal.as_json({"settings": settings, "accounts": accounts, "faults": faults})
    else:
        _print(settings, accounts, faults)
    raise typer.Exit(exits.FOUND_WRONG if faults else exits.DONE)


def _settings() -> tuple[list[dict[str, Any]], list[str]]:
    """Each setting with its value and its source; none where they are at fault."""
    from deploy.cluster.settings import AllSettings, without_password
    from deploy.settings import documented
    from ingest import settings as settings_

    faults: list[str] = []
    environ = dict(os.environ)
    if settings_.PREFIX + "ACCOUNTS" not in environ:
        environ[settings_.PREFIX + "ACCOUNTS"] = "accounts.toml"
        faults.append(
            f"{settings_.PREFIX}ACCOUNTS is not set, and every process has to be told: the path of accounts.toml"
        )
    try:
        settings = settings_.load_as(AllSettings, environ)
    except settings_.BadSettings as bad:
        return [], faults + bad.faults
    rows = []
    for name, field in documented(AllSettings).items():
        variable = settings_.PREFIX + name.upper()
        value = getattr(settings, name)
        source = "environment" if variable in os.environ else "default"
        shown_value = without_password(str(value)) if isinstance(value, Path | str) else value
        rows.append({"name": variable, "value": shown_value, "from": source, "about": field.description or ""})
    return rows, faults


def _accounts() -> tuple[list[dict[str, Any]], list[str]]:
    """Each account as the file has it. Key files are named, never read; there is nothing else secret in it."""
    from msgspec import structs

    from deploy import accounts_file
    from schemas.accounts import BadAccounts

    path = os.environ.get(accounts_file.ENVIRONMENT)
    if not path:
        return [], []
    try:
        accounts = accounts_file.read(Path(path))
    except BadAccounts as bad:
        return [], bad.faults
    return [_account(structs.asdict(account)) for account in accounts.values()], []


def _account(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {}, ())}


def _print(settings: list[dict[str, Any]], accounts: list[dict[str, Any]], faults: list[str]) -> None:
    if settings:
        rows = [(row["name"], row["value"], row["from"], row["about"]) for row in settings]
        terminal.table("Settings", ("variable", "value", "from", "what it is"), rows)
    if accounts:
        rows = [(a["name"], a["family"], a["sign_type"], _rest(a)) for a in accounts]
        terminal.table("Accounts", ("name", "family", "sign type", "the rest"), rows)
    for fault in faults:
        terminal.line("wrong", fault)


def _rest(account: dict[str, Any]) -> str:
    return " · ".join(
        f"{name}={','.join(value) if isinstance(value, dict | tuple) else value}"
        for name, value in account.items()
        if name not in _NOT_SHOWN
    )
