"""The sandbox's world: its merchants, their ids and keys.

A world is one directory with two halves that never mix:

    alipay/     Alipay's private keys, and the public keys that merchants gave it
    merchant/   accounts.toml with Alipay's public keys, and the merchants' private keys

The merchant's half is a complete configuration of the receiver: with ALIPAY_NOTIFY_ACCOUNTS set to
`merchant/accounts.toml`, it accepts notifications from this Alipay and from no other.

Keys are generated once and kept, readable by their owner only. `create` on an existing directory renews the
configuration, because addresses change from run to run, and keeps the keys. All ids are made up and the same in every
world; only keys differ between worlds.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.sandbox import certificates, signing
from deploy.sandbox.identities import IDENTITIES, SHOP, Family, FormerAlgorithm, Identity

# Alipay's shared mapi key has 1024 bits in reality, so the receiver must accept this size.
_MAPI_RSA_BITS = 1024
_RSA_BITS = 2048


class WorldError(Exception):
    """The directory has no usable world; the message gives the remedy."""


ANTOM_QUESTION = "/ams/api/v1/payments/inquiryPayment"
_ROOT = "root"  # the certificate authority of this Alipay


class SandboxAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An identity with the key that Alipay uses to sign its notifications, and those that it used formerly."""

    identity: Identity
    signer: signing.Signer
    key_version: int = 1
    former: Mapping[signing.SignType, signing.Signer] = {}

    def of_merchant(self, number: int) -> SandboxAccount:
        """Return a service provider's account for its merchant of this number, from 1; others as they are."""
        if not self.identity.merchants:
            return self
        identity = self.identity.of_merchant(self.identity.merchants[number - 1])
        return msgspec.structs.replace(self, identity=identity)

    def signing_as(self, sign_type: signing.SignType) -> SandboxAccount:
        """Return the account as it was when it used this algorithm."""
        return msgspec.structs.replace(self, signer=self.former[sign_type])


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the simulated Alipay knows, and the path of the merchant's half.

    `merchant_keys` verify the Requests of the accounts that sign them; `certificate_numbers` are those that a Request
    has to name: its application's and the root's.
    """

    directory: Path
    gateway_url: str
    notify_base: str
    accounts: Mapping[str, SandboxAccount]
    merchant_keys: Mapping[str, signing.PublicKey]
    certificate_numbers: Mapping[str, tuple[str, str]]

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        gateway_url: str,
        notify_base: str,
        identities: Sequence[Identity] = IDENTITIES,
        queries: bool | None = None,
    ) -> World:
        """Create or renew the world in this directory. When it returns, keys and accounts.toml are on disk.

        `gateway_url` is the sandbox's own address and `notify_base` the receiver's, both without a path. With `queries`
        the merchants ask about their unpaid orders; `None` leaves that as it is.
        """
        if queries is None:
            queries = _asks(directory)
        addresses = _Addresses(
            gateway_url=gateway_url.rstrip("/"), notify_base=notify_base.rstrip("/"), queries=queries
        )
        for half in (directory / "alipay", directory / "merchant" / "keys"):
            half.mkdir(parents=True, exist_ok=True, mode=0o700)
        for identity in identities:
            for sign_type, key in _keys_of(identity):
                _ensure_key(directory, key, sign_type, identity.family)
            if (identity.signs_requests and identity.sign_type != "MD5") or (queries and identity.can_ask_with_key):
                _ensure_merchant_key(directory, identity.name)
        _ensure_certificates(directory, [one for one in identities if one.is_certified])
        _write(directory / "world.json", msgspec.json.format(msgspec.json.encode(addresses)), mode=0o600)
        text = accounts_toml(addresses.gateway_url, addresses.notify_base, identities, queries=queries)
        _write(_accounts_path(directory), text.encode(), mode=0o644)
        return cls.load(directory, identities)

    @classmethod
    def load(cls, directory: Path, identities: Sequence[Identity] = IDENTITIES) -> World:
        """Return the world that was created in this directory.

        Raises:
            WorldError: there is none, or part of it is missing or unreadable.
        """
        try:
            addresses = msgspec.json.decode((directory / "world.json").read_bytes(), type=_Addresses)
            accounts = {identity.name: _account(directory, identity) for identity in identities}
            asks = addresses.queries
            signing_ones = [one for one in identities if one.signs_requests or (asks and one.can_ask_with_key)]
            merchant_keys = {one.name: _merchant_key(directory, one) for one in signing_ones}
            numbers = {one.name: _numbers(directory, one) for one in identities if one.is_certified}
        except FileNotFoundError as missing:
            raise WorldError(
                f"no sandbox in {directory}: {missing.filename} is missing. Create one with `alipay-notify sandbox`."
            ) from missing
        except (ValueError, msgspec.MsgspecError) as broken:
            raise WorldError(f"the sandbox in {directory} is damaged ({broken}); delete the directory") from broken
        return cls(
            directory=directory,
            gateway_url=addresses.gateway_url,
            notify_base=addresses.notify_base,
            accounts=accounts,
            merchant_keys=merchant_keys,
            certificate_numbers=numbers,
        )

    @property
    def accounts_file(self) -> Path:
        """Return the path of the merchant's configuration, for ALIPAY_NOTIFY_ACCOUNTS."""
        return _accounts_path(self.directory)

    def account(self, name: str) -> SandboxAccount:
        """Return the account of this name.

        Raises:
            WorldError: there is no such account.
        """
        if name not in self.accounts:
            raise WorldError(f"no account {name!r} in the sandbox; accounts: {', '.join(sorted(self.accounts))}")
        return self.accounts[name]

    def shop_key(self) -> rsa.RSAPrivateKey:
        """Return the demo merchant's private key. Only the demo shop uses it, to sign its Requests."""
        return _private_rsa(self.directory / "merchant" / "keys" / f"{SHOP}.key")


