"""Accepted and refused key files."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ingest import key_files
from ingest.key_files import BadKey, Md5Secret
from schemas.accounts import Account, SignType
from tests.support import alipay
from tests.support.paths import VECTORS

NOW = datetime(2025, 3, 18, tzinfo=UTC)


def refused(content: bytes, account: Account | None = None) -> str:
    with pytest.raises(BadKey) as caught:
        key_files.public_key(content, account or alipay.openapi())
    for line in content.splitlines():
        assert len(line) < 12 or line.decode("latin-1") not in str(caught.value)
    return str(caught.value)


def test_public_key_is_parsed_from_pem_and_from_base64() -> None:
    key = alipay.rsa_key()
    bare = alipay.bare_base64(key)
    wrapped = b"\r\n".join(bare[i : i + 64] for i in range(0, len(bare), 64)) + b"\n"
    found = [key_files.public_key(content, alipay.openapi()) for content in (alipay.pem(key), bare, wrapped)]
    assert {key_files.fingerprint(each) for each in found} == {key_files.fingerprint(key.public_key())}
    assert key_files.fingerprint(found[0]).startswith("sha256:")
    assert key_files.fingerprint(found[0]) != key_files.fingerprint(alipay.rsa_key("second").public_key())
    assert (key_files.kind(found[0]), key_files.bits(found[0])) == ("RSA", 2048)


def test_s31_private_keys_are_refused_in_every_encoding() -> None:
    pem = alipay.private_pem(alipay.rsa_key())
    traditional = alipay.rsa_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    for content in (pem, traditional, alipay.pem(alipay.rsa_key()) + pem):
        assert "private key" in refused(content)
    for text in (pem, traditional):
        bare = b"".join(line for line in text.splitlines() if not line.startswith(b"-----"))
        assert "private key" in refused(bare)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is base64, but not of a public key"),
        (b"\xff\xfe", "neither PEM nor base64"),
        (b"hello world!", "neither PEM nor base64"),
        (base64.b64encode(b"no key at all"), "is base64, but not of a public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is not a readable PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----", "is not a readable PEM public key"),
    ],
)
def test_s31_broken_files_are_refused(content: bytes, why: str) -> None:
    assert why in refused(content)


def test_s31_two_keys_in_one_file_are_refused() -> None:
    assert "more than one" in refused(alipay.pem(alipay.rsa_key()) + alipay.pem(alipay.rsa_key("second")))


def test_s31_keys_of_another_kind_are_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = curve.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert "not an RSA key" in refused(pem)
    assert "not an RSA key" in refused(alipay.pem(alipay.dsa_key()))
    assert "not a DSA key" in refused(alipay.pem(alipay.rsa_key()), alipay.mapi(SignType.DSA))
    assert key_files.kind(key_files.public_key(alipay.pem(alipay.dsa_key()), alipay.mapi(SignType.DSA))) == "DSA"


def test_s20_only_the_old_gateway_s_sha1_key_may_have_1024_bits() -> None:
    short = alipay.pem(alipay.rsa_key(bits=1024))
    assert key_files.bits(key_files.public_key(short, alipay.mapi(SignType.RSA))) == 1024
    for account in (alipay.mapi(SignType.RSA2), alipay.openapi(SignType.RSA), alipay.openapi(), alipay.antom()):
        assert "at least 2048" in refused(short, account)


def of_numbers(n: int, e: int) -> bytes:
    key = rsa.RSAPublicNumbers(e, n).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_s20_shorter_keys_and_small_exponents_are_refused() -> None:
    n = alipay.rsa_key().private_numbers().public_numbers.n
    assert "exponent" in refused(of_numbers(n, 3))
    assert "exponent" in refused(of_numbers(n, 65535))
    assert "at least 1024" in refused(of_numbers((1 << 1022) + 1, 65537), alipay.mapi(SignType.RSA))
    assert "at least 2048" in refused(of_numbers((1 << 2046) + 1, 65537))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"your_key",
        b"0123456789abcde",
        b"   0123456789abcde   ",
        b"your_key_your_key_your_key",
        b"YOUR-MD5-KEY-GOES-HERE-0000",
        b"changeme_changeme",
        b"please-change-me-please",
        b"<md5-key-of-alipay>",
        b"${ALIPAY_MD5_KEY_OF_SHOP}",
        b"a" * 32,
        b"two words of a secret",
        "密钥密钥密钥密钥".encode(),
    ],
)
def test_s13_empty_short_and_placeholder_md5_keys_are_refused_without_being_shown(content: bytes) -> None:
    with pytest.raises(BadKey) as caught:
        key_files.md5_secret(content)
    assert len(content.strip()) < 8 or content.decode().strip() not in str(caught.value)


def test_md5_key_is_stripped_and_never_shown() -> None:
    secret = key_files.md5_secret(b"\nmd5-key-of-the-samples-0000-test\r\n")
    assert secret.secret == b"md5-key-of-the-samples-0000-test"
    assert "samples" not in repr(secret)
    assert key_files.fingerprint(secret) == ""
    assert (key_files.kind(secret), key_files.bits(secret)) == ("MD5", 256)
    for shortest in (b"0123456789abcdef", b"!~!~!~!~!~!~!~!~"):
        assert key_files.md5_secret(shortest).secret == shortest


# Certificates


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"), x509.NameAttribute(NameOID.COMMON_NAME, name)])


def issued(
    subject: str,
    issuer: str,
    *,
    key: str = "",
    is_authority: bool = False,
    days: int = 365,
    signer: str = "",
    serial: int = 7,
) -> x509.Certificate:
    """A certificate for `key`, issued in `issuer`'s name and signed with the key `signer` (by default `issuer`'s)."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(alipay.rsa_key(key or subject).public_key())
        .serial_number(serial)
        .not_valid_before(NOW - timedelta(days=1000))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    return builder.sign(alipay.rsa_key(signer or issuer), hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


ROOT = issued("root", "root", is_authority=True)
MIDDLE = issued("middle", "root", is_authority=True)
LEAF = issued("leaf", "middle")


def test_first_certificate_gives_key_expiry_and_number() -> None:
    certified = key_files.certificate(pem(LEAF, MIDDLE), [], alipay.openapi())
    assert key_files.fingerprint(certified.key) == key_files.fingerprint(alipay.rsa_key("leaf").public_key())
    assert certified.expires_at == NOW + timedelta(days=365)
    assert certified.number == hashlib.md5(b"CN=middle,C=CN7").hexdigest()


def test_certificate_is_parsed_from_der() -> None:
    content = LEAF.public_bytes(serialization.Encoding.DER)
    assert key_files.certificate(content, [], alipay.openapi()).expires_at == NOW + timedelta(days=365)


def test_s28_expired_certificate_still_gives_its_key() -> None:
    expired = issued("leaf", "middle", days=-30)
    assert key_files.certificate(pem(expired, MIDDLE), [ROOT], alipay.openapi()).expires_at < NOW


@pytest.mark.parametrize(
    "chain", [(LEAF, MIDDLE), (LEAF, issued("x", "root"), MIDDLE)], ids=["in_order", "with_another"]
)
def test_chain_to_a_root_is_accepted(chain: tuple[x509.Certificate, ...]) -> None:
    assert key_files.certificate(pem(*chain), [issued("other", "other"), ROOT], alipay.openapi())
    assert key_files.certificate(pem(LEAF), [MIDDLE], alipay.openapi())


def test_s28_certificate_without_a_chain_to_the_account_s_roots_is_refused() -> None:
    impostor = issued("middle", "middle", key="impostor", is_authority=True, signer="impostor")
    chains: dict[str, tuple[x509.Certificate, ...]] = {
        "no issuer": (LEAF,),
        "self-signed issuer of the same name": (issued("leaf", "middle", signer="impostor"), impostor),
        "issuer that is no authority": (LEAF, issued("middle", "root")),
        "self-signed leaf": (issued("leaf", "leaf"),),
        "beside a genuine authority that did not issue it": (issued("leaf", "middle", signer="impostor"), MIDDLE),
        "root's name, another key": (issued("leaf", "root", signer="impostor"),),
    }
    for chain in chains.values():
        with pytest.raises(BadKey, match="without a chain"):
            key_files.certificate(pem(*chain), [ROOT], alipay.openapi())
    with pytest.raises(BadKey, match="without a chain"):
        key_files.certificate(pem(LEAF, MIDDLE), [issued("other", "other", is_authority=True)], alipay.openapi())


def test_circle_of_issuers_is_no_chain() -> None:
    one = issued("one", "two", is_authority=True)
    two = issued("two", "one", is_authority=True)
    with pytest.raises(BadKey, match="more than 8"):
        key_files.certificate(pem(issued("leaf", "one"), one, two), [ROOT], alipay.openapi())


def test_key_of_a_certificate_must_be_strong_enough() -> None:
    weak = (
        x509.CertificateBuilder()
        .subject_name(named("weak"))
        .issuer_name(named("root"))
        .public_key(alipay.rsa_key(bits=1024).public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(alipay.rsa_key("root"), hashes.SHA256())
    )
    with pytest.raises(BadKey, match="at least 2048"):
        key_files.certificate(pem(weak), [], alipay.openapi())


def test_s31_key_files_of_the_wrong_type_are_refused() -> None:
    assert "certificate" in refused(pem(LEAF))
    for content, why in (
        (alipay.pem(alipay.rsa_key()), "no readable certificate"),
        (alipay.private_pem(alipay.rsa_key()), "private key"),
        (b"", "no readable certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no readable certificate"),
    ):
        with pytest.raises(BadKey, match=why):
            key_files.certificate(content, [], alipay.openapi())


def test_unreadable_certificates_in_a_bundle_are_skipped() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert key_files.certificates(broken + pem(ROOT) + b"text between\n" + pem(MIDDLE)) == [ROOT, MIDDLE]


def test_any_key_returns_the_public_half_of_a_private_key() -> None:
    expected = key_files.fingerprint(alipay.rsa_key().public_key())
    for content in (alipay.private_pem(alipay.rsa_key()), alipay.pem(alipay.rsa_key())):
        assert key_files.fingerprint(key_files.any_key(content, alipay.openapi())) == expected
    assert isinstance(key_files.any_key(b"md5-key-of-the-samples", alipay.mapi(SignType.MD5)), Md5Secret)
    with pytest.raises(BadKey, match="unencrypted private key"):
        key_files.any_key(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", alipay.openapi())


def test_number_is_that_of_alipay_s_sdks_for_a_real_certificate() -> None:
    vector = json.loads((VECTORS / "openplatform_rsa2_sandbox_cert_plus_sign_2023.json").read_text())
    (certificate,) = key_files.certificates(vector["certificate_pem"].encode())
    # Written out: the issuer from the most specific name to the country, then the serial number in decimal digits.
    issuer = "CN=Ant Financial Certification Authority Class 2 R1 test,OU=Certification Authority test"
    text = f"{issuer},O=Ant Financial test,C=CN42717148536941068122445314511311197845"
    assert key_files.certificate_number(certificate) == hashlib.md5(text.encode()).hexdigest()
    assert key_files.certificate_number(certificate) == "6f1e366a31d9575cd546914add04f4af"


def test_root_number_joins_the_roots_with_rsa_signatures() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder().subject_name(named("ec")).issuer_name(named("ec")).public_key(curve.public_key())
    )
    builder = builder.serial_number(9).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    elliptic = builder.sign(curve, hashes.SHA256())
    found = key_files.certificates(pem(ROOT, elliptic, MIDDLE))
    assert len(found) == 3
    numbers = [key_files.certificate_number(each) for each in (ROOT, MIDDLE)]
    assert key_files.root_number(found) == "_".join(numbers)
    assert key_files.root_number([elliptic]) == key_files.root_number([]) == ""
