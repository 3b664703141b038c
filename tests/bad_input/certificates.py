"""A certificate authority of this run, with valid and invalid certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates for names; `file` is its own certificate, for trust stores."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority of the suite")
        self.file = directory / "authority.pem"
        self.file.write_bytes(_pem(_built(self._name, self._name, self._key, self._key, is_authority=True)))

    def issue(self, host: str, *, days: int = 1) -> Path:
        """A certificate for this host and its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _built(_name(host), self._name, key, self._key, host=host, days=days)
        return self._written(f"{host}{days}", certificate, key)

    def self_signed(self, host: str) -> Path:
        """The same, self-signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._written("self", _built(_name(host), _name(host), key, key, host=host), key)

    def _written(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = self._directory / f"{name}.pem"
        file.write_bytes(_pem(certificate) + private)
        return file


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _built(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
    host: str = "",
    days: int = 1,
) -> x509.Certificate:
    """Valid from some days ago until `days` from now; a negative number has expired."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
