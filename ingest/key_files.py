"""Parse the content of a key file into a verifying key, and check its kind and strength. Pure: opens no file.

Only public keys are accepted, and MD5 secrets, which have no public half: a private key on the receiver could leak, and
is the wrong file, with which every payment would be refused. Errors never contain the file's content.

A certificate is checked against `root_certificates` if the account has them. Links signed with SHA-1 are refused,
because SHA-1 collisions allow one signature on two certificates. Validity dates are not checked: Alipay may sign
with a key after its certificate has expired, so an expired one verifies, and its expiry is only reported.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from schemas.accounts import Account, Family, SignType

MD5_KEY_CHARACTERS_MIN = 16
RSA_BITS_MIN = 2048
RSA_BITS_MIN_MAPI_SHA1 = 1024  # the size of the key with which Alipay signs the old gateway's messages
RSA_EXPONENT_MIN = 65537
DSA_BITS_MIN = 1024
_RSA_SIGNATURES = "1.2.840.113549.1.1."  # sha1WithRSAEncryption, sha256WithRSAEncryption …
CHAIN_LINKS_MAX = 8  # a real chain has two or three

_PLACEHOLDER = re.compile(rb"your[_ -]?|change[_ -]?me|placeholder|replace[_ -]?me|<|>|\$\{", re.IGNORECASE)
_PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# The exceptions for an unreadable certificate. `InvalidVersion` is not a ValueError.
_UNREADABLE = (ValueError, x509.InvalidVersion, UnsupportedAlgorithm)


class BadKey(ValueError):
    """The file is not a key that this account may use. The message has the reason, without the file's content."""


@dataclass(frozen=True, slots=True, eq=False)
class Md5Secret:
    """The shared secret that both sides append to the text before hashing. It can also sign, so it is never shown."""

    secret: bytes = field(repr=False)


Material = rsa.RSAPublicKey | dsa.DSAPublicKey | Md5Secret


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate's key, its expiry, and Alipay's number of the certificate (`alipay_cert_sn`)."""

    key: Material
    expires_at: datetime
    number: str


def public_key(content: bytes, account: Account, is_retiring: bool = False) -> Material:
    """Parse a public key: PEM, or one line of base64 as Alipay's dashboards show it.

    A retiring key of the Open Platform for RSA may be as short as Alipay's were then.

    Raises:
        BadKey: not exactly one public key, or not of the kind and strength that the account's algorithm needs.
    """
    if b"PRIVATE KEY" in content:
        raise BadKey("contains a private key: use Alipay's public key")
    if b"BEGIN CERTIFICATE" in content:
        raise BadKey("contains a certificate: name it in certificates, not in keys")
    key = _from_pem(content) if b"-----BEGIN" in content else _from_base64(content)
    return _strong_enough(key, account, is_retiring=is_retiring)


def md5_secret(content: bytes) -> Md5Secret:
    """Parse an MD5 key. Whitespace around it is ignored.

    Raises:
        BadKey: too short, not printable ASCII, or the placeholder of an example.
    """
    secret = content.strip()
    if len(secret) < MD5_KEY_CHARACTERS_MIN:
        raise BadKey(f"contains an MD5 key of fewer than {MD5_KEY_CHARACTERS_MIN} characters")
    if len(set(secret)) == 1 or _PLACEHOLDER.search(secret):
        raise BadKey("contains a placeholder: replace it by the account's MD5 key")
    if any(not 0x21 <= byte <= 0x7E for byte in secret):
        raise BadKey("contains a character other than printable ASCII, which no MD5 key has")
    return Md5Secret(secret)


def certificate(content: bytes, roots: Sequence[x509.Certificate], account: Account) -> Certified:
    """Parse the first certificate in a file. Further ones may be its issuers.

    Raises:
        BadKey: no certificate, no usable key, or no chain to one of `roots` (if there are any).
    """
    if b"PRIVATE KEY" in content:
        raise BadKey("contains a private key: use Alipay's certificate")
    found = certificates(content)
    if not found:
        raise BadKey("contains no readable certificate")
    leaf = found[0]
    if roots:
        _check_chain(leaf, found[1:], roots)
    key = _strong_enough(_certified_key(leaf), account)
    try:
        return Certified(key, leaf.not_valid_after_utc, certificate_number(leaf))
    except ValueError:
        raise BadKey("contains a certificate with unreadable dates or issuer") from None


def certificates(content: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, or the one of a DER file.

    Unreadable ones are skipped, because Alipay's file of roots also has certificates with algorithms that OpenSSL does
    not support.
    """
    found = []
    for block in _CERTIFICATE.findall(content):
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except _UNREADABLE:
            continue
    if found or b"-----BEGIN" in content:
        return found
    try:
        return [x509.load_der_x509_certificate(content)]
    except _UNREADABLE:
        return []


