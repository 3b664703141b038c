"""Explain why a message is refused (验签失败): its cause in one sentence, and the remedy.

The verdict is the receiver's own (`ingest.authenticate`). The diagnosis then undoes changes that happen to messages on
the way (`deploy.verify.variants`), one at a time and two together, with every key at hand. A change under which the
signature is valid names the cause; it never makes the message accepted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from msgspec import Struct

from deploy.verify import advice, variants
from deploy.verify.advice import Advice
from deploy.verify.capture import Captured
from deploy.verify.variants import Sign, Text, Variant
from ingest import authenticate, key_files, signature
from ingest.authenticate import SigningHeaders
from ingest.clock import SystemClock
from ingest.errors import Malformed, Refused, Unauthentic
from ingest.keys import Key, KeyRing
from schemas import antom
from schemas.accounts import CHARSETS, Account, Family, SignType
from schemas.dispositions import Refusal

# A value as `schemas.personal` leaves it.
_REDACTED = re.compile(rb"=(?:\*\*\*|erased)(?:&|$)|\"(?:\*\*\*|erased)\"")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
DEPARTURES_MAX = 2  # three changes together do not occur in practice, and would fit by chance


class Tried(Struct, frozen=True, kw_only=True):
    """One variant, and whether the signature is valid under it alone."""

    variant: Variant
    holds: bool


class Explanation(Struct, frozen=True, kw_only=True):
    """The verdict on one captured message, with its cause and remedy.

    `signed_text` is the canonical text that was accepted or tried, for display. `departures` are the changes that have
    to be undone to make the signature valid, empty if no known change explains it. `key` names the key that verifies.
    `ignored` names the parameters without which the signature is valid. `read_as` is how the message was written;
    `is_decoded` if it was made of decoded parameters.
    """

    account: str
    accepted: bool
    cause: str
    remedy: str
    reason: Refusal | None = None
    key: str = ""
    signed_text: str = ""
    sign_type: str = ""
    departures: tuple[Variant, ...] = ()
    tried: tuple[Tried, ...] = ()
    ignored: tuple[str, ...] = ()
    read_as: str = "body"
    is_decoded: bool = False


class _Candidate(Struct, frozen=True):
    """One key to try, with its name; `variant` is `None` for the key that should verify.

    `algorithm` is that of the key, if it differs from that of the message.
    """

    variant: Variant | None
    label: str
    key: Key
    algorithm: SignType | None = None


class _Fit(Struct, frozen=True):
    """Changes that, undone together, make the signature valid under the key of this name.

    `names` are the parameters that a change is about, if it is not about all.
    """

    departures: tuple[Variant, ...]
    label: str
    names: tuple[str, ...] = ()


def explain(
    captured: Captured,
    account: Account,
    ring: KeyRing,
    *,
    others: Mapping[str, KeyRing] | None = None,
    given: Key | None = None,
    unlisted: Sequence[Key] = (),
) -> Explanation:
    """Return the verdict on `captured` for this account, with the cause if it is refused.

    `others` are the key rings of the other accounts, `given` is another key that may have signed the message, and
    `unlisted` are keys in files that no account names (any more). They are tried only to name the cause; no message is
    accepted by them.
    """
    try:
        return _accept(captured, account, ring)
    except Refused as refused:
        named = ring.former(_signature_of(captured, account)[1]) or ring
        keys = _keys(named, others or {}, given, named=_key_version(captured, account))
        keys += _keys_of_other_algorithms(ring, named)
        keys += [_Candidate(Variant.UNLISTED_KEY, each.id, each) for each in unlisted]
        return _refused(refused, captured, account, named, keys)


def accepted(captured: Captured, account: Account, ring: KeyRing) -> Explanation | None:
    """Return the explanation if the receiver would accept the message; `None` if it would refuse it."""
    try:
        return _accept(captured, account, ring)
    except Refused:
        return None


def _accept(captured: Captured, account: Account, ring: KeyRing) -> Explanation:
    headers = _signing_headers(captured) if account.family is Family.ANTOM else None
    authentic = authenticate.check(account, ring, captured.body, headers, SystemClock().epoch_ms())
    found = advice.AMBIGUOUS if authentic.is_ambiguous else advice.VALID
    former = ring.former(_signature_of(captured, account)[1])
    if former is not None:
        ring, found = former, advice.retiring(found, former.sign_type.value, former.until)
    return Explanation(
        account=account.name,
        accepted=True,
        cause=found.cause,
        remedy=found.remedy or (advice.from_decoded(captured.read_as) if captured.is_decoded else ""),
        read_as=captured.read_as,
        is_decoded=captured.is_decoded,
        key=authentic.key_id,
        sign_type=ring.sign_type.value,
        signed_text=_shown(_accepted_text(captured, account, ring), captured, account),
    )


def _signing_headers(captured: Captured) -> SigningHeaders:
    headers = {name.encode(): value.encode() for name, value in captured.headers.items()}
    return authenticate.signing_headers(lambda name: [headers[name]] if name in headers else [])


def _refused(
    refused: Refused, captured: Captured, account: Account, ring: KeyRing, keys: list[_Candidate]
) -> Explanation:
    texts = _distinct(_texts(captured, account))
    sign, sign_type = _signature_of(captured, account)
    fit, tried = None, tuple[Tried, ...]()
    if isinstance(refused, Unauthentic | Malformed) and sign:
        spellings = [each for each in variants.signs(sign) if each.variant is None or each.sign != sign]
        fits = list(_fits(texts, spellings, keys, ring.sign_type))
        fit = min(fits, key=lambda each: len(each.departures), default=None)
        tried = _tried([*texts, *spellings, *keys], fits)
    advised = _advise(refused, fit, sign, captured, account, keys)
    return Explanation(
        account=account.name,
        accepted=False,
        reason=refused.reason,
        cause=advised.cause,
        remedy=advised.remedy,
        key=fit.label if fit else "",
        sign_type=sign_type,
        signed_text=_shown(texts[0].text, captured, account) if texts else "",
        departures=fit.departures if fit else (),
        tried=tried,
        ignored=fit.names if fit and Variant.PARAMETER_ADDED in fit.departures else (),
        read_as=captured.read_as,
        is_decoded=captured.is_decoded,
    )


def _accepted_text(captured: Captured, account: Account, ring: KeyRing) -> bytes:
    """Return the canonical text that was signed: the one without the empty values, or the one with them."""
    sign, _ = _signature_of(captured, account)
    texts = [each.text for each in _texts(captured, account) if each.variant is None]
    return next((text for text in texts if signature.signer(text, sign, ring) is not None), texts[0])


def _key_version(captured: Captured, account: Account) -> str | None:
    """Return the key version in an Antom message's header; `None` if it cannot be read, and for a form."""
    if account.family is not Family.ANTOM:
        return None
    try:
        return antom.read_signature_header(captured.headers.get("signature", "")).key_version
    except antom.BadHeader:
        return None