class _Addresses(msgspec.Struct, frozen=True, kw_only=True):
    gateway_url: str
    notify_base: str
    queries: bool = False


def _asks(directory: Path) -> bool:
    """Return whether the merchants of a world that may be in this directory ask about their orders."""
    try:
        return msgspec.json.decode((directory / "world.json").read_bytes(), type=_Addresses).queries
    except (FileNotFoundError, msgspec.MsgspecError):
        return False


def accounts_toml(
    gateway_url: str, notify_base: str, identities: Sequence[Identity] = IDENTITIES, *, queries: bool = False
) -> str:
    """Return the merchant's configuration of all demo accounts; key paths are relative to the file."""
    head = "# The merchant's side of the sandbox; written again whenever the sandbox starts.\n"
    return head + "".join(
        f"\n[accounts.{one.name}]\n{_settings(one, gateway_url, notify_base, queries=queries)}" for one in identities
    )


def _settings(one: Identity, gateway_url: str, notify_base: str, *, queries: bool) -> str:
    settings: dict[str, str | bool | list[str]] = {"family": one.family, "sign_type": one.sign_type}
    for name in ("app_id", "client_id", "seller_id", "partner"):
        if value := getattr(one, name):
            settings[name] = value
    if one.family == "mapi":
        settings["currency"] = one.currency
    if one.charset != "utf-8":
        settings["charset"] = one.charset
    if one.product == "antom":
        settings["public_path"] = one.path
    if one.currencies:
        settings["currencies"] = list(one.currencies)
    if one.manual_capture:
        settings["capture"] = "manual"
    if one.notify_verify:
        settings |= {"notify_verify": True, "notify_verify_url": f"{gateway_url}/gateway.do"}
    if one.merchants:
        settings["auth_app_id"] = list(one.merchants)
    if one.signs_requests:
        if one.sign_type != "MD5":
            settings["merchant_key_file"] = f"keys/{one.name}.key"
        settings |= {"notify_url": notify_base + one.path, "gateway_url": f"{gateway_url}/gateway.do"}
    if queries and one.can_ask:
        settings["queries"] = True
        if one.product == "antom":
            address = f"{gateway_url}{ANTOM_QUESTION}"
            settings |= {"merchant_key_file": f"keys/{one.name}.key", "gateway_url": address}
    settings["orders"] = "registered" if one.registered else "any"
    lines = "".join(f"{name} = {_toml(value)}\n" for name, value in settings.items())
    return lines + _key_settings(one) + "".join(_retiring(one.name, former) for former in one.former)


def _key_settings(one: Identity) -> str:
    if one.is_certified:
        return (
            f'certificates = ["keys/{one.key}.crt"]\nroot_certificates = ["keys/{_ROOT}.crt"]\n'
            f'merchant_certificate_file = "keys/{one.name}.crt"\n'
        )
    if one.product == "antom":
        return f'keys = {{ 1 = "keys/{one.key}.pem" }}\n'
    return _key_setting(one.sign_type, one.key)


def _key_setting(sign_type: signing.SignType, key: str) -> str:
    return f'md5_key_file = "keys/{key}.key"\n' if sign_type == "MD5" else f'keys = ["keys/{key}.pem"]\n'


def _retiring(name: str, former: FormerAlgorithm) -> str:
    return (
        f'[[accounts.{name}.retiring]]\nsign_type = "{former.sign_type}"\n'
        f"{_key_setting(former.sign_type, former.key)}until = {former.until}\n"
    )


