"""Authentic and ours, or refused: the whole question, asked once on arrival and once more before anything has effect.

The receiver calls `check`; the worker, and every replay, calls `recheck` with the same account and keys on the record
that was logged, so that what is not provably signed has no effect from whatever side it came onto the log.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from ingest import admission, signature
from ingest.errors import Malformed, NotConfirmed, Unauthentic
from ingest.keys import KeyRing
from schemas import antom, times
from schemas import form as forms
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal
from schemas.record_format import RecordContents

HEADER_BYTES_MAX = 4 * 1024

# Which parameter says what a form is about: its order, or the batch or refund that has no order of its own.
_NUMBERS = (b"out_trade_no", b"batch_no", b"out_biz_no", b"out_request_no")


class SigningHeaders(Struct, frozen=True, gc=False):
    """The three headers that an Antom signature covers or is, each received once and not empty."""

    signature: bytes
    client_id: bytes
    request_time: bytes


class Authentic(Struct, frozen=True, gc=False):
    """A message that one of the account's keys signed and that is meant for the account.

    `number` is what its record is keyed by; empty where the message has none. `notify_id` is empty for antom.
    """

    key_id: str
    number: bytes
    notify_id: bytes


def signing_headers(values_of: Callable[[str], Sequence[str]]) -> SigningHeaders:
    """The signing headers of a request; `values_of` gives all values of a header by its lower-case name.

    Raises:
        Unauthentic: one is absent or empty.
        Malformed: one occurs twice, is not ASCII, or `request-time` is no time with a zone.
    """
    headers = SigningHeaders(
        _single("signature", values_of), _single("client-id", values_of), _single("request-time", values_of)
    )
    try:
        times.parse_request_time(headers.request_time.decode("ascii"))
    except times.BadTime as bad:
        raise Malformed(Refusal.MALFORMED, f"request-time: {bad}") from None
    return headers


def check(account: Account, ring: KeyRing, body: bytes, headers: SigningHeaders | None = None) -> Authentic:
    """What the receiver needs to know of a message that may be logged; `headers` for antom only.

    Where the account asks for notify_verify, the message still has to be confirmed before it is accepted.

    Raises:
        Malformed, Unauthentic, Ambiguous, NotOurs: with the answer that each earns.
    """
    if account.family is Family.ANTOM:
        return _check_message(account, ring, body, headers)
    return _check_form(account, ring, body, vouched=account.notify_verify)


def recheck(sealed: RecordContents, account: Account, ring: KeyRing) -> None:
    """Return where the record's bytes are authentic and ours, by the account and keys of today.

    Raises:
        Refused: as `check`; and `NotConfirmed` where only notify_verify could vouch and the record does not say so.
    """
    if account.family is Family.ANTOM:
        headers = SigningHeaders(sealed.signature, sealed.client_id, sealed.request_time)
        _check_message(account, ring, sealed.body, headers)
        return
    if account.family is Family.MAPI and account.seller_id is None and not sealed.confirmed:
        raise NotConfirmed("nobody is named in the message, and Alipay was not asked")
    _check_form(account, ring, sealed.body, vouched=sealed.confirmed)


def _check_form(account: Account, ring: KeyRing, body: bytes, *, vouched: bool) -> Authentic:
    try:
        form = forms.read(body)
    except forms.BadForm as bad:
        raise Malformed(bad.reason, str(bad)) from None
    key_id = signature.verify_form(form, ring)
    if account.certificates:
        admission.admit_certificate(form, ring.certificate_numbers())
    admission.admit_form(form, account, vouched=vouched)
    fields = form.fields
    number = fields.get(b"out_trade_no") or next((fields[name] for name in _NUMBERS if fields.get(name)), b"")
    return Authentic(key_id, number, fields.get(b"notify_id", b""))


def _check_message(account: Account, ring: KeyRing, body: bytes, headers: SigningHeaders | None) -> Authentic:
    if not body:
        raise Malformed(Refusal.MALFORMED, "the body is empty")
    if headers is None or not (headers.signature and headers.client_id and headers.request_time):
        raise Unauthentic(Refusal.MISSING_SIGN)
    key_id = signature.verify_message(
        body,
        signature_header=_ascii("signature", headers.signature),
        client_id=headers.client_id,
        request_time=headers.request_time,
        path=(account.public_path or "").encode(),
        ring=ring,
    )
    admission.admit_message(headers.client_id, account)
    return Authentic(key_id, antom.route(body).encode("utf-8", "replace"), b"")


def _single(name: str, values_of: Callable[[str], Sequence[str]]) -> bytes:
    values = values_of(name)
    if len(values) > 1:
        raise Malformed(Refusal.MALFORMED, f"{name} occurs twice")
    value = values[0].strip(" \t") if values else ""
    if not value:
        raise Unauthentic(Refusal.MISSING_SIGN, f"{name} is missing")
    if not value.isascii() or len(value) > HEADER_BYTES_MAX:
        raise Malformed(Refusal.MALFORMED, f"{name} is not ASCII, or too long")
    return value.encode("ascii")


def _ascii(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed(Refusal.MALFORMED, f"{name} is not ASCII") from None