def _keys(ring: KeyRing, others: Mapping[str, KeyRing], given: Key | None, *, named: str | None) -> list[_Candidate]:
    keys = [
        _Candidate(None if named in (None, key.id) else Variant.OTHER_KEY_OF_ACCOUNT, key.id, key) for key in ring.keys
    ]
    keys += [
        _Candidate(Variant.KEY_OF_OTHER_ACCOUNT, f"{name}: {key.id}", key)
        for name, other in others.items()
        if name != ring.account
        for key in other.keys
    ]
    return keys + ([_Candidate(Variant.GIVEN_KEY, given.id, given)] if given else [])


def _keys_of_other_algorithms(ring: KeyRing, named: KeyRing) -> list[_Candidate]:
    """Return the account's keys for other algorithms than the one that the message names."""
    return [
        _Candidate(Variant.KEY_OF_OTHER_ALGORITHM, f"{key.id} ({each.sign_type.value})", key, each.sign_type)
        for each in (ring, *ring.retiring)
        if each is not named
        for key in each.keys
    ]


def _texts(captured: Captured, account: Account) -> Iterator[Text]:
    target = captured.target.encode("utf-8", "replace")
    if account.family is not Family.ANTOM:
        return variants.form_texts(captured.body, target.partition(b"?")[2], _likely(account))
    return variants.antom_texts(
        captured.body,
        path=(account.public_path or "").encode(),
        target=target,
        client_id=captured.headers.get("client-id", "").encode("utf-8", "replace"),
        request_time=captured.headers.get("request-time", "").encode("utf-8", "replace"),
    )


