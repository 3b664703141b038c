"""`alipay-notify config show`: the settings in force, and their faults. Secrets are shown as file names only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy import exits
from deploy.cli import options, terminal

if TYPE_CHECKING:
    from schemas.accounts import RetiringAlgorithm

_HELP = """Show the settings in force, the accounts, and all faults.

Each setting is shown with its source: the environment or the default.

    alipay-notify config show
    ALIPAY_NOTIFY_PORT=80 alipay-notify config show --output json
"""
_NO_ACCOUNTS = f"{options.ACCOUNTS} is not set; every process needs it: the path of accounts.toml"
_NOT_SHOWN = frozenset({"name", "family", "sign_type"})


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Show the settings in force.", no_args_is_help=True)
    group.command("show", help=_HELP, epilog=exits.EPILOG)(show)
    app.add_typer(group, name="config")


def show(output: terminal.Output = "table") -> None:
    """Show the settings; exit with 3 if there is a fault."""
    settings, faults = _settings()
    accounts, found = _accounts()
    faults += found
    notes = [] if os.environ.get(options.ACCOUNTS) else [_NO_ACCOUNTS]
    if output == "json":
        terminal.as_json({"settings": settings, "accounts": accounts, "faults": faults, "notes": notes})
    else:
        _print(settings, accounts, faults, notes)
    raise typer.Exit(exits.FOUND_WRONG if faults else exits.DONE)


def _settings() -> tuple[list[dict[str, Any]], list[str]]:
    """Return each setting with its value and source, none if they have a fault, and the faults."""
    from deploy.cluster.settings import AllSettings, without_password
    from deploy.settings import documented
    from ingest import settings as settings_

    try:
        settings = settings_.load_as(AllSettings, {options.ACCOUNTS: "accounts.toml", **os.environ})
    except settings_.BadSettings as bad:
        return [], bad.faults
    rows = []
    for name, field in documented(AllSettings).items():
        variable = settings_.PREFIX + name.upper()
        value = getattr(settings, name)
        source = "environment" if variable in os.environ else "default"
        shown_value = without_password(str(value)) if isinstance(value, Path | str) else value
        rows.append({"name": variable, "value": shown_value, "from": source, "about": field.description or ""})
    return rows, []


def _accounts() -> tuple[list[dict[str, Any]], list[str]]:
    """Return each account as in the file. Key files are named and not read; the file has no other secrets."""
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
    return [
        _account(structs.asdict(account) | {"retiring": [_former(each) for each in account.retiring]})
        for account in accounts.values()
    ], []


def _account(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {}, (), [])}


def _former(former: RetiringAlgorithm) -> dict[str, Any]:
    files = [*former.keys.values(), *([former.md5_key_file] if former.md5_key_file else [])]
    return {"sign_type": former.sign_type.value, "files": files, "until": former.until}


def _print(settings: list[dict[str, Any]], accounts: list[dict[str, Any]], faults: list[str], notes: list[str]) -> None:
    if settings:
        rows = [(row["name"], row["value"], row["from"], row["about"]) for row in settings]
        terminal.table("Settings", ("variable", "value", "from", "meaning"), rows)
    if accounts:
        rows = [(a["name"], a["family"], a["sign_type"], _rest(a)) for a in accounts]
        terminal.table("Accounts", ("name", "family", "sign type", "other settings"), rows)
    for fault in faults:
        terminal.line("wrong", fault)
    for note in notes:
        terminal.line("note", note)


def _rest(account: dict[str, Any]) -> str:
    return " · ".join(
        f"{name}={','.join(value) if isinstance(value, dict | tuple) else value}"
        for name, value in (account | {"retiring": _retiring(account)}).items()
        if name not in _NOT_SHOWN and value != ()
    )


def _retiring(account: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{each['sign_type']} until {each['until']}" for each in account.get("retiring", []))
