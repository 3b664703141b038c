"""The simulated Alipay's certificates are what the receiver and its Requests take them for."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.sandbox import certificates
from ingest import key_files


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def test_issued_certificate_leads_to_the_root(key: rsa.RSAPrivateKey) -> None:
    authority = certificates.Authority(key)
    own, issued = authority.own(), authority.issue("merchant", key.public_key())
    issued.verify_directly_issued_by(own)
    assert issued.public_key() == key.public_key()
    with pytest.raises(ValueError, match="issuer"):
        own.verify_directly_issued_by(issued)


def test_number_is_the_one_that_the_receiver_computes(key: rsa.RSAPrivateKey) -> None:
    authority = certificates.Authority(key)
    own, issued = authority.own(), authority.issue("a,b=c", key.public_key())
    assert certificates.number(issued) == key_files.certificate_number(issued)
    assert certificates.number(own) == key_files.root_number([own])
    assert certificates.number(own) != certificates.number(issued)


def test_file_gives_the_certificate_back(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    own = certificates.Authority(key).own()
    (tmp_path / "root.crt").write_bytes(certificates.pem(own))
    assert certificates.load(tmp_path / "root.crt") == own
    (tmp_path / "root.crt").write_bytes(b"no certificate")
    with pytest.raises(ValueError, match="PEM"):
        certificates.load(tmp_path / "root.crt")
