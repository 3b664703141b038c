"""Verify signatures with an account's keys. Pure; on the path of every request.

The account pins algorithm, hash, padding and keys. A message that names another algorithm is refused before a key is
used, which prevents downgrades.

Each signature has exactly one accepted encoding, because with several, programs could disagree on a signature. Base64
is strict and must encode to the same text again. An RSA signature has the length of the modulus. A DSA signature is the
DER encoding of two numbers in range. An MD5 digest is 32 lower-case hex digits.

Any exception from the crypto library counts as a bad signature.
"""

import hashlib
from binascii import a2b_base64, b2a_base64
from hmac import compare_digest
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ingest.errors import Malformed, Unauthentic
from ingest.key_files import Md5Secret
from ingest.keys import Key, KeyRing
from schemas import antom
from schemas import form as forms
from schemas.accounts import SignType
from schemas.dispositions import Refusal
from schemas.form import Form

# The hash of each algorithm; the padding of all RSA algorithms is PKCS#1 v1.5. SHA-1 is required because Alipay signs
# the old gateway's messages with it; it is used only if the account pins RSA or DSA.
_SHA1 = hashes.SHA1()  # noqa: S303
_SHA256 = hashes.SHA256()
_HASHES: dict[SignType, hashes.HashAlgorithm] = {
    SignType.RSA: _SHA1,
    SignType.DSA: _SHA1,
    SignType.RSA2: _SHA256,
    SignType.RSA256: _SHA256,
}
_PKCS1 = padding.PKCS1v15()


def verify_form(form: Form, ring: KeyRing, at_ms: int | None = None) -> str:
    """Return the id of the key that signed the form. `at_ms` is as for `ring_for`.

    The signed text is tried without empty values first, then with them, because Alipay's products differ in this.

    Raises:
        Unauthentic: `sign` is missing, `sign_type` is neither the account's nor a retiring one, or no active key signed
            these parameters.
    """
    if not form.sign:
        raise Unauthentic(Refusal.MISSING_SIGN)
    if form.sign_type != ring.pinned:
        ring = ring_for((form.sign_type or b"").decode("utf-8", "replace"), ring, at_ms)
    key = signer(forms.signed_text(form), form.sign, ring)
    if key is None and forms.has_blanks(form):
        key = signer(forms.signed_text(form, blanks=True), form.sign, ring)
    if key is None:
        raise Unauthentic(Refusal.BAD_SIGNATURE)
    return key.id


def ring_for(sign_type: str, ring: KeyRing, at_ms: int | None) -> KeyRing:
    """Return the ring that alone may verify a form with this `sign_type`: the account's own, or a retiring one.

    `at_ms` is the time of receipt. Without it, or from its end on, a retiring ring verifies nothing.

    Raises:
        Unauthentic: there is no such ring.
    """
    if sign_type == ring.sign_type:
        return ring
    former = ring.former(sign_type)
    if former is None:
        raise Unauthentic(Refusal.UNSUPPORTED_SIGN_TYPE, "sign_type is not the account's")
    if at_ms is None or at_ms >= former.until_ms:
        raise Unauthentic(Refusal.UNSUPPORTED_SIGN_TYPE, f"the retiring {sign_type} has ended: until = {former.until}")
    return former


def verify_message(
    body: bytes, *, signature_header: str, client_id: bytes, request_time: bytes, path: bytes, ring: KeyRing
) -> str:
    """Return the version of the key that signed an Antom message.

    `path` is the path of the notification URL that is configured at Antom.

    Raises:
        Malformed: the signature header is malformed.
        Unauthentic: no signature, another algorithm, an unknown key version, or a signature that this key did not make.
    """
    try:
        header = antom.read_signature_header(signature_header)
    except antom.BadHeader as bad:
        raise Malformed(Refusal.MALFORMED, str(bad)) from None
    if header.signature is None:
        raise Unauthentic(Refusal.MISSING_SIGN)
    if header.algorithm != ring.sign_type.value:
        raise Unauthentic(Refusal.UNSUPPORTED_SIGN_TYPE)
    key = ring.named(header.key_version) if antom.is_key_version(header.key_version) else None
    if key is None:
        raise Unauthentic(Refusal.UNKNOWN_KEY)
    text = antom.signed_text(path, client_id, request_time, body)
    if not is_signed_by(key, text, header.signature, ring.sign_type):
        raise Unauthentic(Refusal.BAD_SIGNATURE)
    return key.id


def signer(text: bytes, signature: bytes, ring: KeyRing) -> Key | None:
    """Return the active key that signed `text`, or `None`. The key that verified the last message is tried first."""
    for key in ring.recent:
        if is_signed_by(key, text, signature, ring.sign_type):
            ring.prefer(key)
            return key
    return None


def is_signed_by(key: Key, text: bytes, signature: bytes, sign_type: SignType) -> bool:
    """Whether `signature` is the key's signature of `text` with the pinned algorithm, in its one accepted encoding."""
    material = key.material
    if isinstance(material, Md5Secret):
        digest = hashlib.md5(text + material.secret, usedforsecurity=False).hexdigest().encode()
        return compare_digest(digest, signature)
    raw = decoded(signature)
    if raw is None:
        return False
    try:
        if sign_type is SignType.DSA:
            _verify_dsa(cast(dsa.DSAPublicKey, material), raw, text)
        else:
            # No isinstance: the kind was checked when the key was loaded, and a check here costs more than the base64.
            cast(rsa.RSAPublicKey, material).verify(raw, text, _PKCS1, _HASHES[sign_type])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        # Not only `Exception`: panics of the crypto library derive from `BaseException`. They would pass all other
        # handlers, and the sender would get no answer.
        return False
    return True


def decoded(signature: bytes) -> bytes | None:
    """Decode a signature in canonical base64 (standard alphabet, padded); return `None` for any other text."""
    try:
        raw = a2b_base64(signature, strict_mode=True)
    except ValueError:
        return None
    return raw if b2a_base64(raw, newline=False) == signature else None


def _verify_dsa(key: dsa.DSAPublicKey, raw: bytes, text: bytes) -> None:
    r, s = decode_dss_signature(raw)
    q = key.parameters().parameter_numbers().q
    if not (0 < r < q and 0 < s < q) or encode_dss_signature(r, s) != raw:
        raise InvalidSignature
    key.verify(raw, text, _HASHES[SignType.DSA])
