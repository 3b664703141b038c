"""Answers are read in one way or not at all, and their signed text is the one that Alipay signs."""

import json

import pytest

from schemas import answers
from schemas.accounts import Family
from schemas.answers import BadAnswer
from tests.support.paths import VECTORS

OLD = (
    "<alipay><is_success>T</is_success><response><trade>{}</trade></response>"
    "<sign>abc=</sign><sign_type>RSA</sign_type></alipay>"
)
TRADE = "<out_trade_no>A-1</out_trade_no><trade_status>TRADE_SUCCESS</trade_status><subject>a&amp;b</subject>"
INNER = '{"code":"10000","out_trade_no":"A-1","x": [1, "\\/"]}'


def test_signed_answer_of_the_old_gateway_is_read_like_its_published_text() -> None:
    vector = json.loads((VECTORS / "mapi_global_single_trade_query_rsa2_response.json").read_text())
    answer = answers.read_old(vector["raw_body"].encode())
    assert answer.fields == vector["params"]
    assert answer.trade is not None
    assert answer.trade.sign == vector["signature"].encode()
    assert answer.trade.sign_type == b"RSA2"


def test_text_of_the_old_gateway_is_decoded_once_and_in_its_encoding() -> None:
    document = "<?xml version='1.0' encoding='GBK'?>" + OLD.format(TRADE + "<body>茶</body>")
    answer = answers.read_old(document.encode("gbk"))
    assert answer.fields["subject"] == "a&b"
    assert answer.fields["body"] == "茶"
    assert answer.trade is not None
    assert answer.trade.fields[b"body"] == "茶".encode("gbk"), "these bytes are signed"


def test_error_of_the_old_gateway_has_no_trade() -> None:
    body = b"<alipay><is_success>F</is_success><error>TRADE_NOT_EXIST</error></alipay>"
    assert answers.read_old(body).error == "TRADE_NOT_EXIST"
    assert answers.fields(body, Family.MAPI) == {}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not XML",
        "<alipay>",
        "<alipay/>",
        "<html><is_success>T</is_success></html>",
        "<alipay><is_success>T</is_success></alipay>",
        "<alipay><is_success>T</is_success><is_success>F</is_success></alipay>",
        OLD.format(""),
        OLD.format(TRADE + "<trade_status>WAIT_BUYER_PAY</trade_status>"),
        OLD.format("<out_trade_no>A<b>1</b></out_trade_no>"),
        OLD.format("<out_trade_no a='1'>A</out_trade_no>"),
        '<!DOCTYPE alipay [<!ENTITY a "b">]>' + OLD.format("<out_trade_no>&a;</out_trade_no>"),
        "<?xml version='1.0' encoding='utf-7'?>" + OLD.format(TRADE),
        "<?xml version='1.0' encoding='utf-8'?>\udcff" + OLD.format(TRADE),
    ],
)
def test_other_texts_are_no_answer_of_the_old_gateway(body: str) -> None:
    with pytest.raises(BadAnswer):
        answers.read_old(body.encode("utf-8", "surrogateescape"))


def test_signed_text_of_the_open_platform_is_the_raw_inner_object() -> None:
    answer = answers.read_open(f'{{"alipay_trade_query_response":{INNER},"sign":"abc=","alipay_cert_sn":"7"}}'.encode())
    assert answer.signed_text == INNER.encode()
    assert (answer.signature, answer.certificate, answer.fields["out_trade_no"]) == (b"abc=", "7", "A-1")


def test_error_of_the_open_platform_has_its_code() -> None:
    answer = answers.read_open(b'{"error_response":{"code":"20000","sub_code":"isp.unknow-error"}}')
    assert (answer.fields["code"], answer.signature) == ("20000", b"")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b"{}",
        b'{"alipay_trade_query_response":"encrypted"}',
        b'{"alipay_trade_query_response":{},"alipay_trade_query_response":{},"sign":"a"}',
        b'{"alipay_trade_query_response":{"code":"10000","code":"4"},"sign":"a"}',
        b'{"alipay_trade_query_response":{},"sign":7}',
        b'{"alipay_trade_query_response":{"a":NaN},"sign":"a"}',
    ],
)
def test_other_texts_are_no_answer_of_the_open_platform(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        answers.read_open(body)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"result":"S"}', b'{"result":{},"result":{}}'])
def test_other_texts_are_no_answer_of_antom(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        answers.read_antom(body)
