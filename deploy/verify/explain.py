"""Explain why a message is refused (验签失败): its cause in one sentence, and the remedy.

The verdict is the receiver's own (`ingest.authenticate`). The diagnosis then undoes changes that happen to messages on
the way (`deploy.verify.variants`), one at a time and two together, with every key at hand. A change under which the
signature is valid names the cause; it never makes the message accepted.

Returns, which come back with the buyer, are explained by the same code.
"""

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
from ingest.checkout import returns
from ingest.checkout.returns import Return, ReturnVerdict
from ingest.errors import Malformed, Refused, Unauthentic
from ingest.keys import Key, KeyRing
from schemas import antom
from schemas.accounts import CHARSETS, Account, Family, SignType
from schemas.dispositions import Refusal

DEPARTURES_MAX = 2  # three changes together do not occur in practice, and would fit by chance


class Tried(Struct, frozen=True, kw_only=True):
    """One variant, and whether the signature is valid under it alone."""

    variant: Variant
    holds: bool


class Explanation(Struct, frozen=True, kw_only=True):
    """The verdict on one captured message, with its cause and remedy.

    `signed_text` is the canonical text that was accepted or tried, for display. `departures` are the changes that have
    to be undone to make the signature valid, empty if no known change explains it. `key` names the key that verifies.
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


class _Candidate(Struct, frozen=True):
    """One key to try, with its name; `variant` is `None` for the key that should verify."""

    variant: Variant | None
    label: str
    key: Key


class _Fit(Struct, frozen=True):
    """Changes that, undone together, make the signature valid under the key of this name."""

    departures: tuple[Variant, ...]
    label: str


def explain(
    captured: Captured,
    account: Account,
    ring: KeyRing,
    *,
    others: Mapping[str, KeyRing] | None = None,
    given: Key | None = None,
) -> Explanation:
    """Return the verdict on `captured` for this account, with the cause if it is refused.

    `others` are the key rings of the other accounts, `given` is another key that may have signed the message. Both are
    tried only to name the cause; no message is accepted by them.
    """
    try:
        headers = _signing_headers(captured) if account.family is Family.ANTOM else None
        authentic = authenticate.check(account, ring, captured.body, headers)
    except Refused as refused:
        keys = _keys(ring, others or {}, given, named=_key_version(captured, account))
        return _refused(refused, captured, account, ring, keys)
    cause, remedy = "The signature is valid, and the message is for this account (验签成功).", ""
    if authentic.is_ambiguous:
        cause, remedy = advice.AMBIGUOUS.cause, advice.AMBIGUOUS.remedy
    return Explanation(
        account=account.name,
        accepted=True,
        cause=cause,
        remedy=remedy,
        key=authentic.key_id,
        sign_type=account.sign_type.value,
        signed_text=_shown(_accepted_text(captured, account, ring), captured, account),
    )


def candidates(captured: Captured, accounts: Sequence[Account]) -> list[Account]:
    """Return the accounts that a message without an address may be for: those named in it, else its family's."""
    is_antom = captured.body.lstrip().startswith(b"{") and "signature" in captured.headers
    of_family = [each for each in accounts if (each.family is Family.ANTOM) == is_antom]
    if is_antom:
        named = [each for each in of_family if each.client_id == captured.headers.get("client-id")]
    else:
        fields = dict(variants.pairs_of(captured.body))
        named = [each for each in of_family if _is_named(fields, each)]
    return named or of_family


def _is_named(fields: Mapping[bytes, bytes], account: Account) -> bool:
    named = [
        fields[name] == configured.encode()
        for name, configured in ((b"app_id", account.app_id), (b"seller_id", account.seller_id))
        if configured and fields.get(name)
    ]
    return bool(named) and all(named)


def _signing_headers(captured: Captured) -> SigningHeaders:
    return authenticate.signing_headers(lambda name: [captured.headers[name]] if name in captured.headers else [])


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


