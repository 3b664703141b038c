"""Check a Return: the text that the buyer's app or browser brings back from Alipay.

A Return must not decide anything, because the buyer can withhold or repeat it, and its `resultStatus` is unsigned. It
only lets a page show a likely result until the notification arrives. So nothing here raises: the verdict describes any
text.

Three formats are read, bare or wrapped as by the app's SDK:

    partner="2088..."&...&success="true"&sign_type="RSA"&sign="..."       old gateway, app: signed as it stands
    {"alipay_trade_app_pay_response":{...},"sign":"...","sign_type":...}  Open Platform, app: the object's raw text
    out_trade_no=...&trade_no=...&sign=...&sign_type=...                  a redirect's query or URL: signed as a form
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct

from ingest import admission, signature
from ingest.errors import Refused, Unauthentic
from ingest.keys import KeyRing
from schemas import antom
from schemas import form as forms
from schemas.accounts import CHARSETS, Account, Family
from schemas.dispositions import Refusal

TEXT_CHARACTERS_MAX = 64 * 1024
_ADDED_MAX = 16  # names that are none of Alipay's, up to which they are also left out one at a time

# The result codes of Alipay's app SDK. They are unsigned, and displayed as unsigned.
RESULT_STATUSES = {
    "9000": "paid",
    "8000": "in progress: wait for the notification",
    "4000": "failed",
    "5000": "repeated request",
    "6001": "cancelled by the buyer",
    "6002": "network error",
    "6004": "unknown, may be paid: wait for the notification",
    "99": "the buyer left to recover a password",
}
_UNKNOWN_STATUS = "not a documented status"

# The fields that are returned as claims. Data of the buyer is left out.
_CLAIMS = (
    "out_trade_no trade_no total_fee total_amount rmb_fee currency trade_status success is_success code sub_code "
    "seller_id partner app_id auth_app_id timestamp method notify_id"
).split()

_WRAPPED = re.compile(r"resultStatus=\{([^{}]*)\};\s*memo=\{(.*?)\};\s*result=\{(.*)\}", re.DOTALL)
_SIGNED_STRING = re.compile(r'(.*)&sign_type="([^"&]*)"&sign="([^"&]*)"', re.DOTALL)
_QUOTED_PAIR = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="([^"]*)"(?:&|\Z)')
_RESPONSE_SUFFIX = "_response"


class ReturnVerdict(StrEnum):
    """The result of checking a Return."""

    AUTHENTIC = "authentic"  # a key of the account signed these claims, and they are for this account
    UNSIGNED = "unsigned"  # it has a status but no result to sign: cancelled, or failed before the payment
    REFUSED = "refused"  # the signature or the addressee is wrong; see `reason`
    UNREADABLE = "unreadable"  # none of the formats above


class Return(Struct, frozen=True, kw_only=True):
    """A checked Return. `claims` are its fields. Trust them only if the verdict is `AUTHENTIC`; they decide nothing.

    `result_status` is the app SDK's code (empty if there is none) and `result_meaning` its meaning; both are unsigned.
    `reason` is set if the verdict is `REFUSED`. `detail` is an explanation for people. `ignored` names parameters of a
    redirect that are none of Alipay's and were not signed; the claims have none of them.
    """

    verdict: ReturnVerdict
    reason: Refusal | None = None
    detail: str = ""
    key_id: str = ""
    result_status: str = ""
    result_meaning: str = ""
    claims: dict[str, str] = {}
    ignored: tuple[str, ...] = ()

    @property
    def order(self) -> str:
        """The merchant's order number in the claims; empty if there is none."""
        return self.claims.get("out_trade_no", "")

    @property
    def amount(self) -> str:
        """The amount in the claims, as written; empty if there is none."""
        return self.claims.get("total_amount") or self.claims.get("total_fee") or self.claims.get("rmb_fee", "")


class _Wrapping(Struct, frozen=True):
    status: str | None
    result: str


