"""`alipay-notify keys`: list the keys that verify signatures, and check them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import terminal

if TYPE_CHECKING:
    from ingest.checkout.merchant_keys import MerchantKey
    from ingest.keys import Key, KeyRing
    from schemas.accounts import Account

EXPIRES_SOON = timedelta(days=30)

Accounts = Annotated[Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file.")]
Certificates = Annotated[
    list[Path] | None,
    typer.Option("--certificate", help="A certificate of yours whose number is printed too; may be repeated."),
]

_LIST_HELP = """List every account's active keys.

    alipay-notify keys list
    alipay-notify keys list --output json
"""
_CHECK_HELP = """Check every account's keys and certificates.

The check is the one that a receiver does when it starts, plus the certificates' expiry dates. An expired certificate
still verifies signatures; it is reported so that you replace it.

A key of a retiring algorithm is `retiring`, and from its `until` on `retired`.

A merchant's own key (merchant_key_file) must be readable, long enough, and that of its certificate. Compare its
fingerprint with that of the public key that you have uploaded to Alipay.

It also prints the numbers that requests in certificate mode carry. `cert sn` is alipay_cert_sn for Alipay's
certificate, and app_cert_sn for your application's, which you name with --certificate. `alipay_root_cert_sn` is the
number of the account's root certificates.

    alipay-notify keys check --accounts /etc/alipay-notify/accounts.toml
    alipay-notify keys check --certificate appCertPublicKey.crt
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
    loaded = _load(accounts)
    if output == "json":
        _print_json(loaded)
        return
    _table("", _COLUMNS, loaded.keys)
    if loaded.merchant_keys:
        _table("Merchant's keys, which sign Requests", _MERCHANT_COLUMNS, loaded.merchant_keys)
    _print_rest(loaded)


def check_keys(
    accounts: Accounts = Path("accounts.toml"), certificate: Certificates = None, output: terminal.Output = "table"
) -> None:
    """Say of each key whether it is right, and print the numbers of certificates; exit with 3 if one is not."""
    loaded = _load(accounts)
    numbered = []
    for path in certificate or []:
        try:
            numbered.append({"file": str(path), "cert_sn": _number(path)})
        except (OSError, ValueError) as error:
            loaded.faults.append(f"{path}: {error}")
    if output == "json":
        _print_json(loaded, numbered)
    else:
        rows = [_checked(key) for key in (*loaded.keys, *loaded.merchant_keys)]
        terminal.table("", ("", "account", "key", "finding", "what to do", "cert sn", "fingerprint"), rows)
        _print_rest(loaded, numbered)
    if loaded.faults or any(key["state"] == "expired" for key in (*loaded.keys, *loaded.merchant_keys)):
        raise typer.Exit(exits.FOUND_WRONG)


@dataclass
class _Loaded:
    """The keys of all accounts and the numbers of roots, as rows with stable names, and the faults."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    merchant_keys: list[dict[str, Any]] = field(default_factory=list)
    roots: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _load(path: Path) -> _Loaded:
    from deploy import accounts_file
    from ingest import keys
    from ingest.checkout import merchant_keys
    from ingest.key_files import BadKey
    from schemas.accounts import BadAccounts

    try:
        accounts = accounts_file.read(path)
    except BadAccounts as bad:
        terminal.fail("; ".join(bad.faults))
    loaded = _Loaded()
    for account in accounts.values():
        try:
            ring = keys.load(account, path.parent)
        except BadAccounts as bad:
            loaded.faults += bad.faults
        else:
            loaded.keys += [_row(each, key) for each in (ring, *ring.retiring) for key in each.keys]
            loaded.notes += [keys.weak_note(account, key) for key in keys.weak(account, ring)]
            if account.root_certificates:
                loaded.roots.append({"account": account.name, "alipay_root_cert_sn": ring.root_number or None})
        if account.merchant_key_file is None:
            continue
        try:
            loaded.merchant_keys.append(_merchant_row(account, merchant_keys.load(account, path.parent)))
        except BadKey as bad_key:
            loaded.faults.append(f"account {account.name}: {bad_key}")
    return loaded


def _number(path: Path) -> str:
    """Return the number of the first certificate in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it contains no readable certificate.
    """
    from ingest import key_files, keys

    with path.open("rb") as opened:
        found = key_files.certificates(opened.read(keys.FILE_BYTES_MAX))
    if not found:
        raise ValueError("contains no readable certificate")
    return key_files.certificate_number(found[0])


def _row(ring: KeyRing, key: Key) -> dict[str, Any]:
    from ingest import key_files

    return {
        "account": ring.account,
        "key_id": key.id,
        "sign_type": ring.sign_type.value,
        "kind": key_files.kind(key.material),
        "bits": key_files.bits(key.material),
        "fingerprint": key_files.fingerprint(key.material),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "state": _retiring_state(ring) if ring.until else _state(key.expires_at),
        "until": ring.until or None,
        "cert_sn": key.certificate_number or None,
    }


def _merchant_row(account: Account, key: MerchantKey) -> dict[str, Any]:
    """Return the merchant's own key by its public half, which the merchant has uploaded to Alipay."""
    from ingest import key_files

    assert not isinstance(key.key, key_files.Md5Secret)
    public = key.key.public_key()
    return {
        "account": account.name,
        "file": account.merchant_key_file,
        "sign_type": account.sign_type.value,
        "bits": public.key_size,
        "fingerprint": key_files.fingerprint(public),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "state": _state(key.expires_at),
        "app_cert_sn": key.app_cert_sn or None,
    }


