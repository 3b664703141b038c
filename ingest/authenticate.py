"""Check that a message is authentic and meant for the account: on arrival, and again before it has an effect.

The receiver calls `check`. Workers and replays call `recheck` on the log record, so that an unsigned record has no
effect, regardless of how it got into the log.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from ingest import admission, answers, signature
from ingest.errors import Malformed, NotConfirmed, Unauthentic
from ingest.keys import KeyRing
from schemas import antom, scopes, times
from schemas import form as forms
from schemas.accounts import Account, Family
from schemas.dispositions import Refusal
from schemas.record_format import RecordContents

HEADER_BYTES_MAX = 4 * 1024

# The parameters that can name a form's subject, in this order: its order, or a batch, agreement, pre-authorisation or
# refund without an order number. All forms about one subject are in one partition, in the order of their receipt.
_NUMBERS = (b"out_trade_no", b"batch_no", b"agreement_no", b"auth_no", b"out_biz_no", b"out_request_no")


class SigningHeaders(Struct, frozen=True, gc=False):
    """Antom's three signing headers. Each was received exactly once and is not empty."""

    signature: bytes
    client_id: bytes
    request_time: bytes


class Authentic(Struct, frozen=True, gc=False):
    """An authentic message for this account. `key_id` is the key that signed it.

    `number` becomes part of the record's key; empty if the message has none. `notify_id` is empty for Antom. The
    number of an ambiguous form cannot be believed, so a digest of its signature takes its place: all spellings have it.
    `scope` is the merchant's at accounts of service providers (`schemas.scopes`); empty if it is the account.
    """

    key_id: str
    number: bytes
    notify_id: bytes
    is_ambiguous: bool = False
    scope: str = ""


def signing_headers(values_of: Callable[[bytes], Sequence[bytes]]) -> SigningHeaders:
    """Return the signing headers of a request. `values_of` returns all values of a header by its lower-case name.

    Raises:
        Unauthentic: a header is absent or empty.
        Malformed: a header occurs twice or is not ASCII, or `request-time` is not a time with a zone.
    """
    headers = SigningHeaders(
        _single(b"signature", values_of), _single(b"client-id", values_of), _single(b"request-time", values_of)
    )
    try:
        times.parse_request_time(headers.request_time.decode("ascii"))
    except times.BadTime as bad:
        raise Malformed(Refusal.MALFORMED, f"request-time: {bad}") from None
    return headers


def check(
    account: Account, ring: KeyRing, body: bytes, headers: SigningHeaders | None = None, at_ms: int | None = None
) -> Authentic:
    """Check the signature and the addressee of a message. `headers` are for Antom only.

    `at_ms` is the time of receipt, by which retiring keys count; without it they verify nothing.

    If the account uses notify_verify, the caller must also have the message confirmed before it accepts it.

    Raises:
        Malformed, Unauthentic, NotOurs: with the answer to give.
    """
    if account.family is Family.ANTOM:
        return _check_message(account, ring, body, headers)
    return _check_form(account, ring, body, at_ms, is_confirmed=account.notify_verify)


def recheck(contents: RecordContents, account: Account, ring: KeyRing) -> str:
    """Return the id of the key that verifies a record, if it is meant for the account, by the account and keys of now.

    A retiring key counts if the record was received before the key's end.

    Raises:
        Refused: as `check`; also `NotConfirmed` if nothing but notify_verify binds the record to the account, and the
            record is not marked as confirmed; an answer always has to be.
    """
    if contents.is_answer:
        return answers.check(contents, account, ring)
    if account.family is Family.ANTOM:
        headers = SigningHeaders(contents.signature, contents.client_id, contents.request_time)
        return _check_message(account, ring, contents.body, headers).key_id
    if account.family is Family.MAPI and account.seller_id is None and not contents.confirmed:
        raise NotConfirmed("the account has no seller_id, and Alipay has not confirmed the notification")
    at_ms, is_confirmed = contents.received_at_ms, contents.confirmed
    return _check_form(account, ring, contents.body, at_ms, is_confirmed=is_confirmed).key_id


def _check_form(account: Account, ring: KeyRing, body: bytes, at_ms: int | None, *, is_confirmed: bool) -> Authentic:
    try:
        form = forms.read(body)
    except forms.BadForm as bad:
        raise Malformed(bad.reason, str(bad)) from None
    key_id = signature.verify_form(form, ring, at_ms)
    if account.certificates:
        admission.admit_certificate(form, ring.certificate_numbers())
    admission.admit_form(form, account, is_confirmed=is_confirmed)
    fields = form.fields
    if forms.is_ambiguous(form):
        digest = b"sign-" + forms.signature_digest(form).hex().encode()
        return Authentic(key_id, digest, fields.get(b"notify_id", b""), is_ambiguous=True)
    number = fields.get(b"out_trade_no") or next((fields[name] for name in _NUMBERS if fields.get(name)), b"")
    if account.auth_app_ids:
        return Authentic(key_id, number, fields.get(b"notify_id", b""), scope=scopes.of_form(account, fields))
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


def _single(name: bytes, values_of: Callable[[bytes], Sequence[bytes]]) -> bytes:
    values = values_of(name)
    if len(values) > 1:
        raise Malformed(Refusal.MALFORMED, f"{name.decode()} occurs twice")
    value = values[0].strip(b" \t") if values else b""
    if not value:
        raise Unauthentic(Refusal.MISSING_SIGN, f"{name.decode()} is missing")
    if not value.isascii() or len(value) > HEADER_BYTES_MAX:
        raise Malformed(Refusal.MALFORMED, f"{name.decode()} is not ASCII, or longer than {HEADER_BYTES_MAX}")
    return value


def _ascii(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed(Refusal.MALFORMED, f"{name} is not ASCII") from None
