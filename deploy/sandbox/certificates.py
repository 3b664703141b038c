"""Certificates of the simulated Alipay: an authority of its own, and the numbers that Requests name.

A certificate's number is the MD5 of its issuer's name and its serial number, as Alipay's SDKs compute it. It is
computed here without the receiver's code, like the signatures: a mistake on one side must not hide the same mistake on
the other.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_VALID = timedelta(days=20 * 365)


class Authority:
    """Issues certificates with the key of the root."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        self._name = _name("Sandbox Alipay Root")

    def own(self) -> x509.Certificate:
        """Return the root's certificate, signed with its own key."""
        return self._issued(self._name, self._key.public_key(), is_authority=True)

    def issue(self, subject: str, key: rsa.RSAPublicKey) -> x509.Certificate:
        """Return a certificate of this key."""
        return self._issued(_name(subject), key, is_authority=False)

    def _issued(self, subject: x509.Name, key: rsa.RSAPublicKey, *, is_authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + _VALID)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def load(path: Path) -> x509.Certificate:
    """Return the certificate in this file.

    Raises:
        ValueError: it contains none.
        OSError: it cannot be read.
    """
    return x509.load_pem_x509_certificate(path.read_bytes())


def pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as it is written to a file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def number(certificate: x509.Certificate) -> str:
    """Return the certificate's number, for `app_cert_sn` and `alipay_root_cert_sn`."""
    parts = [f"{_SHORT[each.oid]}={each.value!s}" for each in reversed(list(certificate.issuer))]
    return hashlib.md5(f"{','.join(parts)}{certificate.serial_number}".encode(), usedforsecurity=False).hexdigest()


# The names of this authority's attributes, as in the text of RFC 4514, which begins with the last one.
_SHORT = {NameOID.COUNTRY_NAME: "C", NameOID.ORGANIZATION_NAME: "O", NameOID.COMMON_NAME: "CN"}


def _name(common: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sandbox"),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ])  # fmt: skip
