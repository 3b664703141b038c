"""Antom's signature header and its JSON, read strictly."""

import json

import pytest

from schemas import antom
from schemas.antom import SignatureHeader


def test_signature_header_may_have_any_order_blanks_and_unknown_parts() -> None:
    header = antom.read_signature_header("signature=a%2Bb%3D, new=1,  algorithm=RSA256 ,keyVersion=2, new=2")
    assert header == SignatureHeader("RSA256", "2", b"a+b=")


def test_absent_key_version_is_one() -> None:
    assert antom.read_signature_header("algorithm=RSA256,signature=YQ==").key_version == "1"


def test_signature_is_percent_decoded_once_and_keeps_its_plus_signs() -> None:
    assert antom.read_signature_header("signature=a+b/c=").signature == b"a+b/c="
    assert antom.read_signature_header("signature=a%252B").signature == b"a%2B"


@pytest.mark.parametrize("text", ["algorithm=RSA256", "signature=", "algorithm=RSA256,signature= "])
def test_absent_or_empty_signature_is_none(text: str) -> None:
    assert antom.read_signature_header(text).signature is None


@pytest.mark.parametrize("text", ["signature=%zz", "signature=a b", "signature=签", "signature=a-b_"])
def test_invalid_base64_becomes_a_signature_that_never_verifies(text: str) -> None:
    assert antom.read_signature_header(text).signature == b""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RSA256",
        "algorithm=RSA256,,signature=a",
        "algorithm=RSA256,algorithm=RSA256,signature=a",
        "signature=a,signature=a",
        "keyVersion=1,keyVersion=2,signature=a",
        "=x,signature=a",
        "алгоритм=RSA256",
    ],
)
def test_malformed_header_or_repeated_known_part_is_refused(text: str) -> None:
    with pytest.raises(antom.BadHeader):
        antom.read_signature_header(text)


@pytest.mark.parametrize(("text", "could_be"), [("0", True), ("1", True), ("12", True), ("999999999", True)])
def test_key_versions_are_plain_numbers(text: str, could_be: bool) -> None:
    assert antom.is_key_version(text) is could_be


@pytest.mark.parametrize("text", ["", "01", "-1", "+1", "1.0", "1000000000", "٣", " 1", "1 ", "1\n"])
def test_other_spellings_of_numbers_are_no_key_versions(text: str) -> None:
    assert not antom.is_key_version(text)


def test_signed_text_joins_its_four_parts_unchanged() -> None:
    assert antom.signed_text(b"/n/x", b"C", b"T", b'{"a":1}') == b'POST /n/x\nC.T.{"a":1}'


@pytest.mark.parametrize(
    "name",
    [
        "paymentRequestId",
        "captureRequestId",
        "refundRequestId",
        "disputeId",
        "subscriptionRequestId",
        "vaultingRequestId",
        "paymentId",
    ],
)
def test_route_returns_the_number_of_the_message_s_subject(name: str) -> None:
    assert antom.route(json.dumps({"x": [1], name: "N-1"}).encode()) == "N-1"


def test_payment_of_a_subscription_is_routed_by_its_own_number() -> None:
    assert antom.route(b'{"subscriptionRequestId":"S","paymentId":"P"}') == "P"


def test_payment_number_takes_precedence_in_the_route() -> None:
    assert antom.route(b'{"refundRequestId":"R","paymentRequestId":"P","disputeId":"D"}') == "P"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nonsense", b'{"paymentRequestId":1}', b"\xff\xfe", b'{"paymentRequestId":"a"} x', b"[" * 100_000],
)
def test_route_of_an_unreadable_message_is_empty(body: bytes) -> None:
    assert antom.route(body) == ""


def test_message_is_parsed_completely() -> None:
    body = '{"a":{"b":["ü",1,null,true,"1.5"]},"c":1.5}'.encode()
    assert antom.read(body) == {"a": {"b": ["ü", 1, None, True, "1.5"]}, "c": "1.5"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":123456789012345678901}',
        b'{"a":0.12345678901234567890}',
        b'{"a":-1.23456789012345678901e5}',
        '\ufeff{"a":1}'.encode(),
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":1} {"b":2}',
        b'{"a":1} trailing',
        b'{"a":1 /* no */}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":"line\nend"}',
        b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
        b"[" * 100_000,
    ],
)
def test_json_that_parsers_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(antom.BadMessage):
        antom.read(body)


def test_limits_of_depth_and_digits_are_exact() -> None:
    assert antom.read(b'{"a":' + b"[" * 30 + b"1" + b"]" * 30 + b"}")
    assert antom.read(b'{"a":12345678901234567890}') == {"a": 12345678901234567890}
    assert antom.read(b'{"a":-12345678901234567890}') == {"a": -12345678901234567890}
    assert antom.read(b'{"a":-0.1234567890123456789E-999}') == {"a": "-0.1234567890123456789E-999"}


def test_exponents_nul_and_lone_surrogates_are_read() -> None:
    body = b'{"a":6.0E-5,"b":1e999,"\\udfff":"\\ud800","\\u0000":"\\u0000"}'
    assert antom.read(body) == {"a": "6.0E-5", "b": "1e999", "\udfff": "\ud800", "\x00": "\x00"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"paymentId":"T1","x":NaN}', {"paymentId": "T1"}),
        (b'{"paymentId":"T0","paymentId":"T1"}', {"paymentId": "T1"}),
        (b'\xef\xbb\xbf{"paymentId":"T1"}', {"paymentId": "T1"}),
        (b'{"paymentId":"T1"', {}),
        (b'["T1"]', {}),
        (b"\xff", {}),
        (b"[" * 100_000, {}),
        (b'{"x":' + b"9" * 10_000 + b"}", {}),
    ],
)
def test_refused_message_is_read_loosely_to_find_it_by(body: bytes, message: dict[str, str]) -> None:
    read = antom.read_loosely(body)
    assert {name: value for name, value in read.items() if name != "x"} == message
