"""One record in readable form: its fields as text, its headers, and whether its signature is valid now.

Something may be wrong with it, so it never raises for a record's content. Personal data is hidden
unless it is asked for.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from schemas import answers, antom, form, interpret_form, personal, record_format, times
from schemas.accounts import Account, Family
from schemas.interpret_form import mask
from schemas.record_format import Header, Record, RecordContents

# The fields by which a person decides, in this order: the payment, its outcome, its amounts, and its merchant.
DECIDING = (
    "notify_type", "notifyType", "trade_status", "paymentStatus", "result.resultStatus", "result.resultCode",
    "out_trade_no", "paymentRequestId", "trade_no", "paymentId", "total_amount", "total_fee", "paymentAmount.value",
    "paymentAmount.currency", "currency", "trans_currency", "trans_amount", "rmb_fee", "price", "refund_fee",
    "refund_status", "out_biz_no", "refundRequestId", "refundAmount.value", "refundAmount.currency", "gmt_payment",
    "send_pay_date", "paymentTime", "gmt_refund", "gmt_close", "seller_id", "app_id", "auth_app_id", "subject",
    "notify_id", "notify_time",
)  # fmt: skip
ERASED = "personal data was erased from its bytes on"
VALUE_CHARACTERS_MAX = 2000
FIELDS_MAX = 400


class Signature(Struct, frozen=True, kw_only=True):
    """The signature check with the present keys; `detail` is empty if it is valid, and `key_id` is the key then."""

    authentic: bool
    detail: str
    key_id: str


class Verify(Protocol):
    """Verifies records by the keys of now."""

    def __call__(self, contents: RecordContents, account: Account, /) -> str:
        """Return the id of the key that verifies the record; raise any exception if none does."""


def fields(record: Record, accounts: Mapping[str, Account], *, is_revealed: bool = False) -> dict[str, str]:
    """Return names and values as text, empty if they cannot be parsed; inner names are joined by dots."""
    contents = _decode(record)
    account = None if contents is None else accounts.get(contents.account)
    if contents is not None and contents.is_answer and account is not None:
        pairs = _answer_pairs(record.value, account)
        return _of(pairs, is_revealed=is_revealed)
    is_antom = (account is not None and account.family is Family.ANTOM) or record.value[:1] == b"{"
    pairs = _message_pairs(record.value) if is_antom else _form_pairs(record.value, account)
    return _of(pairs, is_revealed=is_revealed)


def _of(pairs: list[tuple[str, str]], *, is_revealed: bool) -> dict[str, str]:
    return {_shown(name): _shown(value) if is_revealed else _masked(name, value) for name, value in pairs[:FIELDS_MAX]}


def parted(shown: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields by which a person decides, in their order, and the others."""
    deciding = {name: shown[name] for name in DECIDING if name in shown}
    return deciding, {name: value for name, value in shown.items() if name not in deciding}


def headers(record: Record) -> dict[str, str]:
    """Return the record's headers as text; the receipt, which is bytes, as hexadecimal digits."""
    return {
        name: value.hex() if name == Header.RECEIPT else _shown(value.decode("utf-8", "backslashreplace"))
        for name, value in record.headers
    }


def signature(
    record: Record, accounts: Mapping[str, Account], verify: Verify, erased_at_ms: int | None = None
) -> Signature:
    """Return whether a present key of its account verifies the record."""
    if erased_at_ms is not None:
        detail = f"{ERASED} {times.from_epoch_ms(erased_at_ms):%Y-%m-%d}, so it cannot be verified any more"
        return Signature(authentic=False, detail=detail, key_id="")
    contents = _decode(record)
    if contents is None:
        return Signature(authentic=False, detail="the record's headers cannot be read", key_id="")
    account = accounts.get(contents.account)
    if account is None or account.family.value != contents.family:
        return Signature(authentic=False, detail="its account is not configured, or has another family", key_id="")
    try:
        key_id = verify(contents, account)
    except Exception as error:
        detail = f"验签失败: no key of this account verifies it: {type(error).__name__}: {error}"
        return Signature(authentic=False, detail=detail[:300], key_id="")
    return Signature(authentic=True, detail="", key_id=key_id)


def _decode(record: Record) -> RecordContents | None:
    try:
        return record_format.decode(record)
    except (record_format.BadRecord, record_format.NewerRecord):
        return None


def _form_pairs(body: bytes, account: Account | None) -> list[tuple[str, str]]:
    try:
        read = form.read(body)
    except form.BadForm:
        return []
    return list(interpret_form.for_display(read, account.charset if account else "utf-8").items())


def _answer_pairs(body: bytes, account: Account) -> list[tuple[str, str]]:
    try:
        return _flat("", dict(answers.fields(body, account.family)))
    except answers.BadAnswer:
        return []


def _message_pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        message = antom.read(body)
    except antom.BadMessage:
        return []
    return list(_flat("", message))


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = {str(index): member for index, member in enumerate(value)}.items()
    else:
        return [(prefix, str(value))]
    return [pair for name, member in members for pair in _flat(f"{prefix}.{name}" if prefix else name, member)]


def _masked(name: str, value: str) -> str:
    if any(map(personal.is_personal, name.split("."))):
        return mask(value)
    return _shown(personal.hidden_text(name, value))


def _shown(text: str) -> str:
    """Return the text, cut to its maximum, with control characters escaped."""
    cut = text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}…"
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in cut)
