"""Records are decoded as they were encoded; records that no receiver wrote are refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas import record_format
from schemas.record_format import BadRecord, Header, NewerRecord, Record, RecordContents

FORM = RecordContents(
    account="shop",
    family="mapi",
    received_at_ms=1_749_085_831_250,
    path=b"/notify/shop",
    content_type=b"application/x-www-form-urlencoded",
    key_id="keys/alipay.pem",
    confirmed=True,
    body=b"a=%ff&b=1",
)
MESSAGE = structs.replace(
    FORM, family="antom", confirmed=False, client_id=b"C", request_time=b"2025-06-05T01:10:31Z", signature=b"s=\xff"
)


@pytest.mark.parametrize("contents", [FORM, MESSAGE])
def test_encoded_contents_are_decoded_unchanged(contents: RecordContents) -> None:
    digested = structs.replace(contents, key_digest=b"01234567")
    for each in (contents, digested):
        assert record_format.decode(record_format.encode(each, "A-1")) == each


@given(st.binary(max_size=200), st.text(max_size=20), st.integers(0, record_format.EPOCH_MS_MAX), st.booleans())
def test_any_contents_are_decoded_unchanged(body: bytes, number: str, received_at_ms: int, confirmed: bool) -> None:
    contents = structs.replace(MESSAGE, body=body, received_at_ms=received_at_ms, confirmed=confirmed)
    assert record_format.decode(record_format.encode(contents, number)) == contents


def test_records_of_one_order_have_the_same_key() -> None:
    assert record_format.encode(FORM, "订单-1").key == "shop:订单-1".encode()
    assert record_format.encode(FORM, b"\xff\x00").key == b"shop:\xff\x00"
    assert record_format.key_of("shop", "\ud800") == b"shop:?"


def test_record_of_a_form_has_no_antom_headers() -> None:
    names = {name for name, _ in record_format.encode(FORM, "A").headers}
    assert names.isdisjoint({Header.SIGNATURE, Header.CLIENT_ID, Header.REQUEST_TIME})


def test_unknown_headers_are_ignored() -> None:
    record = record_format.encode(FORM, "A")
    traced = structs.replace(record, headers=(*record.headers, ("traceparent", b"00-1"), ("new", b"\xff")))
    assert record_format.decode(traced) == FORM


REQUIRED = [Header.VERSION, Header.ACCOUNT, Header.FAMILY, Header.CLIENT_ID, Header.REQUEST_TIME, Header.SIGNATURE]
DEFAULTS: dict[Header, dict[str, object]] = {
    Header.RECEIVED_AT: {"received_at_ms": FORM.received_at_ms + 1},
    Header.PATH: {"path": b""},
    Header.CONTENT_TYPE: {"content_type": b""},
    Header.KEY_ID: {"key_id": ""},
    Header.CONFIRMED: {"confirmed": False},
}


def changed(name: str, value: bytes | None, contents: RecordContents = FORM) -> Record:
    record = record_format.encode(contents, "A")
    pairs = ((known, value if known == name else old) for known, old in record.headers)
    return structs.replace(record, headers=tuple((known, new) for known, new in pairs if new is not None))


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_required_header_is_refused_and_named(name: str) -> None:
    with pytest.raises(BadRecord, match=name):
        record_format.decode(changed(name, None, MESSAGE))


@pytest.mark.parametrize("name", REQUIRED)
def test_repeated_required_header_is_refused(name: str) -> None:
    record = record_format.encode(MESSAGE, "A")
    with pytest.raises(BadRecord):
        record_format.decode(structs.replace(record, headers=(*record.headers, (name, b"1"))))


@pytest.mark.parametrize("name", DEFAULTS)
def test_missing_or_repeated_advice_becomes_its_default(name: Header) -> None:
    expected = structs.replace(FORM, **DEFAULTS[name])
    now_ms = FORM.received_at_ms + 1
    assert record_format.decode(changed(name, None), now_ms=now_ms) == expected
    record = record_format.encode(FORM, "A")
    for value in (dict(record.headers)[name], b"1"):
        twice = structs.replace(record, headers=(*record.headers, (name, value)))
        assert record_format.decode(twice, now_ms=now_ms) == expected


def test_unreadable_advice_becomes_its_default() -> None:
    assert record_format.decode(changed(Header.KEY_ID, b"\xff")).key_id == ""
    assert not record_format.decode(changed(Header.CONFIRMED, b"yes")).confirmed


def test_repeated_unknown_header_is_ignored() -> None:
    record = record_format.encode(FORM, "A")
    traced = (("traceparent", b"00-1"), ("traceparent", b"00-2"))
    assert record_format.decode(structs.replace(record, headers=record.headers + traced)) == FORM


@pytest.mark.parametrize(
    ("name", "value"),
    [(Header.VERSION, b""), (Header.VERSION, b"-1"), (Header.VERSION, b"0"), (Header.VERSION, b"v1"),
     (Header.VERSION, b"+1"), (Header.VERSION, b"0_1"), (Header.VERSION, b"9" * 5000), (Header.ACCOUNT, b"\xff"),
     (Header.FAMILY, b"\xff")],
)  # fmt: skip
def test_invalid_header_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(BadRecord):
        record_format.decode(changed(name, value))


def test_newer_record_version_is_refused() -> None:
    with pytest.raises(NewerRecord):
        record_format.decode(changed(Header.VERSION, b"%d" % (record_format.VERSION + 1)))


@pytest.mark.parametrize("value", [b"9" * 15, b"9" * 5000, b"-5", b"1.5", b"1_0", b" 1", b"", b"yesterday", b"\xb2"])
def test_invalid_receive_time_is_replaced(value: bytes) -> None:
    record, now_ms = changed(Header.RECEIVED_AT, value), FORM.received_at_ms
    assert record_format.decode(record, now_ms=now_ms).received_at_ms == now_ms
    assert record_format.decode(record).received_at_ms == 0


@pytest.mark.parametrize(
    ("ms", "is_believed"),
    [(0, False), (1_577_836_799_999, False), (1_577_836_800_000, True), (FORM.received_at_ms + 86_400_000, True),
     (FORM.received_at_ms + 86_400_001, False), (4_102_444_800_000, False)],
)  # fmt: skip
def test_receive_time_before_2020_or_a_day_ahead_counts_as_now(ms: int, is_believed: bool) -> None:
    record, now_ms = changed(Header.RECEIVED_AT, b"%d" % ms), FORM.received_at_ms
    assert record_format.decode(record, now_ms=now_ms).received_at_ms == (ms if is_believed else now_ms)


def test_receipt_covers_all_contents_and_needs_the_secret() -> None:
    contents = record_format.RecordContents(
        account="shop", family="openapi", received_at_ms=1, path=b"/notify/shop", content_type=b"x", key_id="k",
        confirmed=False, body=b"a=b",
    )  # fmt: skip
    receipt = record_format.receipt(contents, b"s" * 32)
    decoded = record_format.decode(record_format.encode(contents, "1", receipt))

    assert receipt.hex() == "4a1ab574624cb51c620d0e37383cd405", "records of earlier releases keep their MAC"
    assert decoded.receipt == receipt
    assert record_format.receipt(decoded, b"s" * 32) == receipt
    assert record_format.receipt(decoded, b"t" * 32) != receipt
    digested = msgspec.structs.replace(decoded, key_digest=b"other")
    assert record_format.receipt(digested, b"s" * 32) == receipt, "workers of earlier releases know no key digest"
    for field, other in (("body", b"a=c"), ("account", "shop2"), ("confirmed", True), ("path", b"/"), ("key_id", "l")):
        assert record_format.receipt(msgspec.structs.replace(decoded, **{field: other}), b"s" * 32) != receipt


def test_answer_is_a_record_of_its_own_kind() -> None:
    """A release that knows notifications only leaves it for the upgrade."""
    answer = structs.replace(MESSAGE, is_answer=True, confirmed=True)
    record = record_format.encode(answer, "A-1")
    assert dict(record.headers)[Header.VERSION] == b"2"
    assert record_format.decode(record) == answer
    assert dict(record_format.encode(MESSAGE, "A-1").headers)[Header.VERSION] == b"1"
    notification = structs.replace(answer, is_answer=False)
    assert record_format.receipt(answer, b"k" * 32) != record_format.receipt(notification, b"k" * 32)