def _state(expires_at: datetime | None) -> str:
    if expires_at is None:
        return "ok"
    left = expires_at - datetime.now(UTC)
    if left <= timedelta(0):
        return "expired"
    return "expires_soon" if left < EXPIRES_SOON else "ok"


def _retiring_state(ring: KeyRing) -> str:
    return "retiring" if datetime.now(UTC).timestamp() * 1000 < ring.until_ms else "retired"


_COLUMNS = ("account", "key_id", "sign_type", "kind", "bits", "fingerprint", "expires_at", "state", "cert_sn")


_MERCHANT_COLUMNS = ("account", "file", "sign_type", "bits", "fingerprint", "expires_at", "state", "app_cert_sn")


# By the state of a key: the verdict, what its date means, and what to do.
_VERDICTS = {
    "ok": ("ok", "expires on", ""),
    "expires_soon": ("note", "expires on", "add the new certificate to accounts.toml"),
    "expired": ("wrong", "expired on", "replace the certificate"),
    "retiring": ("ok", "retires after", ""),
    "retired": ("note", "retired after", "remove its entry once no held notification needs it"),
}


def _checked(key: dict[str, Any]) -> tuple[object, ...]:
    """Return the row of a key of Alipay or of the merchant."""
    verdict, verb, advice = _VERDICTS[key["state"]]
    date = key.get("until") or (key["expires_at"] or "")[:10]
    kind = f"{key['sign_type']}, {key['bits']} bits" + (f", {verb} {date}" if date else "")
    finding = f"your own, for Requests: {kind}" if "file" in key else kind
    name, number = key.get("file") or key["key_id"], key.get("app_cert_sn") or key.get("cert_sn")
    return verdict, key["account"], name, finding, advice, number, key["fingerprint"]


def _print_json(loaded: _Loaded, certificates: Sequence[dict[str, Any]] = ()) -> None:
    terminal.as_json({
        "keys": loaded.keys, "merchant_keys": loaded.merchant_keys, "roots": loaded.roots,
        "certificates": list(certificates), "faults": loaded.faults, "notes": loaded.notes,
    })  # fmt: skip


def _print_rest(loaded: _Loaded, certificates: Sequence[dict[str, Any]] = ()) -> None:
    for root in loaded.roots:
        number = root["alipay_root_cert_sn"] or "none: no root certificate has an RSA signature"
        terminal.text(f"alipay_root_cert_sn of {root['account']}: {number}")
    for each in certificates:
        terminal.text(f"cert sn of {each['file']}: {each['cert_sn']}")
    for note in loaded.notes:
        terminal.text(f"note: {note}")
    for fault in loaded.faults:
        terminal.text(f"fault: {fault}")


def _table(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    headings = [name.replace("_", " ") for name in columns]
    terminal.table(title, headings, ([row[name] for name in columns] for row in rows))
