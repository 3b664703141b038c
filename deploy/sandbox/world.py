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
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.sandbox import signing

Product = Literal["in-app", "website", "open", "antom"]
Family = Literal["mapi", "openapi", "antom"]

_FAMILIES: Mapping[Product, Family] = {"in-app": "mapi", "website": "mapi", "open": "openapi", "antom": "antom"}

# Alipay's shared mapi key has 1024 bits in reality, so the receiver must accept this size.
_MAPI_RSA_BITS = 1024
_RSA_BITS = 2048


class WorldError(Exception):
    """The directory has no usable world; the message gives the remedy."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The data of one merchant account that both sides know, without keys."""

    name: str
    product: Product
    sign_type: signing.SignType
    key: str
    currency: str
    charset: str = "utf-8"
    seller_id: str = ""
    partner: str = ""
    app_id: str = ""
    client_id: str = ""
    notify_verify: bool = False
    registered: bool = False
    manual_capture: bool = False
    currencies: tuple[str, ...] = ()
    notify_path: str = ""

    @property
    def family(self) -> Family:
        """Return the family of notifications that this product belongs to."""
        return _FAMILIES[self.product]

    @property
    def path(self) -> str:
        """Return the path of the account's notify URL; Antom signs it too."""
        return self.notify_path or f"/notify/{self.name}"


IDENTITIES: tuple[Identity, ...] = (
    Identity(name="demo-app", product="in-app", sign_type="RSA", key="mapi-rsa", currency="USD",
             seller_id="2088999900001017", partner="2088999900001017"),
    Identity(name="demo-web", product="website", sign_type="RSA", key="mapi-rsa", currency="USD",
             partner="2088999900001025", notify_verify=True, registered=True),
    Identity(name="demo-cn", product="open", sign_type="RSA2", key="openapi-rsa2", currency="CNY",
             app_id="2021999900001041", seller_id="2088999900001041", currencies=("USD",)),
    Identity(name="demo-antom", product="antom", sign_type="RSA256", key="antom-rsa256", currency="USD",
             client_id="SANDBOX_5Y0000000000000001"),
    Identity(name="demo-card", product="antom", sign_type="RSA256", key="antom-rsa256", currency="USD",
             client_id="SANDBOX_5Y0000000000000002", manual_capture=True),
    Identity(name="demo-md5", product="in-app", sign_type="MD5", key="mapi-md5", currency="HKD", charset="gbk",
             seller_id="2088999900001033", partner="2088999900001033"),
)  # fmt: skip

SHOP = "demo-web"
# Accounts whose merchant signs Requests: native (old gateway, app), h5 and page, and the Open Platform's page and wap.
_SIGNING = ("demo-app", SHOP, "demo-cn")


class SandboxAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An identity with the key that Alipay uses to sign its notifications."""

    identity: Identity
    signer: signing.Signer
    key_version: int = 1


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the simulated Alipay knows, and the path of the merchant's half."""

    directory: Path
    gateway_url: str
    notify_base: str
    accounts: Mapping[str, SandboxAccount]
    merchant_keys: Mapping[str, rsa.RSAPublicKey]

    @classmethod
    def create(cls, directory: Path, *, gateway_url: str, notify_base: str) -> World:
        """Create or renew the world in this directory. When it returns, keys and accounts.toml are on disk.

        `gateway_url` is the sandbox's own address and `notify_base` the receiver's, both without a path.
        """
        addresses = _Addresses(gateway_url=gateway_url.rstrip("/"), notify_base=notify_base.rstrip("/"))
        for half in (directory / "alipay", directory / "merchant" / "keys"):
            half.mkdir(parents=True, exist_ok=True, mode=0o700)
        for identity in IDENTITIES:
            _ensure_key(directory, identity)
        for name in _SIGNING:
            _ensure_merchant_key(directory, name)
        _write(directory / "world.json", msgspec.json.format(msgspec.json.encode(addresses)), mode=0o600)
        _write(
            _accounts_path(directory), accounts_toml(addresses.gateway_url, addresses.notify_base).encode(), mode=0o644
        )
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path) -> World:
        """Return the world that was created in this directory.

        Raises:
            WorldError: there is none, or part of it is missing or unreadable.
        """
        try:
            addresses = msgspec.json.decode((directory / "world.json").read_bytes(), type=_Addresses)
            accounts = {identity.name: _account(directory, identity) for identity in IDENTITIES}
            merchant_keys = {name: _public_rsa(directory / "alipay" / f"{name}.pub") for name in _SIGNING}
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


def accounts_toml(gateway_url: str, notify_base: str) -> str:
    """Return the merchant's configuration of all demo accounts; key paths are relative to the file."""
    head = "# The merchant's side of the sandbox; written again whenever the sandbox starts.\n"
    return head + "".join(f"\n[accounts.{one.name}]\n{_settings(one, gateway_url, notify_base)}" for one in IDENTITIES)


def _settings(one: Identity, gateway_url: str, notify_base: str) -> str:
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
    if one.name in _SIGNING:
        settings["merchant_key_file"] = f"keys/{one.name}.key"
        settings |= {"notify_url": notify_base + one.path, "gateway_url": f"{gateway_url}/gateway.do"}
    settings["orders"] = "registered" if one.registered else "any"
    return "".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()) + _key_setting(one)


def _key_setting(one: Identity) -> str:
    if one.sign_type == "MD5":
        return f'md5_key_file = "keys/{one.key}.key"\n'
    if one.product == "antom":
        return f'keys = {{ 1 = "keys/{one.key}.pem" }}\n'
    return f'keys = ["keys/{one.key}.pem"]\n'


def _toml(value: str | bool | list[str]) -> str:
    # JSON strings without control characters are also TOML strings; lists of them, true and false are written alike.
    return msgspec.json.encode(value).decode()


def _accounts_path(directory: Path) -> Path:
    return directory / "merchant" / "accounts.toml"


def _account(directory: Path, identity: Identity) -> SandboxAccount:
    path = directory / "alipay" / f"{identity.key}.key"
    key: signing.PrivateKey = path.read_bytes() if identity.sign_type == "MD5" else _private_rsa(path)
    return SandboxAccount(identity=identity, signer=signing.Signer.of(identity.sign_type, key))


def _ensure_key(directory: Path, identity: Identity) -> None:
    """Generate Alipay's key for an account unless it exists, and write the merchant's half.

    The merchant's half is written in any case: a start that was killed between the two files must not leave halves
    that do not match.
    """
    kept = directory / "alipay" / f"{identity.key}.key"
    given = directory / "merchant" / "keys" / identity.key
    if identity.sign_type == "MD5":
        if not kept.exists():
            _write(kept, secrets.token_hex(16).encode(), mode=0o600)
        _write(given.with_suffix(".key"), kept.read_bytes(), mode=0o600)
        return
    if not kept.exists():
        _write(kept, _pem(_new_rsa(identity)), mode=0o600)
    _write(given.with_suffix(".pem"), _public_pem(_private_rsa(kept)), mode=0o644)


def _ensure_merchant_key(directory: Path, name: str) -> None:
    kept = directory / "merchant" / "keys" / f"{name}.key"
    if not kept.exists():
        _write(kept, _pem(rsa.generate_private_key(65537, _RSA_BITS)), mode=0o600)
    _write(directory / "alipay" / f"{name}.pub", _public_pem(_private_rsa(kept)), mode=0o644)


def _new_rsa(identity: Identity) -> rsa.RSAPrivateKey:
    bits = _MAPI_RSA_BITS if identity.sign_type == "RSA" and identity.family == "mapi" else _RSA_BITS
    return rsa.generate_private_key(65537, bits)


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