class _Unreadable(ValueError):
    """The text has none of the formats above."""


def check(text: str, account: Account, ring: KeyRing, at_ms: int | None = None) -> Return:
    """Check a Return with the account's keys, and return its verdict and claims. Never raises.

    `at_ms` is the present time, by which retiring keys count; without it they verify nothing.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        return Return(verdict=ReturnVerdict.UNREADABLE, detail=f"longer than {TEXT_CHARACTERS_MAX} characters")
    if account.family is Family.ANTOM:
        return Return(
            verdict=ReturnVerdict.UNREADABLE, detail="Antom does not sign Returns: look up the order's state instead"
        )
    try:
        wrapping = _unwrap(text)
        found = _checked(wrapping.result, account, ring, at_ms)
    except _Unreadable as error:
        return Return(verdict=ReturnVerdict.UNREADABLE, detail=str(error))
    if wrapping.status is None:
        return found
    meaning = RESULT_STATUSES.get(wrapping.status, _UNKNOWN_STATUS)
    return msgspec.structs.replace(found, result_status=wrapping.status, result_meaning=meaning)


def _unwrap(text: str) -> _Wrapping:
    """Return the result, and the SDK's status if there is one: in Android's text format, or in a JSON map."""
    if text.startswith("resultStatus="):
        match = _WRAPPED.fullmatch(text)
        if match is None:
            raise _Unreadable("begins like an Android result, but is malformed")
        return _Wrapping(match[1], match[3])
    if text.startswith("{"):
        message = _json(text)
        if "resultStatus" in message:
            status, result = message["resultStatus"], message.get("result") or ""
            return _Wrapping(str(status), result if isinstance(result, str) else "")
    return _Wrapping(None, text)


def _checked(result: str, account: Account, ring: KeyRing, at_ms: int | None) -> Return:
    if not result:
        return Return(verdict=ReturnVerdict.UNSIGNED, detail="the status came without a result, so nothing is signed")
    if result.startswith("{"):
        return _response(result, account, ring, at_ms)
    if _QUOTED_PAIR.match(result):
        return _order_string(result, account, ring, at_ms)
    return _query(result, account, ring, at_ms)


def _order_string(result: str, account: Account, ring: KeyRing, at_ms: int | None) -> Return:
    """Check a Return of the old gateway's app. Everything before `&sign_type=` is signed as it stands, with quotes."""
    match = _SIGNED_STRING.fullmatch(result)
    if match is None:
        return Return(
            verdict=ReturnVerdict.REFUSED, reason=Refusal.MISSING_SIGN, detail="does not end with sign_type and sign"
        )
    signed, sign_type, sign = match.groups()
    pairs = _quoted_pairs(signed)
    names = [name for name, _ in pairs]
    claims = _claims(dict(pairs))
    if len(set(names)) != len(names):
        return _refused(Refusal.DUPLICATE_PARAM, "a parameter occurs twice", claims)
    try:
        ring = signature.ring_for(sign_type, ring, at_ms)
    except Unauthentic as unauthentic:
        return _refused(unauthentic.reason, str(unauthentic), claims)
    text = _encoded(signed, dict(pairs).get("_input_charset", account.charset))
    key = signature.signer(text, sign.encode("utf-8", "replace"), ring)
    if key is None:
        return _refused(Refusal.BAD_SIGNATURE, "no active key of the account signed this text", claims)
    if not _names_payee(dict(pairs), account):
        return _refused(Refusal.NOT_OURS, "partner and seller_id are not the account's", claims)
    return Return(verdict=ReturnVerdict.AUTHENTIC, key_id=key.id, claims=claims)


def _quoted_pairs(signed: str) -> list[tuple[str, str]]:
    """Parse `name="value"` pairs joined by `&`. A value with a quote is refused, because it has two readings."""
    pairs, position = [], 0
    while position < len(signed):
        match = _QUOTED_PAIR.match(signed, position)
        if match is None:
            raise _Unreadable('not name="value" pairs joined by &')
        pairs.append((match[1], match[2]))
        position = match.end()
    if signed.endswith("&"):
        raise _Unreadable('not name="value" pairs joined by &')
    return pairs