def certificate_number(certificate: x509.Certificate) -> str:
    """Return the number that Alipay's public SDKs give a certificate: `app_cert_sn`, `alipay_cert_sn`.

    It is the MD5 of the issuer's name, in the order of RFC 4514, and the decimal serial number.
    """
    text = certificate.issuer.rfc4514_string() + str(certificate.serial_number)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def root_number(roots: Iterable[x509.Certificate]) -> str:
    """Return `alipay_root_cert_sn`: the numbers of the root certificates with an RSA signature, joined by `_`."""
    return "_".join(
        certificate_number(root)
        for root in roots
        if root.signature_algorithm_oid.dotted_string.startswith(_RSA_SIGNATURES)
    )


def any_key(content: bytes, account: Account) -> Material:
    """Parse a key for comparison: a public key, the public half of a private key, or the secret of an MD5 account.

    Raises:
        BadKey: none of these, or not of the account's algorithm.
    """
    if account.sign_type is SignType.MD5:
        return md5_secret(content)
    if b"PRIVATE KEY" not in content:
        return public_key(content, account)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("contains no readable, unencrypted private key") from None
    return _strong_enough(key.public_key(), account)


def kind(key: Material) -> str:
    """Return RSA, DSA or MD5."""
    if isinstance(key, Md5Secret):
        return "MD5"
    return "DSA" if isinstance(key, dsa.DSAPublicKey) else "RSA"


def bits(key: Material) -> int:
    """Return the key's size in bits; of an MD5 secret its length."""
    return len(key.secret) * 8 if isinstance(key, Md5Secret) else key.key_size


def fingerprint(key: Material) -> str:
    """Return `sha256:` and the hash of the public key's DER encoding; an empty string for an MD5 secret."""
    if isinstance(key, Md5Secret):
        return ""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def digest(key: Material, purpose: bytes) -> bytes:
    """Return a short digest of a key and its purpose, in hex: enough to see that two processes have different keys.

    A record in the log has it. For an MD5 secret it tells no more than the form in the same record, whose signature is
    a digest of the secret too.
    """
    if isinstance(key, Md5Secret):
        content = key.secret
    else:
        content = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    hashed = hashlib.blake2b(len(purpose).to_bytes(2) + purpose + content, digest_size=8)
    return hashed.hexdigest().encode()


def _from_pem(content: bytes) -> PublicKeyTypes:
    if len(_PEM_BLOCK.findall(content)) > 1:
        raise BadKey("contains more than one PEM block: use one file for each key")
    try:
        return serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is not a readable PEM public key") from None


def _from_base64(content: bytes) -> PublicKeyTypes:
    try:
        der = base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        raise BadKey("is neither PEM nor base64") from None
    try:
        return serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(_no_public_key(der)) from None


def _no_public_key(der: bytes) -> str:
    """Return the reason why decoded base64 is no public key. Merchants often paste their own private key by mistake."""
    try:
        serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "is base64, but not of a public key"
    return "contains a private key: use Alipay's public key"


def _strong_enough(key: PublicKeyTypes, account: Account, *, is_retiring: bool = False) -> Material:
    if account.sign_type is SignType.DSA:
        if not isinstance(key, dsa.DSAPublicKey):
            raise BadKey("is not a DSA key, but sign_type DSA needs one")
        if key.key_size < DSA_BITS_MIN:
            raise BadKey(f"is a DSA key of {key.key_size} bits: at least {DSA_BITS_MIN} are needed")
        return key
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey(f"is not an RSA key, but sign_type {account.sign_type} needs one")
    may_be_short = account.sign_type is SignType.RSA and (account.family is Family.MAPI or is_retiring)
    bits_min = RSA_BITS_MIN_MAPI_SHA1 if may_be_short else RSA_BITS_MIN
    if key.key_size < bits_min:
        raise BadKey(
            f"is an RSA key of {key.key_size} bits: family {account.family} with sign_type {account.sign_type} "
            f"needs at least {bits_min}"
        )
    if key.public_numbers().e < RSA_EXPONENT_MIN:
        raise BadKey(f"is an RSA key with an exponent below {RSA_EXPONENT_MIN}")
    return key


def _certified_key(leaf: x509.Certificate) -> PublicKeyTypes:
    try:
        return leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("contains a certificate with an unreadable key") from None


def _check_chain(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> None:
    """Require a chain from the leaf to one of `roots`, through any of `issuers`."""
    current = leaf
    for _ in range(CHAIN_LINKS_MAX):
        if any(_issued(root, current) for root in roots):
            return
        above = next(
            (each for each in issuers if each != current and _is_authority(each) and _issued(each, current)), None
        )
        if above is None:
            raise BadKey("contains a certificate without a chain to root_certificates (SHA-1 links are refused)")
        current = above
    raise BadKey(f"contains a chain of more than {CHAIN_LINKS_MAX} certificates")


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(candidate: x509.Certificate) -> bool:
    try:
        return candidate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
