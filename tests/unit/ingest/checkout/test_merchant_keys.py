"""The merchant's key is read in every form that Alipay's tools write, and shown nowhere."""

import base64
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ingest import key_files, keys
from ingest.checkout import merchant_keys
from ingest.checkout.merchant_keys import MerchantKeys
from ingest.key_files import BadKey, Md5Secret
from schemas import accounts_toml
from schemas.accounts import Account
from tests.support import alipay

KEY = alipay.rsa_key("merchant")
SMALL = alipay.rsa_key("merchant", bits=1024)
DER = {
    kind: KEY.private_bytes(Encoding.DER, kind, NoEncryption())
    for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
}


def account(**settings: object) -> Account:
    table = {
        "family": "openapi", "sign_type": "RSA2", "app_id": alipay.APP, "keys": ["alipay.pem"],
        "merchant_key_file": "merchant.key",
    }  # fmt: skip
    return accounts_toml.parse({"accounts": {"shop": table | settings}})["shop"]


def test_token_of_a_merchant_is_one_word_and_in_no_error(tmp_path: Path) -> None:
    shop = account(auth_app_id="2022", app_auth_token_file="a.token")
    assert merchant_keys.app_auth_token(account(), tmp_path) == ""
    for content, fault in (("2026BBt0ken-_\n", ""), ("two words1", "has no app_auth_token"), ("", "has no app_auth")):
        alipay.written(tmp_path, "a.token", content.encode())
        if not fault:
            assert merchant_keys.app_auth_token(shop, tmp_path) == content.strip()
            continue
        with pytest.raises(BadKey, match=fault) as refused:
            merchant_keys.app_auth_token(shop, tmp_path)
        assert not content or content not in str(refused.value)


def issued(name: str, key: rsa.RSAPrivateKey, issuer: rsa.RSAPrivateKey) -> bytes:
    now = datetime.now(UTC)
    named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "Root")]
    builder = x509.CertificateBuilder().subject_name(named[0]).issuer_name(named[1]).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=365))
    return builder.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM)


def certified(directory: Path, key: rsa.RSAPrivateKey = KEY) -> Account:
    root = alipay.rsa_key("root")
    (directory / "roots.crt").write_bytes(issued("Root", root, root))
    (directory / "app.crt").write_bytes(issued("App", key, root))
    (directory / "merchant.key").write_bytes(alipay.private_pem(KEY))
    return account(
        certificates=["alipay.crt"], root_certificates=["roots.crt"], merchant_certificate_file="app.crt", keys=[]
    )


@pytest.mark.parametrize("kind", DER)
def test_key_is_read_from_pem_and_base64_of_both_formats(kind: PrivateFormat) -> None:
    pem = KEY.private_bytes(Encoding.PEM, kind, NoEncryption())
    one_line = base64.b64encode(DER[kind])
    for content in (pem, one_line, one_line + b"\r\n", base64.encodebytes(DER[kind])):
        assert merchant_keys.private_key(content).private_numbers() == KEY.private_numbers()


def test_other_content_is_refused_without_its_bytes() -> None:
    encrypted = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw"))
    dsa = alipay.dsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"secret words", alipay.pem(KEY), encrypted, dsa):
        with pytest.raises(BadKey, match=r"^is not "):
            merchant_keys.private_key(content)


def test_account_without_a_key_cannot_sign(tmp_path: Path) -> None:
    assert MerchantKeys(tmp_path).of(account(merchant_key_file=None)) is None


def test_md5_account_signs_with_its_secret_and_shows_it_nowhere(tmp_path: Path) -> None:
    (tmp_path / "md5.key").write_bytes(alipay.MD5_SECRET)
    md5 = accounts_toml.parse({"accounts": {"web": {
        "family": "mapi", "sign_type": "MD5", "md5_key_file": "md5.key", "seller_id": alipay.SELLER,
    }}})["web"]  # fmt: skip
    key = MerchantKeys(tmp_path).of(md5)
    assert key is not None
    assert isinstance(key.key, Md5Secret)
    assert key.key.secret == alipay.MD5_SECRET
    assert alipay.MD5_SECRET.decode() not in repr(key)


def test_changed_key_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    keys, file = MerchantKeys(tmp_path), tmp_path / "merchant.key"
    with pytest.raises(BadKey, match=r"merchant.key cannot be read: No such file"):
        keys.of(account())
    file.write_bytes(alipay.private_pem(KEY))
    first = keys.of(account())
    assert keys.of(account()) is first
    file.write_bytes(b"half a copy")
    with pytest.raises(BadKey, match=r"^merchant.key is not a readable"):
        keys.of(account())
    file.write_bytes(alipay.private_pem(alipay.rsa_key("other")))
    os.utime(file, (1, 1))
    second = keys.of(account())
    assert second is not None
    assert second is not first


def test_key_is_as_long_as_its_algorithm_needs(tmp_path: Path) -> None:
    (tmp_path / "merchant.key").write_bytes(alipay.private_pem(SMALL))
    with pytest.raises(BadKey, match="1024 bits: sign_type RSA2 needs at least 2048"):
        merchant_keys.load(account(), tmp_path)
    assert merchant_keys.load(account(sign_type="RSA"), tmp_path)
    (tmp_path / "merchant.key").write_bytes(b"x" * (keys.FILE_BYTES_MAX + 1))
    with pytest.raises(BadKey, match="too many for a key"):
        merchant_keys.load(account(), tmp_path)


def test_certificate_numbers_come_with_the_key(tmp_path: Path) -> None:
    key = merchant_keys.load(certified(tmp_path), tmp_path)
    (app,) = key_files.certificates((tmp_path / "app.crt").read_bytes())
    roots = key_files.certificates((tmp_path / "roots.crt").read_bytes())
    assert key.app_cert_sn == key_files.certificate_number(app)
    assert key.root_cert_sn == key_files.root_number(roots)
    assert key.expires_at == app.not_valid_after_utc


def test_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    other = certified(tmp_path, alipay.rsa_key("other"))
    with pytest.raises(BadKey, match=r"app.crt is the certificate of another key than merchant.key"):
        merchant_keys.load(other, tmp_path)
    (tmp_path / "app.crt").write_bytes(b"nothing")
    with pytest.raises(BadKey, match=r"app.crt contains no readable certificate"):
        merchant_keys.load(other, tmp_path)
