"""One record in readable form: any content can be shown, and its signature is checked with the present keys."""

from urllib.parse import urlencode

import pytest

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
    asked: list[bool] = []

    def authenticate(sealed: RecordContents, account: Account, *, anew: bool = False) -> bool:
        asked.append(anew)
        return False

    assert inspection.signature(received, {SHOP.name: SHOP}, authenticate).authentic
    assert asked == [True]


def test_lone_surrogates_and_nul_of_a_message_are_shown_escaped() -> None:
    body = (
        b'{"note\\udfff":"a\\ud83d","x":6.0E-5,"y":"\\u0000","pspCustomerInfo":{"displayCustomerId":"a\\ud83dcdefgh"}}'
    )
    shown = inspection.fields(log_records.sealed(body, "N1"), ACCOUNTS)
    assert {"note\\udfff": "a\\ud83d", "x": "6.0E-5", "y": "\\u0000"}.items() <= shown.items()
    assert "".join(shown.values()).isprintable()