def _names_payee(claims: dict[str, str], account: Account) -> bool:
    """Whether the text names this account as payee, and no other. A mail address as `seller_id` is ignored."""
    named = False
    for name, configured in (("partner", account.partner), ("seller_id", account.seller_id)):
        given = claims.get(name, "")
        if configured is None or not given or "@" in given:
            continue
        if given != configured:
            return False
        named = True
    return named


def _response(result: str, account: Account, ring: KeyRing, at_ms: int | None) -> Return:
    """Check a Return of the Open Platform's app. The raw text of the inner object is signed, with its braces."""
    message = _json(result)
    names = [name for name in message if name.endswith(_RESPONSE_SUFFIX)]
    if len(names) != 1 or not isinstance(message[names[0]], dict):
        raise _Unreadable("JSON without exactly one ..._response object")
    inner = message[names[0]]
    claims = _claims(inner)
    sign, sign_type = message.get("sign"), message.get("sign_type")
    if not isinstance(sign, str) or not sign:
        return _refused(Refusal.MISSING_SIGN, "sign is missing beside the response", claims)
    try:
        ring = signature.ring_for(sign_type if isinstance(sign_type, str) else "", ring, at_ms)
    except Unauthentic as unauthentic:
        return _refused(unauthentic.reason, str(unauthentic), claims)
    raw = bytes(msgspec.json.decode(result, type=dict[str, msgspec.Raw])[names[0]]).decode()
    text = _encoded(raw, str(inner.get("charset") or account.charset))
    key = signature.signer(text, sign.encode("utf-8", "replace"), ring)
    if key is None:
        return _refused(Refusal.BAD_SIGNATURE, "no active key of the account signed this text", claims)
    seller_is_other = account.seller_id and inner.get("seller_id") not in (None, "", account.seller_id)
    if inner.get("app_id") != account.app_id or seller_is_other:
        return _refused(Refusal.NOT_OURS, "app_id or seller_id is not the account's", claims)
    return Return(verdict=ReturnVerdict.AUTHENTIC, key_id=key.id, claims=claims)


def _query(result: str, account: Account, ring: KeyRing, at_ms: int | None) -> Return:
    """Check a redirect's query, by the rules of a notification's form.

    Frameworks and servers add parameters of their own (`s=`, `_url=`, `q=`), which Alipay did not sign. If the query
    does not verify, it is tried without names that are none of Alipay's. The claims are those of the signed rest.
    """
    query = result.removeprefix("?")
    if result.startswith(("http://", "https://")):
        query = result.partition("?")[2].partition("#")[0]
    found = _signed_query(query, account, ring, at_ms)
    if found.verdict is not ReturnVerdict.UNREADABLE and found.reason is not Refusal.BAD_SIGNATURE:
        return found
    for ignored, rest in _without_added(query):
        again = _signed_query(rest, account, ring, at_ms)
        if again.verdict is ReturnVerdict.AUTHENTIC or again.reason is Refusal.NOT_OURS:
            return msgspec.structs.replace(again, ignored=ignored)
    return found


