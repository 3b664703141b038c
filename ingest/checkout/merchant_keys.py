"""The merchant's own key, which signs Requests, and the numbers of its certificates.

Only the processes that sign read it: those with the admin API, and the command line. A receiver never does. The files
are read when a Request is signed, and again after they have changed, so that a new key needs no reload.

The key is in no repr, and errors never contain a file's content.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingest import key_files, keys
from ingest.key_files import BadKey, Md5Secret
from schemas.accounts import Account, SignType

T = TypeVar("T")

RSA_BITS_MIN = 1024  # Alipay still accepts such keys from merchants that sign with RSA
RSA2_BITS_MIN = 2048

_TOKEN = re.compile(rb"[A-Za-z0-9_-]{8,128}")

SigningKey = rsa.RSAPrivateKey | Md5Secret


@dataclass(frozen=True, slots=True, eq=False)
class MerchantKey:
    """The key that signs an account's Requests; the numbers and the expiry are set in certificate mode."""

    key: SigningKey = field(repr=False)
    app_cert_sn: str = ""
    root_cert_sn: str = ""
    expires_at: datetime | None = None


class MerchantKeys:
    """The merchant's keys, by account. File names are relative to `directory`, the directory of `accounts.toml`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded: dict[str, tuple[object, MerchantKey]] = {}

    def of(self, account: Account) -> MerchantKey | None:
        """Return the account's key, or `None` if it has none. Reads the files if they have changed.

        Raises:
            BadKey: a file cannot be read or used.
        """
        names = files(account)
        if not names:
            return None
        # Take the stamps before reading: a file that changes in between is then read once more, and never missed.
        stamp = (account, *(keys.stamp(self._directory / name) for name in names))
        known = self._loaded.get(account.name)
        if known is None or known[0] != stamp:
            known = self._loaded[account.name] = stamp, load(account, self._directory)
        return known[1]


def files(account: Account) -> tuple[str, ...]:
    """Return the names of the files that signing needs; none if the account cannot sign."""
    if account.sign_type is SignType.MD5:
        return (account.md5_key_file,) if account.md5_key_file else ()
    if account.merchant_key_file is None:
        return ()
    if account.merchant_certificate_file is None:
        return (account.merchant_key_file,)
    return account.merchant_key_file, account.merchant_certificate_file, *account.root_certificates


def load(account: Account, directory: Path) -> MerchantKey:
    """Load the key of an account that has one, and check it against its certificate.

    Raises:
        BadKey: a file cannot be read or used. The message names the file.
    """
    if account.sign_type is SignType.MD5:
        assert account.md5_key_file is not None
        return MerchantKey(_parsed(directory, account.md5_key_file, key_files.md5_secret))
    assert account.merchant_key_file is not None
    key = _parsed(directory, account.merchant_key_file, private_key)
    bits_min = RSA_BITS_MIN if account.sign_type is SignType.RSA else RSA2_BITS_MIN
    if key.key_size < bits_min:
        raise BadKey(
            f"{account.merchant_key_file} is an RSA key of {key.key_size} bits: sign_type {account.sign_type} needs at "
            f"least {bits_min}"
        )
    if account.merchant_certificate_file is None:
        return MerchantKey(key)
    return _certified(account, key, account.merchant_certificate_file, directory)


def private_key(content: bytes) -> rsa.RSAPrivateKey:
    """Parse an RSA private key: unencrypted PEM (PKCS#8 or PKCS#1), or base64 as Alipay's key tool writes it.

    Raises:
        BadKey: another content. The message does not contain it.
    """
    try:
        if b"-----BEGIN" in content:
            key = serialization.load_pem_private_key(content, password=None)
        else:
            der = base64.b64decode(b"".join(content.split()), validate=True)
            key = serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("is not a readable, unencrypted private key") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < RSA_BITS_MIN:
        raise BadKey(f"is not an RSA private key of at least {RSA_BITS_MIN} bits")
    return key


def app_auth_token(account: Account, directory: Path) -> str:
    """Return the token by which a service provider asks for its merchant; empty if the account has none.

    Raises:
        BadKey: the file cannot be read, or has no token. The message names the file and does not contain it.
    """
    if account.app_auth_token_file is None:
        return ""
    return _parsed(directory, account.app_auth_token_file, _token)


def _token(content: bytes) -> str:
    token = content.strip()
    if not _TOKEN.fullmatch(token):
        raise BadKey("has no app_auth_token: it is one word of letters, digits, - and _")
    return token.decode("ascii")


def _certified(account: Account, key: rsa.RSAPrivateKey, file: str, directory: Path) -> MerchantKey:
    found = key_files.certificates(keys.content(directory, file))
    if not found:
        raise BadKey(f"{file} contains no readable certificate")
    try:
        is_of_key = found[0].public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        is_of_key = False
    if not is_of_key:
        raise BadKey(f"{file} is the certificate of another key than {account.merchant_key_file}")
    roots = [
        each for name in account.root_certificates for each in key_files.certificates(keys.content(directory, name))
    ]
    try:
        return MerchantKey(
            key,
            app_cert_sn=key_files.certificate_number(found[0]),
            root_cert_sn=key_files.root_number(roots),
            expires_at=found[0].not_valid_after_utc,
        )
    except ValueError:
        raise BadKey(f"{file} or a root certificate has unreadable dates or an unreadable issuer") from None


def _parsed(directory: Path, file: str, parse: Callable[[bytes], T]) -> T:
    content = keys.content(directory, file)
    try:
        return parse(content)
    except BadKey as bad:
        raise BadKey(f"{file} {bad}") from None