def _likely(account: Account) -> list[tuple[bytes, bytes]]:
    """Return parameters that Alipay sends to this account, and that frameworks take out."""
    charsets = [(b"charset", name.encode()) for name in ("utf-8", "UTF-8", "GBK", "gbk")]
    own = [("app_id", account.app_id), ("auth_app_id", account.app_id), ("seller_id", account.seller_id)]
    named = [(name.encode(), value.encode()) for name, value in own if value]
    return [*charsets, (b"version", b"1.0"), (b"notify_type", b"trade_status_sync"), *named]


def _signature_of(captured: Captured, account: Account) -> tuple[bytes, str]:
    """Return the message's signature and algorithm, as far as they can be read."""
    if account.family is Family.ANTOM:
        try:
            header = antom.read_signature_header(captured.headers.get("signature", ""))
        except antom.BadHeader:
            return b"", ""
        return header.signature or b"", header.algorithm or ""
    fields = variants.fields_with_sign(captured.body)
    return fields.get(b"sign", b""), fields.get(b"sign_type", b"").decode("utf-8", "replace")


def _fits(texts: list[Text], signs: list[Sign], keys: list[_Candidate], pinned: SignType) -> Iterator[_Fit]:
    """Yield every combination of at most two changes under which the signature is valid."""
    tries = [(key, algorithm) for key in keys for algorithm in _algorithms(key.algorithm or pinned)]
    for text, sign, (key, algorithm) in product(texts, signs, tries):
        other_hash = Variant.OTHER_HASH if algorithm is not (key.algorithm or pinned) else None
        departures = tuple(each for each in (text.variant, sign.variant, key.variant, other_hash) if each is not None)
        if len(departures) > DEPARTURES_MAX:
            continue
        if signature.is_signed_by(key.key, text.text, sign.sign, algorithm):
            yield _Fit(departures, key.label, text.names)


def _algorithms(pinned: SignType) -> tuple[SignType, ...]:
    if pinned in (SignType.RSA, SignType.RSA2, SignType.RSA256):
        return (pinned, SignType.RSA if pinned is not SignType.RSA else SignType.RSA2)
    return (pinned,)


def _distinct(texts: Iterator[Text]) -> list[Text]:
    """Return each text once, under its first variant: a variant that changes nothing explains nothing."""
    found: dict[bytes, Text] = {}
    for each in texts:
        found.setdefault(each.text, each)
    return list(found.values())


def _tried(candidates: Sequence[Text | Sign | _Candidate], fits: list[_Fit]) -> tuple[Tried, ...]:
    """Return each variant that changes this message, and whether it alone makes the signature valid."""
    alone = {fit.departures[0] for fit in fits if len(fit.departures) == 1}
    names = dict.fromkeys(each.variant for each in candidates if each.variant is not None)
    return tuple(Tried(variant=variant, holds=variant in alone) for variant in (*names, Variant.OTHER_HASH))


def _advise(
    refused: Refused, fit: _Fit | None, sign: bytes, captured: Captured, account: Account, keys: list[_Candidate]
) -> Advice:
    """Return the most certain cause: a variant that fits, else the reason of the refusal, else the signer."""
    if fit is None and _REDACTED.search(captured.body) is not None:
        return advice.REDACTED
    if refused.reason is Refusal.UNSUPPORTED_SIGN_TYPE:
        return _advise_on_sign_type(fit, sign, captured, account, keys)
    announced = captured.headers.get("content-length", "")
    if fit is None and announced.isascii() and announced.isdigit() and len(captured.body) < int(announced[:9]):
        return advice.truncated(len(captured.body), int(announced[:9]))
    if fit is not None and fit.departures:
        return advice.departures(fit.departures, fit.label, fit.names)
    if fit is not None and refused.reason is Refusal.MALFORMED:
        return advice.grammar(str(refused), is_padded=captured.body != captured.body.strip())
    if refused.reason is not Refusal.BAD_SIGNATURE:
        return advice.refusal(refused.reason, str(refused))
    return _advise_on_signer(sign, account, keys)


