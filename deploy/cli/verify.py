"""`alipay-notify verify FILE`: is this message authentic, and if not, why not.

Only options are declared here; what answers is imported when the command runs, so that `--help` stays quick.
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

_HELP = """Say whether a message is authentic, and why its signature fails (验签失败) if it is not.

FILE holds a request's body exactly as it was received, or a whole HTTP request with its headers; - is standard input.

    alipay-notify verify body.txt --account shop-sg
    alipay-notify verify request.http
    alipay-notify verify body.json --account antom-hk --header 'signature: algorithm=RSA256,keyVersion=1,signature=...'
    alipay-notify verify body.txt --key my-app-public-key.pem --output json

Nothing is accepted here that the receiver would refuse: the variants tried only name the cause.

Exit codes: 0 authentic and this account's, 1 could not be done, 2 wrong usage, 3 refused.
"""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("verify", help=_HELP)(verify)


def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A body or an HTTP request; - is standard input.")],
    account: Annotated[str, typer.Option(help="Whose message it is; else the account that it fits.")] = "",
    accounts: Annotated[
        Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts' configuration.")
    ] = Path("accounts.toml"),
    header: Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header of the request.")] = None,
    path: Annotated[str, typer.Option(metavar="PATH", help="The path that was asked for, with its query.")] = "",
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="One more key to try, your own perhaps.")] = None,
    output: terminal.Output = "table",
) -> None:
    """Explain one message; the options say whose it is and what else is known about it."""
    import msgspec

    from schemas.accounts import BadAccounts

    captured = _captured(file, header or [], path)
    try:
        known, rings = _accounts(accounts, account)
    except BadAccounts as bad:
        _fail(bad.faults)
    candidates = [known[account]] if account else _fitting(captured, known, rings)
    explanation = _explained(captured, candidates, rings, key)
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
    """The accounts and their rings. Other accounts' broken keys are no reason not to look at this one's message."""
    from deploy import accounts_file
    from ingest import keys
    from schemas.accounts import BadAccounts

    known = accounts_file.read(path)
    if wanted and wanted not in known:
        raise typer.BadParameter(f"no account {wanted}: there are {', '.join(known)}", param_hint="--account")
    rings, faults = {}, []
    for name, each in known.items():
        try:
            rings[name] = keys.load(each, path.parent)
        except BadAccounts as bad:
            if name == wanted:
                raise
            faults += bad.faults
    for fault in faults:
        typer.echo(f"{fault}: its keys are not tried", err=True)
    if not rings:
        raise BadAccounts(faults)
    return known, rings


def _fitting(captured: Captured, known: Mapping[str, Account], rings: Mapping[str, KeyRing]) -> list[Account]:
    """The accounts that this message may be for: the one in its path, else those of its family."""
    from deploy.verify import explain

    usable = {name: each for name, each in known.items() if name in rings}
    named = captured.target.partition("?")[0].rpartition("/")[2]
    if named in usable:
        return [usable[named]]
    return explain.candidates(captured, list(usable.values()))


def _explained(
    captured: Captured, candidates: list[Account], rings: Mapping[str, KeyRing], key: Path | None
) -> Explanation:
    from deploy.verify import explain

    found = []
    for each in candidates:
        ring = rings[each.name]
        if explain.looks_like_one(captured.body, each):
            found.append(explain.explain_return(captured.body, each, ring))
        else:
            given = _given_key(key, each) if key else None
            found.append(explain.explain(captured, each, ring, others=rings, given=given))
    accepted = [each for each in found if each.accepted]
    if len(found) != 1 and not accepted:
        names = ", ".join(each.name for each in candidates) or "none"
        raise typer.BadParameter(f"whose message is it? It may be for: {names}", param_hint="--account")
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
        # Below the table and never folded: what is copied from here has to be the text that was signed.
        console.print(Text("signed text", "bold"))
        for line in explanation.signed_text.split("\n"):
            console.print(Text(terminal.plain(line)), soft_wrap=True)


def _rows(explanation: Explanation) -> list[tuple[str, str]]:
    """What there is to say, by its name."""
    tried = explanation.tried
    return [
        ("cause", explanation.cause),
        ("what to do", explanation.remedy),
        ("account", explanation.account),
        ("reason", explanation.reason.value if explanation.reason else ""),
        ("key", explanation.key),
        ("sign_type", terminal.plain(explanation.sign_type)),
        ("holds with", terminal.words(each.variant.value for each in tried if each.holds)),
        ("tried in vain", terminal.words(each.variant.value for each in tried if not each.holds)),
    ]
