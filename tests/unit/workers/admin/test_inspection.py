"""One record in readable form: any content can be shown, and its signature is checked with the present keys."""

from urllib.parse import urlencode

import pytest
from msgspec import structs

from schemas import record_format
from schemas.accounts import Account
from schemas.record_format import Header, Record, RecordContents
from tests.support import log_records
from tests.support.log_records import ACCOUNTS, SHOP
from workers.admin import inspection


@pytest.mark.parametrize(
    "charset", ["undefined", "idna", "punycode", "zlib_codec", "unicode_escape", "utf-8\0", "\ud800", "no such", ""]
)
def test_unknown_charset_does_not_hide_the_record(charset: str) -> None:
    body = urlencode({"charset": charset, "subject": "Zwei Stühle", "trade_no": "T1"}, errors="replace").encode()
    shown = inspection.fields(log_records.sealed(body, "N1"), ACCOUNTS)
    assert (shown["trade_no"], shown["subject"]) == ("T1", "Zwei Stühle")


def test_text_is_shown_in_the_charset_that_was_signed() -> None:
    body = urlencode({"charset": "GBK", "subject": "两张船票"}, encoding="gbk").encode()
    assert inspection.fields(log_records.sealed(body, "N1"), ACCOUNTS)["subject"] == "两张船票"


def test_free_text_is_shown_in_the_charset_that_fits_though_none_was_signed() -> None:
    body = urlencode({"subject": "两张船票", "trade_no": "船"}, encoding="gbk").encode()
    shown = inspection.fields(log_records.sealed(body, "N1"), ACCOUNTS)
    assert (shown["subject"], shown["trade_no"]) == ("两张船票", "\\xb4\\xac")


def test_body_that_is_not_a_form_has_no_fields() -> None:
    assert inspection.fields(log_records.sealed(b"no form", "N1"), ACCOUNTS) == {}


def test_receipt_mac_does_not_make_a_signature_valid() -> None:
    record = log_records.record("N1")
    received = Record(record.key, record.value, (*record.headers, (Header.RECEIPT.value, b"ours")))
    assert record_format.decode(received).receipt == b"ours"

    def verify(contents: RecordContents, account: Account) -> str:
        return "key of now"

    shown = inspection.signature(received, {SHOP.name: SHOP}, verify)
    assert (shown.authentic, shown.key_id) == (True, "key of now")


def test_receipt_is_shown_as_digits_and_other_headers_as_text() -> None:
    record = log_records.record("N1")
    received = Record(
        record.key, record.value, (*record.headers, (Header.RECEIPT.value, b".6\x04\n\xb7a"), ("x", b"\xb7a"))
    )
    shown = inspection.headers(received)
    assert (shown["receipt"], shown["x"], shown["account"]) == ("2e36040ab761", "\\xb7a", SHOP.name)


def test_personal_data_is_hidden_also_within_json_and_details_unless_revealed() -> None:
    fields = {
        "buyer_logon_id": "159****5620",
        "biz_content": '{"buyer_user_id":"2088102","amount":"1.00"}',
        "success_details": "315006^xin@163.com^Xin^20.00^S^null^200810248427067^20090910145823|",
    }
    record = log_records.sealed(urlencode(fields).encode(), "N1")
    assert inspection.fields(record, ACCOUNTS) == {
        "buyer_logon_id": "159***",
        "biz_content": '{"buyer_user_id":"***","amount":"1.00"}',
        "success_details": "315006^***^***^20.00^S^null^200810248427067^20090910145823|",
    }
    assert inspection.fields(record, ACCOUNTS, is_revealed=True) == fields


def test_lone_surrogates_and_nul_of_a_message_are_shown_escaped() -> None:
    body = (
        b'{"note\\udfff":"a\\ud83d","x":6.0E-5,"y":"\\u0000","pspCustomerInfo":{"displayCustomerId":"a\\ud83dcdefgh"}}'
    )
    shown = inspection.fields(log_records.sealed(body, "N1"), ACCOUNTS)
    assert {"note\\udfff": "a\\ud83d", "x": "6.0E-5", "y": "\\u0000"}.items() <= shown.items()
    assert "".join(shown.values()).isprintable()


def test_fields_of_an_answer_are_those_of_its_trade() -> None:
    body = (
        b"<alipay><is_success>T</is_success><response><trade><trade_no>2026</trade_no>"
        b"<buyer_email>someone@example.com</buyer_email></trade></response></alipay>"
    )
    contents = RecordContents(
        account=SHOP.name, family="mapi", received_at_ms=1, path=b"", content_type=b"", key_id="", confirmed=True,
        body=body, is_answer=True,
    )  # fmt: skip
    record = record_format.encode(contents, "A-1")
    assert inspection.fields(record, ACCOUNTS) == {"trade_no": "2026", "buyer_email": "som***"}
    unreadable = record_format.encode(structs.replace(contents, body=b"<alipay>"), "A-1")
    assert inspection.fields(unreadable, ACCOUNTS) == {}