def _texts(captured: Captured, account: Account) -> Iterator[Text]:
    target = captured.target.encode("utf-8", "replace")
    if account.family is not Family.ANTOM:
        return variants.form_texts(captured.body, target.partition(b"?")[2])
    return variants.antom_texts(
        captured.body,
        path=(account.public_path or "").encode(),
        target=target,
        client_id=captured.headers.get("client-id", "").encode("utf-8", "replace"),
        request_time=captured.headers.get("request-time", "").encode("utf-8", "replace"),
    )


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
    for text, sign, key, algorithm in product(texts, signs, keys, _algorithms(pinned)):
        other_hash = Variant.OTHER_HASH if algorithm is not pinned else None
        departures = tuple(each for each in (text.variant, sign.variant, key.variant, other_hash) if each is not None)
        if len(departures) > DEPARTURES_MAX:
            continue
        if signature.is_signed_by(key.key, text.text, sign.sign, algorithm):
            yield _Fit(departures, key.label)


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
    if refused.reason is Refusal.UNSUPPORTED_SIGN_TYPE:
        return _advise_on_sign_type(fit, sign, captured, account, keys)
    if fit is not None and fit.departures:
        return advice.departures(fit.departures, fit.label)
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
    if fit is None:
        otherwise = _advise_on_signer(sign, account, keys)
        return advice.sign_type(given, account.sign_type.value, holds=False, otherwise=otherwise)
    otherwise = advice.departures(fit.departures, fit.label)
    holds = set(fit.departures) <= {Variant.OTHER_HASH}
    return advice.sign_type(given, account.sign_type.value, holds=holds, otherwise=otherwise)


def _advise_on_signer(sign: bytes, account: Account, keys: list[_Candidate]) -> Advice:
    """Return the advice that the signature alone allows.

    Opened with a public key, an RSA signature shows whether that key made it, over whichever text. So "our key, but
    another text" differs from "not our key" even if no variant fits.
    """
    if account.sign_type is SignType.MD5:
        return advice.MD5_MISMATCH
    if signature.decoded(sign) is None:
        return advice.MALFORMED_SIGN
    if account.sign_type is SignType.DSA:
        return advice.DSA_MISMATCH
    signer = next((each for each in keys if _made(each.key, sign)), None)
    if signer is None:
        return advice.OWN_KEY if _has_own_key(keys) else advice.UNKNOWN_SIGNER
    is_ours = signer.variant in (None, Variant.OTHER_KEY_OF_ACCOUNT)
    return advice.OTHER_TEXT if is_ours else advice.other_signer(signer.label)


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


def looks_like_return(body: bytes, account: Account) -> bool:
    """Return whether a body can only be an app's Return: a result string, or JSON for an account that sends forms."""
    if account.family is Family.ANTOM:
        return False
    start = body.lstrip()
    return start.startswith((b"resultStatus=", b"{")) or b'="' in start.partition(b"&")[0]


def explain_return(body: bytes, account: Account, ring: KeyRing) -> Explanation:
    """Return the verdict on a Return, with its cause; a line end after it is ignored."""
    found = returns.check(body.decode("utf-8", "replace").rstrip("\r\n"), account, ring)
    cause, remedy = _advise_on_return(found)
    return Explanation(
        account=account.name,
        accepted=found.verdict is ReturnVerdict.AUTHENTIC,
        reason=found.reason,
        cause=cause,
        remedy=remedy,
        key=found.key_id,
        sign_type=account.sign_type.value,
    )


def _advise_on_return(found: Return) -> tuple[str, str]:
    if found.verdict is ReturnVerdict.AUTHENTIC:
        return "This Return is authentic (验签成功). It decides nothing; wait for the notification.", ""
    if found.verdict is ReturnVerdict.UNSIGNED:
        return f"This Return carries nothing signed: {found.result_meaning}.", "Query the order's state instead."
    if found.reason is None:
        return f"{advice.FAILED}: this Return cannot be read ({found.detail}).", ""
    if found.reason is Refusal.BAD_SIGNATURE:
        return (
            f"{advice.FAILED}: {found.detail}: it was changed on the way, or another key signed it.",
            "Pass the SDK's result on unchanged: the signature covers its text, in its order and with the quotes. The "
            "old gateway signs Returns with RSA (SHA-1) only.",
        )
    advised = advice.refusal(found.reason, found.detail)
    return advised.cause, advised.remedy
