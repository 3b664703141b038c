"""Make the first `accounts.toml` of a merchant from a few answers, and the file of its key.

The text is read by the same code as at the start of an engine before it is written, so a written file works.
"""

import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ingest import key_files
from ingest.key_files import BadKey
from schemas import accounts_toml
from schemas.accounts import Account, BadAccounts, Family, SignType

# How each family names the merchant, and the algorithm that new contracts have.
IDENTITIES = {Family.MAPI: "seller_id", Family.OPENAPI: "app_id", Family.ANTOM: "client_id"}
SIGN_TYPES = {Family.MAPI: SignType.RSA, Family.OPENAPI: SignType.RSA2, Family.ANTOM: SignType.RSA256}
CURRENCIES = {Family.OPENAPI: "CNY", Family.ANTOM: ""}  # Antom's messages name it; the old gateway's contract does

# Their forms, so that a mistyped one does not refuse every notification.
_FORMS = {
    Family.MAPI: (re.compile(r"2088[0-9]{12}"), "a seller_id of 16 digits, beginning with 2088"),
    Family.OPENAPI: (re.compile(r"[0-9]{16}"), "an app_id of 16 digits"),
}
_COMMENTS = {
    "sign_type": "pinned; a message cannot choose its algorithm",
    "keys": "Alipay's public key; name a new one beside it to rotate",
    "certificates": "Alipay's certificate; name a new one beside it to rotate",
    "md5_key_file": "the secret that you share with Alipay",
    "currency": "of amounts whose message names none",
    "orders": 'registered: the payment of an unknown order waits until you register it; "any" believes it',
}
_HINTS = {
    Family.MAPI: "It is Alipay's public key (支付宝公钥) of the old gateway, not your own.",
    Family.OPENAPI: "It is Alipay's public key (支付宝公钥), not that of your application (应用公钥), which the Open "
    "Platform shows beside it.",
    Family.ANTOM: "It is Antom's public key from Antom's dashboard, not your own.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAccount:
    """The merchant's answers. `identity` is the seller_id, app_id or client_id, as `IDENTITIES` has it."""

    name: str
    family: Family
    identity: str
    sign_type: SignType
    currency: str
    key: bytes
    orders: str = "registered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The account as it was read again, and the files."""

    account: Account
    accounts_file: Path
    key_file: Path


def faults(answers: FirstAccount) -> list[str]:
    """Return the faults of the answers, each with its remedy; none if they make a working account."""
    if found := account_faults(answers):
        return found
    fault = _key_fault(answers.key, _read(_text(answers)))
    return [fault] if fault else []


def account_faults(answers: FirstAccount) -> list[str]:
    """Return the faults of all answers but the key."""
    try:
        _read(_text(answers))
    except BadAccounts as bad:
        return bad.faults
    fault = identity_fault(answers.family, answers.identity)
    return [fault] if fault else []


def identity_fault(family: Family, identity: str) -> str:
    """Return the fault in the form of a seller_id or app_id; nothing if there is none."""
    form, text = _FORMS.get(family, (None, ""))
    return "" if form is None or form.fullmatch(identity) else f"{identity!r} is not {text}"


def _key_fault(content: bytes, account: Account) -> str:
    """Return the fault of a key and its remedy, or nothing. The key's content is not in it."""
    try:
        if account.sign_type is SignType.MD5:
            key_files.md5_secret(content)
        elif account.certificates:
            key_files.certificate(content, (), account)
        else:
            key_files.public_key(content, account)
    except BadKey as bad:
        hint = "" if account.sign_type is SignType.MD5 else f". {_HINTS[account.family]}"
        return f"the key {bad}{hint}"
    return ""


def write(answers: FirstAccount, accounts_file: Path) -> Written:
    """Write the key into `keys/` beside the accounts file, then that file. Only this user can read them.

    Raises:
        BadAccounts: the answers have faults; nothing is written.
        OSError: a file cannot be written, or is there already (FileExistsError).
    """
    if found := faults(answers):
        raise BadAccounts(found)
    text = _text(answers)
    account = _read(text)
    key_file = accounts_file.parent / _key_file(answers)
    if accounts_file.exists():
        raise FileExistsError(17, "exists already", str(accounts_file))
    key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _create(key_file, answers.key)
    try:
        _create(accounts_file, text.encode())
    except OSError:
        key_file.unlink()
        raise
    return Written(account=account, accounts_file=accounts_file, key_file=key_file)


def _create(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _read(text: str) -> Account:
    (account,) = accounts_toml.parse(tomllib.loads(text)).values()
    return account


def _text(answers: FirstAccount) -> str:
    """Return the content of `accounts.toml`. JSON's text literals are TOML's."""
    lines = ["# Key files are relative to this file. `alipay-notify keys check` reads all of it.", ""]
    name = answers.name if all(part.isalnum() for part in answers.name.split("-")) else json.dumps(answers.name)
    lines.append(f"[accounts.{name}]")
    for key, value in _settings(answers).items():
        shown = f"{key} = {value}"
        lines.append(f"{shown:<40} # {_COMMENTS[key]}" if key in _COMMENTS else shown)
    return "\n".join((*lines, ""))


def _settings(answers: FirstAccount) -> dict[str, str]:
    """Return each setting as TOML."""
    quoted = json.dumps
    return {
        "family": quoted(answers.family.value),
        "sign_type": quoted(answers.sign_type.value),
        **_key_setting(answers),
        IDENTITIES[answers.family]: quoted(answers.identity),
        **({"currency": quoted(answers.currency)} if answers.currency else {}),
        "orders": quoted(answers.orders),
    }


def _key_setting(answers: FirstAccount) -> dict[str, str]:
    file = json.dumps(_key_file(answers))
    if answers.sign_type is SignType.MD5:
        return {"md5_key_file": file}
    if answers.family is Family.ANTOM:
        return {"keys": f'{{ "1" = {file} }}'}
    return {"certificates" if _is_certificate(answers) else "keys": f"[{file}]"}


def _key_file(answers: FirstAccount) -> str:
    if answers.sign_type is SignType.MD5:
        return f"keys/{answers.name}.md5"
    return f"keys/{answers.name}.{'crt' if _is_certificate(answers) else 'pem'}"


def _is_certificate(answers: FirstAccount) -> bool:
    return answers.family is Family.OPENAPI and b"BEGIN CERTIFICATE" in answers.key