def _toml(value: str | bool | list[str]) -> str:
    # JSON strings without control characters are also TOML strings; lists of them, true and false are written alike.
    return msgspec.json.encode(value).decode()


def _accounts_path(directory: Path) -> Path:
    return directory / "merchant" / "accounts.toml"


def _keys_of(identity: Identity) -> list[tuple[signing.SignType, str]]:
    """Return the algorithms under which Alipay signs for this account, each with the name of its key."""
    return [(identity.sign_type, identity.key), *((one.sign_type, one.key) for one in identity.former)]


def _account(directory: Path, identity: Identity) -> SandboxAccount:
    signers = {sign_type: _signer(directory, sign_type, key) for sign_type, key in _keys_of(identity)}
    return SandboxAccount(identity=identity, signer=signers.pop(identity.sign_type), former=signers)


def _signer(directory: Path, sign_type: signing.SignType, name: str) -> signing.Signer:
    path = directory / "alipay" / f"{name}.key"
    key: signing.PrivateKey = path.read_bytes() if sign_type == "MD5" else _private_rsa(path)
    return signing.Signer.of(sign_type, key)


def _merchant_key(directory: Path, identity: Identity) -> signing.PublicKey:
    """Return what verifies the Requests of this account: the merchant's public key, or the secret that both have."""
    if identity.sign_type == "MD5":
        return (directory / "alipay" / f"{identity.key}.key").read_bytes()
    return _public_rsa(directory / "alipay" / f"{identity.name}.pub")


def _numbers(directory: Path, identity: Identity) -> tuple[str, str]:
    own, root = (certificates.load(directory / "alipay" / f"{name}.crt") for name in (identity.name, _ROOT))
    return certificates.number(own), certificates.number(root)


def _ensure_key(directory: Path, name: str, sign_type: signing.SignType, family: Family) -> None:
    """Generate one of Alipay's keys unless it exists, and write the merchant's half.

    The merchant's half is written in any case: a start that was killed between the two files must not leave halves
    that do not match.
    """
    kept = directory / "alipay" / f"{name}.key"
    given = directory / "merchant" / "keys" / name
    if sign_type == "MD5":
        if not kept.exists():
            _write(kept, secrets.token_hex(16).encode(), mode=0o600)
        _write(given.with_suffix(".key"), kept.read_bytes(), mode=0o600)
        return
    if not kept.exists():
        bits = _MAPI_RSA_BITS if sign_type == "RSA" and family == "mapi" else _RSA_BITS
        _write(kept, _pem(rsa.generate_private_key(65537, bits)), mode=0o600)
    _write(given.with_suffix(".pem"), _public_pem(_private_rsa(kept)), mode=0o644)


def _ensure_merchant_key(directory: Path, name: str) -> None:
    kept = directory / "merchant" / "keys" / f"{name}.key"
    if not kept.exists():
        _write(kept, _pem(rsa.generate_private_key(65537, _RSA_BITS)), mode=0o600)
    _write(directory / "alipay" / f"{name}.pub", _public_pem(_private_rsa(kept)), mode=0o644)


def _ensure_certificates(directory: Path, certified: Sequence[Identity]) -> None:
    """Issue the certificates of Alipay's keys and of the merchants' keys, unless they exist."""
    if not certified:
        return
    _ensure_key(directory, _ROOT, "RSA2", "openapi")
    authority = certificates.Authority(_private_rsa(directory / "alipay" / f"{_ROOT}.key"))
    wanted: dict[str, Callable[[], x509.Certificate]] = {_ROOT: authority.own}
    for one in certified:
        alipays = _private_rsa(directory / "alipay" / f"{one.key}.key").public_key()
        merchants = _public_rsa(directory / "alipay" / f"{one.name}.pub")
        wanted[one.key] = partial(authority.issue, "Alipay", alipays)
        wanted[one.name] = partial(authority.issue, one.app_id, merchants)
    for name, made in wanted.items():
        kept = directory / "alipay" / f"{name}.crt"
        if not kept.exists():
            _write(kept, certificates.pem(made()), mode=0o644)
        _write(directory / "merchant" / "keys" / kept.name, kept.read_bytes(), mode=0o644)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public_rsa(path: Path) -> rsa.RSAPublicKey:
    key = serialization.load_pem_public_key(path.read_bytes())
    if not isinstance(key, rsa.RSAPublicKey):
        raise WorldError(f"{path} is not an RSA key; delete the directory")
    return key


def _private_rsa(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise WorldError(f"{path} is not an RSA key; delete the directory")
    return key


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file atomically. At no moment can other users read a secret."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
