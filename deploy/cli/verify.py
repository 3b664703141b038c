"""`alipay-notify verify FILE`: check a captured message and explain why it is refused.

Only options are declared here. The code that verifies is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from deploy.verify.capture import Captured
    from deploy.verify.explain import Explanation
    from ingest.keys import Key, KeyRing
    from schemas.accounts import Account

_HELP = """Check a message's signature and explain why it fails (验签失败).

FILE holds a request's body exactly as it was received, or a whole HTTP request with its headers. It may also be what
your program printed of the parameters: JSON, a Python dict, PHP's print_r or var_dump, Java's or Go's map, one pair a
line, a log line, a curl command; or a Return's address. - is standard input.

    alipay-notify verify body.txt --account shop-sg
    alipay-notify verify request.http
    grep 'alipay notify' app.log | tail -1 | alipay-notify verify -
    alipay-notify verify body.json --account antom-hk \\
        --header 'signature: algorithm=RSA256,keyVersion=1,signature=...'
    alipay-notify verify body.txt --key my-app-public-key.pem --output json

The verdict is the receiver's. Variants of the text and other keys are tried only to name the cause, never to accept.
"""
_EPILOG = "Exit codes: 0 accepted, 1 could not be checked, 2 wrong usage, 3 refused."
_LABEL_WIDTH = 14


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("verify", help=_HELP, epilog=_EPILOG)(verify)


def verify(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A body, an HTTP request or a dump; - is standard input.")
    ],
    account: Annotated[str, typer.Option(help="The message's account; otherwise it is found.")] = "",
    accounts: Annotated[Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file.")] = Path(
        "accounts.toml"
    ),
    header: Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header of the request.")] = None,
    path: Annotated[str, typer.Option(metavar="PATH", help="The path of the request, with its query.")] = "",
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Another key to try, such as your own.")] = None,
    output: terminal.Output = "table",
    json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
) -> None:
    """Explain one message."""
    import msgspec

    from deploy.verify import diagnosis, unlisted
    from schemas.accounts import BadAccounts

    readings = _readings(file, header or [], path)
    try:
        known, rings = _accounts(accounts, account)
    except BadAccounts as bad:
        _fail(bad.faults)
    candidates = [known[account]] if account else [each for name, each in known.items() if name in rings]
    try:
        given = _given_keys(key, candidates, accounts.parent)
        removed = unlisted.keys_beside(known.values(), accounts.parent)
        explanation = diagnosis.diagnose(readings, candidates, rings, given, removed)
    except diagnosis.Unclear as unclear:
        names = ", ".join(unclear.accounts) or "none"
        raise typer.BadParameter(
            f"the account is not clear from the message; choose one of: {names}", param_hint="--account"
        ) from None
    if json or output == "json":
        terminal.as_json(msgspec.to_builtins(explanation))
    else:
        _print_table(explanation)
    raise typer.Exit(exits.DONE if explanation.accepted else exits.FOUND_WRONG)


def _readings(file: str, headers: list[str], path: str) -> list[Captured]:
    from deploy.verify import capture, diagnosis

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as opened:
            content = opened.read(capture.BYTES_MAX + 1)
    except OSError as error:
        _fail([f"{file} cannot be read: {error.strerror}"])
    if len(content) > capture.BYTES_MAX:
        _fail([f"{file} has more than 1 MiB: save one message, or the log lines around it"])
    named = {}
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{text!r} is not NAME: VALUE", param_hint="--header")
        named[name.strip().lower()] = value.strip()
    return diagnosis.read(content, headers=named, path=path)


def _accounts(path: Path, wanted: str) -> tuple[dict[str, Account], dict[str, KeyRing]]:
    """Return the accounts and the key rings that load; a broken key ends the command only in the wanted account."""
    from deploy import accounts_file
    from ingest import keys
    from schemas.accounts import BadAccounts

    known = accounts_file.read(path)
    if wanted and wanted not in known:
        raise typer.BadParameter(
            f"there is no account {wanted}; the accounts are {', '.join(known)}", param_hint="--account"
        )
    rings, faults = {}, []
    for name, each in known.items():
        try:
            rings[name] = keys.load(each, path.parent)
        except BadAccounts as bad:
            if name == wanted:
                raise
            faults += bad.faults
    for fault in faults:
        terminal.note(f"{fault}: the keys of this account are not tried")
    if not rings:
        raise BadAccounts(faults)
    return known, rings


def _given_keys(path: Path | None, accounts: list[Account], directory: Path) -> dict[str, Key]:
    """Return the key to compare with, by account: the given one, else the merchant's own that signs Requests.

    Families and algorithms differ in their keys, so a given key may be none for some accounts.
    """
    from ingest import key_files
    from ingest.key_files import BadKey
    from ingest.keys import Key

    keys, fault = {}, ""
    if path is None:
        for account in accounts:
            with suppress(OSError, BadKey):
                file = directory / (account.merchant_key_file or "")
                keys[account.name] = Key(file.name, key_files.any_key(file.read_bytes(), account))
        return keys
    try:
        content = path.read_bytes()
    except OSError as error:
        _fail([f"{path} cannot be read: {error.strerror}"])
    for account in accounts:
        try:
            keys[account.name] = Key(path.name, key_files.any_key(content, account))
        except BadKey as bad:
            fault = fault or f"{path.name} {bad}"
    if not keys:
        _fail([fault])
    return keys


def _fail(faults: list[str]) -> NoReturn:
    terminal.fail("; ".join(faults))


def _print_table(explanation: Explanation) -> None:
    from rich.text import Text

    console = terminal.console()
    console.print(Text("authentic", "bold green") if explanation.accepted else Text("refused", "bold red"))
    for name, value in _rows(explanation):
        if value:
            terminal.line(name, value, label_width=_LABEL_WIDTH)
    if explanation.signed_text:
        # Below the table and never folded, because a copy of it must be the exact text that was signed.
        console.print(Text("signed text", "bold"))
        for line in explanation.signed_text.split("\n"):
            console.print(Text(terminal.plain(line)), soft_wrap=True)


def _rows(explanation: Explanation) -> list[tuple[str, str]]:
    """Return the lines of the table: label and value."""
    tried = explanation.tried
    return [
        ("cause", explanation.cause),
        ("what to do", explanation.remedy),
        ("account", explanation.account),
        ("read as", explanation.read_as if explanation.read_as != "body" else ""),
        ("ignored", ", ".join(explanation.ignored)),
        ("reason", explanation.reason.value if explanation.reason else ""),
        ("key", explanation.key),
        ("sign_type", explanation.sign_type),
        ("valid with", terminal.joined(each.variant.value for each in tried if each.holds)),
        ("not valid with", terminal.joined(each.variant.value for each in tried if not each.holds)),
    ]