def _without_added(query: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the query without all names that are none of Alipay's, then without one of them, and without all but one.

    The name of a piece without `=` (`?/pay/return&...`) is the whole piece.
    """
    pieces = query.split("&")
    names = [unquote_to_bytes(piece.partition("=")[0].encode("utf-8", "backslashreplace")) for piece in pieces]
    added = [position for position, name in enumerate(names) if name not in forms.KNOWN_NAMES]
    if not added or len(pieces) > forms.PARAMETERS_MAX:
        return
    choices = [added]
    if 1 < len(added) <= _ADDED_MAX:
        choices += [[each] for each in added]
        choices += [[other for other in added if other != each] for each in added if len(added) > 2]
    for left_out in choices:
        ignored = tuple(dict.fromkeys(_shown_name(names[position]) for position in left_out))
        yield ignored, "&".join(piece for position, piece in enumerate(pieces) if position not in left_out)


def _shown_name(name: bytes) -> str:
    return name[: forms.NAME_BYTES_MAX].decode("utf-8", "backslashreplace")


def _signed_query(query: str, account: Account, ring: KeyRing, at_ms: int | None) -> Return:
    try:
        form = forms.read(query.encode("utf-8"))
    except (forms.BadForm, UnicodeEncodeError) as bad:
        detail = f"neither a result string, nor JSON, nor a query: {bad}"
        return Return(verdict=ReturnVerdict.UNREADABLE, detail=detail)
    claims, remark = _form_claims(form, account)
    try:
        key_id, covers_sign_type = _query_signer(form, ring, at_ms)
        admission.admit_form(form, account)
    except Refused as refused:
        return _refused(refused.reason, str(refused), claims)
    if forms.is_ambiguous(form):
        claims = {}  # its values may be conjured
        remark = "its signature also fits other parameters, so it shows nothing: only the notification counts"
    if not remark and not any(form.fields.get(name) for name in (b"app_id", b"seller_id")):
        remark = "names no payee: Alipay signed it, but only the notification shows for which merchant"
    if not remark and covers_sign_type:
        remark = "sign_type was signed too, as in the sandbox"
    return Return(verdict=ReturnVerdict.AUTHENTIC, key_id=key_id, claims=claims, detail=remark)


def _query_signer(form: forms.Form, ring: KeyRing, at_ms: int | None) -> tuple[str, bool]:
    """Return the key that signed the query, and whether `sign_type` was signed too, as in Returns of the sandbox.

    Raises:
        Unauthentic: no key of the account signed it.
    """
    try:
        return signature.verify_form(form, ring, at_ms), False
    except Unauthentic as unauthentic:
        if unauthentic.reason is not Refusal.BAD_SIGNATURE or form.sign is None or form.sign_type is None:
            raise
        ring = signature.ring_for(form.sign_type.decode("utf-8", "replace"), ring, at_ms)
        fields = {**form.fields, b"sign_type": form.sign_type}
        key = signature.signer(forms.signed_text(msgspec.structs.replace(form, fields=fields)), form.sign, ring)
        if key is None:
            raise
        return key.id, True


def _form_claims(form: forms.Form, account: Account) -> tuple[dict[str, str], str]:
    charset = (form.fields.get(b"charset") or form.fields.get(b"_input_charset") or account.charset.encode()).lower()
    try:
        name = charset.decode("ascii")
        if name not in CHARSETS:
            raise ValueError
        fields = {key.decode("ascii"): value.decode(name) for key, value in form.fields.items()}
    except ValueError:
        return {}, "its text cannot be decoded with its charset"
    return _claims(fields), ""


def _claims(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: fields[name] for name in _CLAIMS if isinstance(fields.get(name), str) and fields[name]}


def _refused(reason: Refusal, detail: str, claims: dict[str, str]) -> Return:
    return Return(verdict=ReturnVerdict.REFUSED, reason=reason, detail=detail, claims=claims)


def _encoded(text: str, charset: str) -> bytes:
    if charset.lower() not in CHARSETS:
        raise _Unreadable("its charset is not supported")
    try:
        return text.encode(charset.lower())
    except UnicodeEncodeError:
        raise _Unreadable("contains text that its charset cannot encode") from None


def _json(text: str) -> dict[str, Any]:
    try:
        message = antom.read(text.encode("utf-8"))
        msgspec.json.decode(text)  # refuses lone surrogates, which no answer can hold
        return message
    except (antom.BadMessage, msgspec.DecodeError, UnicodeEncodeError) as bad:
        raise _Unreadable(f"begins like JSON, but is not one unambiguous object: {bad}") from None
