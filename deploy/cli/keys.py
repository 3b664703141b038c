"""`alipay-notify keys`: list the keys that verify signatures, and check them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from ingest.keys import Key
    from schemas.accounts import Account

EXPIRES_SOON = timedelta(days=30)

Accounts = Annotated[Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file.")]

_LIST_HELP = """List every account's active keys.

    alipay-notify keys list
    alipay-notify keys list --output json
"""
_CHECK_HELP = """Check every account's keys and certificates.

The check is the one that a receiver does when it starts, plus the certificates' expiry dates. An expired certificate
still verifies signatures; it is reported so that you replace it.

    alipay-notify keys check --accounts /etc/alipay-notify/accounts.toml
"""
_EPILOG_LIST = "Exit codes: 0 done, 1 the accounts file cannot be read, 2 wrong usage."
_EPILOG_CHECK = "Exit codes: 0 no problem, 1 the accounts file cannot be read, 2 wrong usage, 3 a problem with a key."


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="List and check the keys that verify signatures.", no_args_is_help=True)
    group.command("list", help=_LIST_HELP, epilog=_EPILOG_LIST)(list_keys)
    group.command("check", help=_CHECK_HELP, epilog=_EPILOG_CHECK)(check_keys)
    app.add_typer(group, name="keys")


def list_keys(accounts: Accounts = Path("accounts.toml"), output: terminal.Output = "table") -> None:
    """List the keys."""
    keys, faults = _load(accounts)
    _print(keys, faults, output)


def check_keys(accounts: Accounts = Path("accounts.toml"), output: terminal.Output = "table") -> None:
    """List the keys; exit with 3 if one has a fault or has expired."""
    keys, faults = _load(accounts)
    _print(keys, faults, output)
    if faults or any(key["state"] == "expired" for key in keys):
        raise typer.Exit(exits.FOUND_WRONG)


def _load(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return each key as a row with stable names, and the faults of all accounts."""
    from deploy import accounts_file
    from ingest import keys
    from schemas.accounts import BadAccounts

    try:
        accounts = accounts_file.read(path)
    except BadAccounts as bad:
        terminal.fail("; ".join(bad.faults))
    rows, faults = [], []
    for account in accounts.values():
        try:
            ring = keys.load(account, path.parent)
        except BadAccounts as bad:
            faults += bad.faults
        else:
            rows += [_row(account, key) for key in ring.keys]
    return rows, faults


def _row(account: Account, key: Key) -> dict[str, Any]:
    from ingest import key_files

    return {
        "account": account.name,
        "key_id": key.id,
        "sign_type": account.sign_type.value,
        "kind": key_files.kind(key.material),
        "bits": key_files.bits(key.material),
        "fingerprint": key_files.fingerprint(key.material),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "state": _state(key.expires_at),
    }


def _state(expires_at: datetime | None) -> str:
    if expires_at is None:
        return "ok"
    left = expires_at - datetime.now(UTC)
    if left <= timedelta(0):
        return "expired"
    return "expires_soon" if left < EXPIRES_SOON else "ok"


_COLUMNS = ("account", "key_id", "sign_type", "kind", "bits", "fingerprint", "expires_at", "state")


def _print(keys: list[dict[str, Any]], faults: list[str], output: str) -> None:
    if output == "json":
        terminal.as_json({"keys": keys, "faults": faults})
        return
    headings = [name.replace("_", " ") for name in _COLUMNS]
    terminal.table("", headings, ([key[name] for name in _COLUMNS] for key in keys))
    for fault in faults:
        typer.echo(f"fault: {terminal.plain(fault)}")
