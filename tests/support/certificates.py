"""Certificates of an authority for the servers and clients of tests on loopback, and of a stranger."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from deploy.local import ports
from tests.support import alipay

DAY = timedelta(days=1)


def issue(papers: Path, *names: str) -> None:
    """Write `ca.pem`, and for each name and the self-signed `stranger` NAME.key, NAME.crt, and both in NAME.pem."""
    authority = alipay.rsa_key("authority")
    papers.joinpath("ca.pem").write_bytes(certificate("authority", authority, by=authority))
    for name in names:
        write(papers, name, certificate(name, alipay.rsa_key(name), by=authority))
    stranger = alipay.rsa_key("stranger")
    write(papers, "stranger", certificate("stranger", stranger, by=stranger))


def renew(papers: Path, name: str, *, ends: timedelta = 30 * DAY) -> None:
    """Write the certificate of the name anew; it ends so long after now, or before."""
    made = certificate(name, alipay.rsa_key(name), by=alipay.rsa_key("authority"), ends=ends)
    write(papers, name, made)


def write(papers: Path, name: str, made: bytes) -> None:
    key = alipay.private_pem(alipay.rsa_key(name))
    papers.joinpath(f"{name}.key").write_bytes(key)
    papers.joinpath(f"{name}.crt").write_bytes(made)
    papers.joinpath(f"{name}.pem").write_bytes(key + made)


def certificate(name: str, key: rsa.RSAPrivateKey, *, by: rsa.RSAPrivateKey, ends: timedelta = 30 * DAY) -> bytes:
    issuer = "authority" if by is alipay.rsa_key("authority") else name
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ports.LOOPBACK))]), False)
        .sign(by, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
