"""The numbers that a form with two readings may name: those of every reading, the same for every spelling."""

from urllib.parse import quote

import pytest
from msgspec import structs

from schemas import ambiguous
from schemas import form as forms
from schemas.accounts import Account
from schemas.form import Form
from schemas.notification import NumberKind
from tests.support import facts
from tests.support.log_records import PROVIDER

OPENAPI, MAPI = facts.account("openapi"), facts.account("mapi")


def form(**fields: str | bytes) -> Form:
    pairs = (f"{name}={quote(value, safe='')}" for name, value in fields.items())
    return forms.read("&".join(pairs).encode())


def numbers(read: Form, account: Account = OPENAPI) -> tuple[list[str], list[str]]:
    """The orders and the other numbers that the form may name."""
    found = ambiguous.numbers(read, account)
    return tuple(  # type: ignore[return-value]
        [named.number for named in found if named.kind is kind]
        for kind in (NumberKind.CLAIMED_ORDER, NumberKind.CLAIMED_NUMBER)
    )


def test_each_reading_of_an_order_number_is_a_claim() -> None:
    read = form(out_trade_no="A&total_amount=9", subject="S&out_trade_no=B&trade_no=T2", trade_no="T1")
    assert numbers(read) == (["A&total_amount=9", "A", "B"], ["T1", "T2"])


def test_spellings_of_one_signature_share_their_claims() -> None:
    spellings = [
        form(body="S&out_trade_no=B", out_trade_no="A", trade_no="T1"),
        form(body="S", out_trade_no="B&out_trade_no=A", trade_no="T1"),
        form(body="S", out_trade_no="B&out_trade_no=A&trade_no=T1"),
    ]
    assert len({forms.signed_text(each) for each in spellings}) == 1
    claims = [{*numbers(each)[0]} & {"A", "B"} for each in spellings]
    assert claims == [{"A", "B"}] * 3
    assert all(numbers(each)[1] == ["T1"] for each in spellings)


def test_value_ends_where_another_parameter_may_begin() -> None:
    assert numbers(form(out_trade_no="A&B", subject="&trade_no=T&U"))[0] == ["A&B"]
    assert numbers(form(subject="&trade_no=T&x=1"))[1] == ["T"]


def test_numbers_that_cannot_be_kept_exactly_are_left_out() -> None:
    read = form(subject="&out_trade_no=A%0A", trade_no="T 1", batch_no="x" * 257, out_trade_no="N\n1", notify_id="n1")
    assert numbers(read) == (["A%0A"], ["n1"])


def test_order_number_is_read_in_each_charset_that_the_form_may_have() -> None:
    read = form(charset="gbk", out_trade_no="订单".encode("gbk"), subject="&charset=utf-8")
    assert numbers(read)[0] == ["订单"]
    assert numbers(form(out_trade_no=b"\xff\xfe", subject="&charset=latin-1"))[0] == []


def test_trades_of_a_batch_are_claims() -> None:
    read = form(batch_no="B1", result_details="T1^1.00^SUCCESS#T2^1.00^SUCCESS&notify_id=n")
    assert numbers(read, MAPI) == ([], ["n", "B1", "T1", "T2"])


def test_readings_of_a_parameter_are_limited() -> None:
    read = form(subject="".join(f"&out_trade_no=A{number}" for number in range(300)))
    assert len(ambiguous.readings(read, b"out_trade_no")) == ambiguous.READINGS_MAX


def test_provider_s_form_may_be_about_each_merchant_that_a_reading_names() -> None:
    read = form(auth_app_id="2021000000000008", subject="&auth_app_id=2021000000000009&auth_app_id=x/y")
    assert ambiguous.scopes_of(read, PROVIDER) == ("isv/2021000000000008", "isv/2021000000000009", "isv")
    first = structs.replace(PROVIDER, first_auth_app_id="2021000000000008")
    assert ambiguous.scopes_of(read, first)[0] == "isv"
    assert ambiguous.scopes_of(read, OPENAPI) == (OPENAPI.name,)
    assert ambiguous.scopes_of(form(subject="S"), OPENAPI) == ()


@pytest.mark.parametrize("found", [[""], ["a\x00"], ["\ud800"], ["a" * 257]])
def test_text_that_cannot_be_filed_is_no_claim(found: list[str]) -> None:
    assert ambiguous.claimed_orders(found) == ()
