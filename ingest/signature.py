"""Whether a holder of one of the account's keys signed exactly this. Pure, and on the way of every request.

The account decides everything that could be negotiated: algorithm, hash, padding, keys. The message is only asked
whether it names the same algorithm, so that a downgrade is refused by its own word before any key is touched.

One signature has one spelling. Base64 is decoded strictly and must encode again to the same text; an RSA signature has
the modulus' length; a DSA signature is the one DER form of two numbers in range; an MD5 digest is 32 lower-case hex
digits. Otherwise every signature would have siblings, and each lenient reader in the chain its own idea of them.

Nothing that a verifier raises is anything but a bad signature.
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

# Which hash goes with which name; the padding of all RSA names is PKCS#1 v1.5. SHA-1 is what Alipay signs the old
# gateway's messages with: not ours to choose, and pinned per account.
_SHA1 = hashes.SHA1()  # noqa: S303
_SHA256 = hashes.SHA256()
_HASHES: dict[SignType, hashes.HashAlgorithm] = {
    SignType.RSA: _SHA1,
    SignType.DSA: _SHA1,
    SignType.RSA2: _SHA256,
    SignType.RSA256: _SHA256,
}
_PKCS1 = padding.PKCS1v15()


def verify_form(form: Form, ring: KeyRing) -> str:
    """The id of the key that signed the form.

    The signed text is tried without the empty values first, then, if there are any, with them.

    Raises:
        Unauthentic: no `sign`; a `sign_type` other than the account's; no active key signed these parameters.
    """
    if not form.sign:
        raise Unauthentic(Refusal.MISSING_SIGN)
    if form.sign_type != ring.pinned:
        raise Unauthentic(Refusal.UNSUPPORTED_SIGN_TYPE)
    key = signer(forms.signed_text(form), form.sign, ring)
    if key is None and forms.has_blanks(form):
        key = signer(forms.signed_text(form, blanks=True), form.sign, ring)
    if key is None:
        raise Unauthentic(Refusal.BAD_SIGNATURE)
    return key.id


def verify_message(
    body: bytes, *, signature_header: str, client_id: bytes, request_time: bytes, path: bytes, ring: KeyRing
) -> str:
    """The version of the key that signed an Antom message; `path` is the one that Antom was told.

    Raises:
        Malformed: the signature header is not what Antom writes.
        Unauthentic: no signature in it, another algorithm, an unknown key version, or not signed by that key.
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
    """The active key whose holder signed `text`, or none. The key that verified last is tried first."""
    for key in ring.recent:
        if is_signed_by(key, text, signature, ring.sign_type):
            ring.prefer(key)
            return key
    return None


def is_signed_by(key: Key, text: bytes, signature: bytes, sign_type: SignType) -> bool:
    """Whether `signature`, in its one spelling, is the key's over `text` under the pinned algorithm."""
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
            # The kind was checked when the key was loaded; to ask again here would cost more than the base64.
            cast(rsa.RSAPublicKey, material).verify(raw, text, _PKCS1, _HASHES[sign_type])
    except (KeyboardInterrupt, SystemExit):  # somebody wants the process to end
        raise
    except BaseException:
        # Whatever a verifier stumbles over, it has not verified. The library's own panics are no `Exception`: one of
        # them would pass every other handler and leave the sender without an answer.
        return False
    return True


def decoded(signature: bytes) -> bytes | None:
    """The bytes of a signature in standard base64 with padding, or none where that is not how they are spelled."""
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
