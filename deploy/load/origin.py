"""Whose notifications a run sends, and with which private keys: a sandbox's, or one given beside an accounts.toml.

Only what identifies an account is read from the merchant's configuration; the key that signs is always given by
whoever runs the load, since a receiver has but the public half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from msgspec import Struct, structs

from deploy import accounts_file
from deploy.sandbox import signing
from deploy.sandbox.world import Identity, Product, SandboxAccount, World, WorldError
from schemas import accounts as configured
from schemas.accounts import BadAccounts, Family, Orders

_PRODUCTS: Mapping[Family, Product] = {Family.MAPI: "in-app", Family.OPENAPI: "open", Family.ANTOM: "antom"}


class NoAccounts(Exception):
    """There is nobody to send for; the text says why, and what would help."""


class Origin(Struct, frozen=True, kw_only=True):
    """Where accounts and keys come from, as texts, so that every sender process can read them itself.

    Either `sandbox` is set, or `accounts_toml`, `key` and exactly one name. No names are all that can be verified
    without asking a gateway. `notify_path` is the path of the URL where it is not the account's own.
    """

    names: tuple[str, ...] = ()
    sandbox: str = ""
    accounts_toml: str = ""
    key: str = ""
    notify_path: str = ""


def accounts(origin: Origin) -> Sequence[SandboxAccount]:
    """The accounts with their signers.

    Raises:
        NoAccounts: there is none that the load can send for.
    """
    found = _from_sandbox(origin) if origin.sandbox else [_from_key(origin)]
    for one in found:
        _check(one)
    if origin.notify_path:
        found = [
            structs.replace(one, identity=structs.replace(one.identity, notify_path=origin.notify_path))
            for one in found
        ]
    return found


def verifiable_offline(world: World) -> tuple[str, ...]:
    """Return the accounts whose notifications are verified without asking Alipay's gateway (notify_verify)."""
    return tuple(name for name, account in world.accounts.items() if not account.identity.notify_verify)


def _from_sandbox(origin: Origin) -> list[SandboxAccount]:
    try:
        world = World.load(Path(origin.sandbox))
        return [world.account(name) for name in origin.names or verifiable_offline(world)]
    except (OSError, WorldError) as error:
        raise NoAccounts(f"No keys to sign with: {error}") from error


def _from_key(origin: Origin) -> SandboxAccount:
    path = Path(origin.accounts_toml)
    (name,) = origin.names
    try:
        known = accounts_file.read(path)
    except BadAccounts as bad:
        raise NoAccounts("; ".join(bad.faults)) from bad
    if name not in known:
        raise NoAccounts(f"no account {name!r} in {path}; there are {', '.join(sorted(known))}")
    account = known[name]
    return SandboxAccount(
        identity=_identity(account),
        signer=_signer(account, Path(origin.key)),
        key_version=int(next((version for version in account.keys if version.isdigit()), "1")),
    )


def _identity(account: configured.Account) -> Identity:
    return Identity(
        name=account.name,
        product=_PRODUCTS[account.family],
        sign_type=account.sign_type.value,
        key="",
        currency="CNY" if account.family is Family.OPENAPI else account.currency,
        charset=account.charset,
        seller_id=account.seller_id or "",
        partner=account.partner or "",
        app_id=account.app_id or "",
        client_id=account.client_id or "",
        notify_verify=account.notify_verify,
        registered=account.orders is Orders.REGISTERED,
        notify_path=account.public_path or "",
    )


def _signer(account: configured.Account, path: Path) -> signing.Signer:
    try:
        content = path.read_bytes()
        if account.sign_type.value == "MD5":
            return signing.Signer.of("MD5", content.strip())
        key = serialization.load_pem_private_key(content, password=None)
        if not isinstance(key, rsa.RSAPrivateKey | dsa.DSAPrivateKey):
            raise NoAccounts(f"{path} holds a key of another kind than {account.sign_type.value} needs")
        return signing.Signer.of(account.sign_type.value, key)
    except OSError as error:
        raise NoAccounts(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise NoAccounts(f"{path} is no private key for {account.sign_type.value}: {type(error).__name__}") from error


def _check(account: SandboxAccount) -> None:
    """Refuse what would be measured wrongly: it would be answered otherwise than the load expects."""
    identity = account.identity
    if identity.notify_verify:
        raise NoAccounts(f"{identity.name} asks notify_verify, and nobody confirms the ids of a load: leave it out")
    if identity.registered:
        raise NoAccounts(f"{identity.name} takes registered orders only, and a load registers none: leave it out")
