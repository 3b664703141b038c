"""One key file's bytes, read into a key that may verify: the rules on form, kind and strength of key material.

Pure: it is handed bytes and never opens a file. Only public keys pass (and the MD5 secret, which has no public half):
a receiver that holds a private key can lose it, and one that was given the wrong file would refuse every payment later
instead of refusing to start now. No error here quotes what it read.

A certificate vouches for a key only where its chain is checked against `root_certificates`. Links signed with SHA-1
are refused, since such a signature can be made for two certificates at once. Dates are not part of the check: Alipay's
old signatures outlive its certificates, so an expired one still verifies and is reported.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
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
RSA_BITS_MIN_MAPI_SHA1 = 1024  # the one key with which Alipay signs the old gateway's messages to every merchant
RSA_EXPONENT_MIN = 65537
DSA_BITS_MIN = 1024
CHAIN_LINKS_MAX = 8  # a real chain has two or three

_PLACEHOLDER = re.compile(rb"your[_ -]?|change[_ -]?me|placeholder|replace[_ -]?me|<|>|\$\{", re.IGNORECASE)
_PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# What the library raises for a certificate that it cannot take; the second is no ValueError.
_UNREADABLE = (ValueError, x509.InvalidVersion, UnsupportedAlgorithm)


class BadKey(ValueError):
    """The file is no key that this account may trust; the message says why, without its bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Md5Secret:
    """The text that both sides append before hashing. Whoever knows it can sign, so it is never shown."""

    secret: bytes = field(repr=False)


Material = rsa.RSAPublicKey | dsa.DSAPublicKey | Md5Secret


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate's key, until when it was issued, and the number by which Alipay names the certificate."""

    key: Material
    expires_at: datetime
    number: str


def public_key(content: bytes, account: Account) -> Material:
    """The public key in a file: PEM, or the one line of base64 that Alipay's dashboards show.

    Raises:
        BadKey: not exactly one public key, or not of the kind and strength that the account's algorithm needs.
    """
    if b"PRIVATE KEY" in content:
        raise BadKey("holds a private key: only Alipay's public key belongs here")
    if b"BEGIN CERTIFICATE" in content:
        raise BadKey("holds a certificate: name it in certificates, not in keys")
    key = _from_pem(content) if b"-----BEGIN" in content else _from_base64(content)
    return _strong_enough(key, account)


def md5_secret(content: bytes) -> Md5Secret:
    """The MD5 key in a file; blanks and line ends around it do not belong to it.

    Raises:
        BadKey: too short, not printable ASCII, or an example's text that somebody forgot to replace.
    """
    secret = content.strip()
    if len(secret) < MD5_KEY_CHARACTERS_MIN:
        raise BadKey(f"holds an MD5 key of fewer than {MD5_KEY_CHARACTERS_MIN} characters")
    if len(set(secret)) == 1 or _PLACEHOLDER.search(secret):
        raise BadKey("holds a placeholder, not an MD5 key")
    if any(not 0x21 <= byte <= 0x7E for byte in secret):
        raise BadKey("holds characters that no MD5 key of Alipay's has")
    return Md5Secret(secret)


def certificate(content: bytes, roots: Sequence[x509.Certificate], account: Account) -> Certified:
    """The key of the first certificate in a file; others in it may be its issuers.

    Raises:
        BadKey: no certificate, no usable key, or (where there are `roots`) no chain to one of them.
    """
    if b"PRIVATE KEY" in content:
        raise BadKey("holds a private key: only Alipay's certificate belongs here")
    found = certificates(content)
    if not found:
        raise BadKey("holds no certificate that can be read")
    leaf = found[0]
    if roots:
        _check_chain(leaf, found[1:], roots)
    key = _strong_enough(_certified_key(leaf), account)
    try:
        return Certified(key, leaf.not_valid_after_utc, _number(leaf))
    except ValueError:
        raise BadKey("holds a certificate whose dates or issuer cannot be read") from None


def certificates(content: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, or the one of a DER file.

    Those that cannot be read are left out: Alipay's root file also carries certificates of algorithms that OpenSSL
    does not know, beside the ones that are needed.
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


def any_key(content: bytes, account: Account) -> Material:
    """A key to compare with: like `public_key`, and of a private key its public half; for an MD5 account a secret.

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
        raise BadKey("holds no unencrypted private key that can be read") from None
    return _strong_enough(key.public_key(), account)


def kind(key: Material) -> str:
    """RSA, DSA or MD5."""
    if isinstance(key, Md5Secret):
        return "MD5"
    return "DSA" if isinstance(key, dsa.DSAPublicKey) else "RSA"


def bits(key: Material) -> int:
    """The size by which a key's strength is named; an MD5 secret's is its length."""
    return len(key.secret) * 8 if isinstance(key, Md5Secret) else key.key_size


def fingerprint(key: Material) -> str:
    """`sha256:` and the hash of the public key's DER form. Of an MD5 secret nothing is shown, not even its hash."""
    if isinstance(key, Md5Secret):
        return ""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def _from_pem(content: bytes) -> PublicKeyTypes:
    if len(_PEM_BLOCK.findall(content)) > 1:
        raise BadKey("holds more than one PEM block: one key per file")
    try:
        return serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is no PEM public key that can be read") from None


def _from_base64(content: bytes) -> PublicKeyTypes:
    try:
        der = base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        raise BadKey("is neither PEM nor one base64 text") from None
    try:
        return serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(_no_public_key(der)) from None


def _no_public_key(der: bytes) -> str:
    """Why base64 that decodes is no public key: merchants paste their own private key surprisingly often."""
    try:
        serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "is base64, but not of a public key"
    return "holds a private key: only Alipay's public key belongs here"


def _strong_enough(key: PublicKeyTypes, account: Account) -> Material:
    if account.sign_type is SignType.DSA:
        if not isinstance(key, dsa.DSAPublicKey):
            raise BadKey("is not a DSA key, which sign_type DSA needs")
        if key.key_size < DSA_BITS_MIN:
            raise BadKey(f"is a DSA key of {key.key_size} bits: at least {DSA_BITS_MIN} are needed")
        return key
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey(f"is not an RSA key, which sign_type {account.sign_type} needs")
    sha1_of_mapi = account.family is Family.MAPI and account.sign_type is SignType.RSA
    bits_min = RSA_BITS_MIN_MAPI_SHA1 if sha1_of_mapi else RSA_BITS_MIN
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
        raise BadKey("holds a certificate whose key cannot be read") from None


def _check_chain(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> None:
    """Some root issued the leaf, or issued an issuer of it that is among `issuers`."""
    current = leaf
    for _ in range(CHAIN_LINKS_MAX):
        if any(_issued(root, current) for root in roots):
            return
        above = next(
            (each for each in issuers if each != current and _is_authority(each) and _issued(each, current)), None
        )
        if above is None:
            raise BadKey("holds a certificate without a chain to root_certificates (a link by SHA-1 does not count)")
        current = above
    raise BadKey(f"holds a chain of more than {CHAIN_LINKS_MAX} certificates")


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


def _number(leaf: x509.Certificate) -> str:
    """What Alipay calls `alipay_cert_sn`: md5 of the issuer's name and the serial number (public SDKs agree on it)."""
    text = leaf.issuer.rfc4514_string() + str(leaf.serial_number)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
