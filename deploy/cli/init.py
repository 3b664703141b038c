"""`alipay-notify init`: write a first accounts.toml, from options or from answers on a terminal."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from deploy import exits
from deploy.cli import launch, terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.first_account import FirstAccount, Written

    Fault = Callable[[str], str]  # the fault of an answer, or nothing

Choice = TypeVar("Choice", bound=StrEnum)

KEY_BYTES_MAX = 64 * 1024
TEXT_CHARACTERS_MIN = 100  # of a key that is typed itself, the shortest of which has 1024 bits
PATH_CHARACTERS_MAX = 255

_HELP = """Write a first accounts.toml: the account's family, Alipay's key, and the seller that it must name.

On a terminal it asks for each missing option. The key is checked before anything is written, and copied into the
folder keys/ beside accounts.toml. Both files can be read by you alone. An accounts.toml that is there is never changed.

    alipay-notify init
    alipay-notify init --name shop-sg --family mapi --currency USD \\
        --seller-id 2088101122136241 --key alipay.pem
    alipay-notify init --family openapi --app-id 2021000000000000 \\
        --key alipay.pem
    alipay-notify init --family antom --client-id SANDBOX_X --key - < a.pem
"""
_EPILOG = "Exit codes: 0 done, 1 failed (a file is there, or cannot be written), 2 wrong usage, or an unusable key."

_IDENTITIES = {
    "seller_id": "seller_id, your 2088 number",
    "app_id": "app_id of your application",
    "client_id": "client_id of Antom",
}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("init", help=_HELP, epilog=_EPILOG)(init)


def init(
    accounts: Annotated[
        Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", readable=False, help="The file to write.")
    ] = Path("accounts.toml"),
    name: Annotated[str | None, typer.Option(help="Name of the account, the end of its notify address [shop].")] = None,
    family: Annotated[str | None, typer.Option(help="mapi (old gateway, cross-border), openapi or antom.")] = None,
    seller_id: Annotated[str | None, typer.Option(help="Of family mapi: your 2088 number.")] = None,
    app_id: Annotated[str | None, typer.Option(help="Of family openapi.")] = None,
    client_id: Annotated[str | None, typer.Option(help="Of family antom.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="Alipay's public key; - reads stdin.")] = None,
    sign_type: Annotated[str | None, typer.Option(help="The account's algorithm [RSA, RSA2 or RSA256].")] = None,
    currency: Annotated[str | None, typer.Option(help="Of amounts whose message names none.")] = None,
    output: terminal.Output = "table",
) -> None:
    """Write the files, or nothing."""
    from deploy import first_account
    from schemas.accounts import BadAccounts

    if accounts.exists():
        terminal.fail(f"{accounts} exists already: add the account there, or name another file with --accounts")
    identities = {"seller_id": seller_id, "app_id": app_id, "client_id": client_id}
    given = {"name": name, "family": family, "key": key, "sign_type": sign_type, "currency": currency}
    answers = _answers(_Questions(), given, identities)
    try:
        written = first_account.write(answers, accounts)
    except BadAccounts as bad:
        launch.refuse("cannot write this account", bad.faults, exits.WRONG_USAGE)
    except OSError as error:
        terminal.fail(f"{error.filename}: {error.strerror}")
    _print(written, output)


class _Questions:
    """Asks on the terminal for a missing option until the answer can be used; without one it notes the option."""

    def __init__(self) -> None:
        self._can_ask = _is_terminal()
        self.missing: list[str] = []

    def answer(self, option: str, given: str | None, question: str, fault: Fault, usual: str | None = None) -> str:
        """Return the option's value; else the answer; without a terminal the usual value, or nothing."""
        if given is not None:
            return given
        if not self._can_ask:
            if usual is None:
                self.missing.append(option)
            return usual or ""
        while True:
            typed = str(typer.prompt(question, default=usual, err=True)).strip()
            if not (wrong := fault(typed)):
                return typed
            terminal.note(wrong, label="  ")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _answers(questions: _Questions, given: dict[str, str | None], identities: dict[str, str | None]) -> FirstAccount:
    """Return all answers; a missing option, or one that cannot be read, is wrong usage."""
    from dataclasses import replace

    from deploy import first_account
    from deploy.first_account import FirstAccount
    from schemas.accounts import Family, SignType

    name = questions.answer("--name", given["name"], "Name of the account", _name_fault, "shop")
    families = tuple(Family)
    asked = f"Family ({', '.join(families)}; mapi is the old gateway, also cross-border)"
    family = _choice(Family, "--family", questions.answer("--family", given["family"], asked, _one_of(families)))
    if family is None:
        _refuse_missing([*questions.missing, "--key", "and the number that the family has: see --help"])
    field = first_account.IDENTITIES[family]
    if other := [each for each, value in identities.items() if value is not None and each != field]:
        raise typer.BadParameter(f"family {family} has {field}, not {', '.join(other)}")

    def identity_fault(typed: str) -> str:
        return _nothing(typed) or first_account.identity_fault(family, typed)

    identity = questions.answer(f"--{field.replace('_', '-')}", identities[field], _IDENTITIES[field], identity_fault)
    sign_type = _choice(SignType, "--sign-type", given["sign_type"]) or first_account.SIGN_TYPES[family]
    usual = given["currency"] or first_account.CURRENCIES.get(family)
    currency = questions.answer("--currency", usual, "Currency of your contract, such as USD", _currency_fault)
    answers = FirstAccount(name=name, family=family, identity=identity, currency=currency, sign_type=sign_type, key=b"")
    if not questions.missing and (found := first_account.account_faults(answers)):
        launch.refuse("cannot write this account", found, exits.WRONG_USAGE)

    def key_fault(typed: str) -> str:
        try:
            return "; ".join(first_account.faults(replace(answers, key=_key(typed))))
        except OSError as error:
            return f"{typed}: {error.strerror}"

    is_md5 = sign_type is SignType.MD5
    asked = "File with the MD5 key" if is_md5 else "Alipay's public key (a file, or its base64 in one line)"
    named = questions.answer("--key", given["key"], asked, key_fault)
    if questions.missing:
        _refuse_missing(questions.missing)
    try:
        return replace(answers, key=_key(named, is_file=given["key"] is not None))
    except OSError as error:
        raise typer.BadParameter(f"--key {named}: {error.strerror}") from None


