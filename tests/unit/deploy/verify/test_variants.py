"""Texts and signatures to try: the canonical ones first, then one change at a time."""

import html
import json
from urllib.parse import quote

import pytest

from deploy.verify import variants
from deploy.verify.variants import Text, Variant

BODY = b"b=2&a=1%2B&sign=U0lHTg%3D%3D&sign_type=RSA2"
ANTOM = {"path": b"/n", "client_id": b"C", "request_time": b"T"}


def texts_of(body: bytes, query: bytes = b"") -> dict[Variant | None, bytes]:
    """The first text of each variant."""
    found: dict[Variant | None, bytes] = {}
    for each in variants.form_texts(body, query):
        found.setdefault(each.variant, each.text)
    return found


def test_canonical_text_of_a_form_comes_first() -> None:
    assert next(variants.form_texts(BODY)) == Text(None, b"a=1+&b=2")


def test_empty_values_give_a_second_canonical_text() -> None:
    canonical = [each.text for each in variants.form_texts(b"a=1&b=&sign=x") if each.variant is None]
    assert canonical == [b"a=1", b"a=1&b="]


@pytest.mark.parametrize(
    ("variant", "body", "text"),
    [
        (Variant.BODY_TRIMMED, b"a=1&b=2\r\n", b"a=1&b=2"),
        (Variant.BODY_UNESCAPED, html.escape("a=1&b=2").encode(), b"a=1&b=2"),
        (Variant.NOT_DECODED, b"a=%2B", b"a=%2B"),
        (Variant.DECODED_TWICE, b"a=%252B", b"a=+"),
        (Variant.VALUES_TRIMMED, b"a=+1+", b"a=1"),
        (Variant.VALUES_UNESCAPED, b"a=%26quot%3B", b'a="'),
        (Variant.PLUS_TO_BLANK, b"a=%2B", b"a= "),
        (Variant.UTF8_TO_GBK, quote("a=\u7968", safe="=").encode(), "a=\u7968".encode("gbk")),
        (Variant.GBK_TO_UTF8, quote("a=\u7968", safe="=", encoding="gbk").encode(), "a=\u7968".encode()),
        (Variant.LATIN1, quote("a=\u00e9", safe="=").encode(), "a=\u00e9".encode("latin-1")),
        (Variant.SIGN_TYPE_KEPT, b"a=1&sign=x&sign_type=RSA", b"a=1&sign_type=RSA"),
        (Variant.CERT_SN_DROPPED, b"a=1&alipay_cert_sn=x", b"a=1"),
        (Variant.ORIGINAL_ORDER, b"b=2&a=1", b"b=2&a=1"),
    ],
)
def test_each_variant_undoes_its_change(variant: Variant, body: bytes, text: bytes) -> None:
    assert texts_of(body)[variant] == text


def test_query_is_tried_only_if_there_is_one() -> None:
    assert texts_of(b"b=2", b"a=1")[Variant.QUERY_INCLUDED] == b"a=1&b=2"
    assert Variant.QUERY_INCLUDED not in texts_of(b"b=2")


def test_escaped_sign_is_found() -> None:
    assert variants.fields_with_sign(b"a=1&amp;sign=x")[b"sign"] == b"x"


def test_paths_of_antom_are_tried_with_query_and_slash() -> None:
    found = list(variants.antom_texts(b"{}", target=b"/pay?x=1", **ANTOM))
    assert found[0] == Text(None, b"POST /n\nC.T.{}")
    paths = {each.text.split(b"\n")[0]: each.variant for each in found}
    assert paths[b"POST /n/"] is Variant.TRAILING_SLASH
    assert paths[b"POST /pay"] is Variant.PATH_OF_REQUEST
    assert paths[b"POST /n?x=1"] is paths[b"POST /pay?x=1"] is Variant.PATH_WITH_QUERY


def test_json_body_is_tried_compact_and_spaced() -> None:
    message = {"a": "\u7968", "b": [1, 2]}
    body = json.dumps(message, indent=1).encode()
    bodies = {each.variant: each.text.partition(b"C.T.")[2] for each in variants.antom_texts(body, target=b"", **ANTOM)}
    assert bodies[Variant.BODY_COMPACTED] == json.dumps(message, separators=(",", ":")).encode()
    assert bodies[Variant.BODY_SPACED] == json.dumps(message).encode()


def test_body_that_is_no_json_has_no_json_variants() -> None:
    found = {each.variant for each in variants.antom_texts(b"[" * 5000, target=b"", **ANTOM)}
    assert not found & {Variant.BODY_COMPACTED, Variant.BODY_SPACED}


@pytest.mark.parametrize(
    ("sign", "variant", "restored"),
    [
        (b"a b=", Variant.SIGN_BLANK_TO_PLUS, b"a+b="),
        (b"a%2Bb%3D", Variant.SIGN_DECODED_AGAIN, b"a+b="),
        (b"ab\r\ncd", Variant.SIGN_WHITESPACE, b"abcd"),
        (b"a-b_", Variant.SIGN_URL_SAFE, b"a+b/"),
        (b"abcde", Variant.SIGN_UNPADDED, b"abcde==="),
        (b"ABCDEF", Variant.SIGN_UPPER_CASE, b"abcdef"),
    ],
)
def test_each_spelling_of_a_signature_is_restored(sign: bytes, variant: Variant, restored: bytes) -> None:
    found = {each.variant: each.sign for each in variants.signs(sign)}
    assert found[None] == sign
    assert found[variant] == restored
