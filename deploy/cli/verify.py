"""`alipay-notify verify FILE`: check a captured message and explain why it is refused.

Only options are declared here. The code that verifies is imported when the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.verify.capture import Captured
    from deploy.verify.explain import Explanation
    from ingest.keys import Key, KeyRing
    from schemas.accounts import Account

_HELP = """Check a message's signature and explain why it fails (验签失败).

FILE holds a request's body exactly as it was received, or a whole HTTP request with its headers. - is standard input.

    alipay-notify verify body.txt --account shop-sg
    alipay-notify verify request.http
    alipay-notify verify body.json --account antom-hk \\
        --header 'signature: algorithm=RSA256,keyVersion=1,signature=...'
    alipay-notify verify body.txt --key my-app-public-key.pem --output json

The verdict is the receiver's. Variants of the text and other keys are tried only to name the cause, never to accept.
"""
_EPILOG = "Exit codes: 0 accepted, 1 could not be checked, 2 wrong usage, 3 refused."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("verify", help=_HELP, epilog=_EPILOG)(verify)


def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A body or an HTTP request; - is standard input.")],
    account: Annotated[str, typer.Option(help="The message's account; otherwise it is found.")] = "",
    accounts: Annotated[Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file.")] = Path(
        "accounts.toml"
    ),
    header: Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header of the request.")] = None,
    path: Annotated[str, typer.Option(metavar="PATH", help="The path of the request, with its query.")] = "",
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Another key to try, such as your own.")] = None,
    output: terminal.Output = "table",
) -> None:
    """Explain one message."""
    import msgspec

    from schemas.accounts import BadAccounts

    captured = _captured(file, header or [], path)
    try:
        known, rings = _accounts(accounts, account)
    except BadAccounts as bad:
        _fail(bad.faults)
    candidates = [known[account]] if account else _candidates(captured, known, rings)
    explanation = _explain(captured, candidates, rings, key)
    if output == "json":
        terminal.as_json(msgspec.to_builtins(explanation))
    else:
        _print_table(explanation)
    raise typer.Exit(exits.DONE if explanation.accepted else exits.FOUND_WRONG)


def _captured(file: str, headers: list[str], path: str) -> Captured:
    import msgspec

    from deploy.verify import capture

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _fail([f"{file} cannot be read: {error.strerror}"])
    captured = capture.read(content)
    named = dict(captured.headers)
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{text!r} is not NAME: VALUE", param_hint="--header")
        named[name.strip().lower()] = value.strip()
    return msgspec.structs.replace(captured, headers=named, target=path or captured.target)


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
        typer.echo(f"{fault}: the keys of this account are not tried", err=True)
    if not rings:
        raise BadAccounts(faults)
    return known, rings


def _candidates(captured: Captured, known: Mapping[str, Account], rings: Mapping[str, KeyRing]) -> list[Account]:
    """Return the accounts that this message may be for: the one in its path, else those of its family."""
    from deploy.verify import explain

    usable = {name: each for name, each in known.items() if name in rings}
    named = captured.target.partition("?")[0].rpartition("/")[2]
    if named in usable:
        return [usable[named]]
    return explain.candidates(captured, list(usable.values()))


def _explain(
    captured: Captured, candidates: list[Account], rings: Mapping[str, KeyRing], key: Path | None
) -> Explanation:
    from deploy.verify import explain

    found = []
    for each in candidates:
        ring = rings[each.name]
        if explain.looks_like_return(captured.body, each):
            found.append(explain.explain_return(captured.body, each, ring))
        else:
            given = _given_key(key, each) if key else None
            found.append(explain.explain(captured, each, ring, others=rings, given=given))
    accepted = [each for each in found if each.accepted]
    if len(found) != 1 and not accepted:
        names = ", ".join(each.name for each in candidates) or "none"
        raise typer.BadParameter(
            f"the account is not clear from the message; choose one of: {names}", param_hint="--account"
        )
    return (accepted or found)[0]


def _given_key(path: Path, account: Account) -> Key:
    from ingest import key_files
    from ingest.key_files import BadKey
    from ingest.keys import Key

    try:
        return Key(path.name, key_files.any_key(path.read_bytes(), account))
    except OSError as error:
        _fail([f"{path} cannot be read: {error.strerror}"])
    except BadKey as bad:
        _fail([f"{path.name} {bad}"])


def _fail(faults: list[str]) -> NoReturn:
    terminal.fail("; ".join(faults))


def _print_table(explanation: Explanation) -> None:
    from rich.table import Table
    from rich.text import Text

    console = terminal.console()
    console.print(Text("authentic", "bold green") if explanation.accepted else Text("refused", "bold red"))
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(explanation):
        if value:
            table.add_row(name, Text(value))
    console.print(table)
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
        ("reason", explanation.reason.value if explanation.reason else ""),
        ("key", explanation.key),
        ("sign_type", terminal.plain(explanation.sign_type)),
        ("valid with", terminal.joined(each.variant.value for each in tried if each.holds)),
        ("not valid with", terminal.joined(each.variant.value for each in tried if not each.holds)),
    ]