def _refuse_missing(options: list[str]) -> NoReturn:
    launch.refuse("needs these options, because there is no terminal to ask on", options, exits.WRONG_USAGE)


def _key(named: str, *, is_file: bool = False) -> bytes:
    """Return the content of the file, of stdin if it is `-`, or the text itself if it may be one and no file has it.

    Raises:
        OSError: the file cannot be read.
    """
    if named == "-" and is_file:
        return sys.stdin.buffer.read(KEY_BYTES_MAX)
    if not is_file and len(named) > TEXT_CHARACTERS_MIN and not Path(named[:PATH_CHARACTERS_MAX]).is_file():
        return named.encode() + b"\n"
    with Path(named).expanduser().open("rb") as file:
        return file.read(KEY_BYTES_MAX)


def _choice(kind: type[Choice], option: str, value: str | None) -> Choice | None:
    if not value:
        return None
    if value not in set(kind):
        raise typer.BadParameter(f"{option} must be one of {', '.join(kind)}")
    return kind(value)


def _one_of(values: tuple[str, ...]) -> Fault:
    return lambda typed: "" if typed in values else f"type one of {', '.join(values)}"


def _name_fault(typed: str) -> str:
    from schemas.accounts import NAME

    return "" if NAME.fullmatch(typed) else "use lower-case letters, digits and inner hyphens: it is part of the URL"


def _currency_fault(typed: str) -> str:
    from schemas.currencies import EXPONENTS

    return "" if typed in EXPONENTS else "type a code of ISO 4217, such as USD"


def _nothing(typed: str) -> str:
    return "" if typed else "it must not be empty"


def _print(written: Written, output: str) -> None:
    account, file = written.account, written.accounts_file
    path = account.public_path or f"/notify/{account.name}"
    if output == "json":
        terminal.as_json({"accounts": str(file), "key": str(written.key_file), "account": account.name, "path": path})
        return
    terminal.text(f"{file} and {written.key_file} are written. Next:")
    typer.echo("")
    for command in (f"alipay-notify keys check --accounts {file}", f"alipay-notify up --accounts {file}"):
        typer.echo(f"    {command}")
    typer.echo("")
    terminal.text(
        f"Give Alipay the address https://your.host{path}. Register each order before the buyer pays; the payment "
        "of an order that is not registered waits until it is."
    )
