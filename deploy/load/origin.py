"""Choose the accounts and private keys of a run: those of a sandbox, or one key beside an accounts.toml.

Only the account's identity is read from accounts.toml. The private key is always given separately, because a receiver
has only the public half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from msgspec import Struct, structs

from deploy import accounts_file
from deploy.sandbox import signing
from deploy.sandbox.identities import Identity, Product
from deploy.sandbox.world import SandboxAccount, World, WorldError
from schemas import accounts as configured
from schemas.accounts import BadAccounts, CaptureMode, Family, Orders

_PRODUCTS: Mapping[Family, Product] = {Family.MAPI: "in-app", Family.OPENAPI: "open", Family.ANTOM: "antom"}


class NoAccounts(Exception):
    """There is no account to send for. The message gives the reason and the remedy."""


class Origin(Struct, frozen=True, kw_only=True):
    """The source of accounts and keys, as texts, so that every sender process can read them itself.

    Either `sandbox` is set, or `accounts_toml`, `key` and exactly one name. With a sandbox and no names, all accounts
    take part that are verified offline. `notify_path` replaces the account's own path.
    """

    names: tuple[str, ...] = ()
    sandbox: str = ""
    accounts_toml: str = ""
    key: str = ""
    notify_path: str = ""


def accounts(origin: Origin) -> Sequence[SandboxAccount]:
    """Return the accounts with their signers.

    Raises:
        NoAccounts: the load cannot send for any, or not for one that was named.
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
    """Return the accounts whose notifications are verified without asking Alipay's gateway (notify_verify).

    Those of service providers are left out: a load has no merchants.
    """
    identities = (account.identity for account in world.accounts.values())
    return tuple(one.name for one in identities if not one.notify_verify and not one.merchants)


def _from_sandbox(origin: Origin) -> list[SandboxAccount]:
    try:
        world = World.load(Path(origin.sandbox))
        return [world.account(name) for name in origin.names or verifiable_offline(world)]
    except (OSError, WorldError) as error:
        raise NoAccounts(f"there are no keys to sign with: {error}") from error


def _from_key(origin: Origin) -> SandboxAccount:
    path = Path(origin.accounts_toml)
    (name,) = origin.names
    try:
        known = accounts_file.read(path)
    except BadAccounts as bad:
        raise NoAccounts("; ".join(bad.faults)) from bad
    if name not in known:
        raise NoAccounts(f"no account {name!r} in {path}; it has {', '.join(sorted(known))}")
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
        manual_capture=account.capture is CaptureMode.MANUAL,
        merchants=account.auth_app_ids,
    )


def _signer(account: configured.Account, path: Path) -> signing.Signer:
    try:
        content = path.read_bytes()
        if account.sign_type.value == "MD5":
            return signing.Signer.of("MD5", content.strip())
        key = serialization.load_pem_private_key(content, password=None)
        if not isinstance(key, rsa.RSAPrivateKey | dsa.DSAPrivateKey):
            raise NoAccounts(f"{path} holds no RSA or DSA key, which {account.sign_type.value} needs")
        return signing.Signer.of(account.sign_type.value, key)
    except OSError as error:
        raise NoAccounts(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise NoAccounts(f"{path} is no private key for {account.sign_type.value}: {type(error).__name__}") from error


def _check(account: SandboxAccount) -> None:
    """Refuse an account whose answers the load would judge wrongly."""
    identity = account.identity
    if identity.notify_verify:
        raise NoAccounts(f"{identity.name} uses notify_verify, but no gateway confirms a load's ids: leave it out")
    if identity.merchants:
        raise NoAccounts(f"{identity.name} serves several merchants, but a load has none: leave it out")
    if identity.registered:
        raise NoAccounts(f"{identity.name} takes registered orders only, but a load registers none: leave it out")