def _advise_on_sign_type(
    fit: _Fit | None, sign: bytes, captured: Captured, account: Account, keys: list[_Candidate]
) -> Advice:
    """Return the advice on a message that names another algorithm; its signature may be valid with either hash."""
    given = _signature_of(captured, account)[1]
    former = next((each for each in account.retiring if each.sign_type == given), None)
    if former is not None:
        return advice.retired(given, former.until, holds=fit is not None and not fit.departures)
    if fit is None:
        otherwise = _advise_on_signer(sign, account, keys)
        return advice.sign_type(given, account.sign_type.value, holds=False, otherwise=otherwise)
    if Variant.UNLISTED_KEY in fit.departures and set(fit.departures) <= {Variant.OTHER_HASH, Variant.UNLISTED_KEY}:
        return advice.former_algorithm(given, account.sign_type.value, fit.label)
    otherwise = advice.departures(fit.departures, fit.label, fit.names)
    holds = set(fit.departures) <= {Variant.OTHER_HASH}
    return advice.sign_type(given, account.sign_type.value, holds=holds, otherwise=otherwise)


def _advise_on_signer(sign: bytes, account: Account, keys: list[_Candidate]) -> Advice:
    """Return the advice that the signature alone allows.

    Opened with a public key, an RSA signature shows whether that key made it, over whichever text. So "our key, but
    another text" differs from "not our key" even if no variant fits.
    """
    if sign.startswith(b"[Ljava.lang.String;"):
        return advice.JAVA_ARRAYS
    if account.sign_type is SignType.MD5:
        return advice.MD5_MISMATCH
    if _is_cut(sign, keys):
        return advice.CUT_SIGN
    if signature.decoded(sign) is None:
        return advice.MALFORMED_SIGN
    if account.sign_type is SignType.DSA:
        return advice.DSA_MISMATCH
    signer = next((each for each in keys if _made(each.key, sign)), None)
    if signer is None:
        return advice.OWN_KEY if _has_own_key(keys) else advice.UNKNOWN_SIGNER
    is_ours = signer.variant in (None, Variant.OTHER_KEY_OF_ACCOUNT)
    return advice.OTHER_TEXT if is_ours else advice.other_signer(signer.label)


def _is_cut(sign: bytes, keys: list[_Candidate]) -> bool:
    """Return whether the signature is the beginning of one: base64, but shorter than every key makes."""
    sizes = [each.key.material.key_size for each in keys if isinstance(each.key.material, rsa.RSAPublicKey)]
    return len(sizes) == len(keys) and _BASE64.fullmatch(sign) is not None and len(sign) * 6 < min(sizes, default=0)


def _has_own_key(keys: list[_Candidate]) -> bool:
    """Return whether the key given for comparison is one of the account's; it is then not Alipay's."""
    given = {key_files.fingerprint(each.key.material) for each in keys if each.variant is Variant.GIVEN_KEY}
    return any(key_files.fingerprint(each.key.material) in given for each in keys if each.variant is None)


def _made(key: Key, sign: bytes) -> bool:
    """Return whether this key made the signature, over any text: it then opens to a well-formed digest."""
    raw = signature.decoded(sign)
    if raw is None or not isinstance(key.material, rsa.RSAPublicKey):
        return False
    return any(_opens(key.material, raw, algorithm) for algorithm in (hashes.SHA1(), hashes.SHA256()))  # noqa: S303


def _opens(key: rsa.RSAPublicKey, raw: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        key.recover_data_from_signature(raw, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError):
        return False
    return True


def _shown(text: bytes, captured: Captured, account: Account) -> str:
    """Return the signed text for display: decoded by the charset that it names, with other bytes escaped."""
    charset = dict(variants.pairs_of(captured.body)).get(b"charset", b"").decode("ascii", "replace").lower()
    if account.family is Family.ANTOM:
        charset = "utf-8"
    return text.decode(charset if charset in CHARSETS else account.charset, "backslashreplace")
