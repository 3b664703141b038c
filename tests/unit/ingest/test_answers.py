"""An answer counts if a key of the account signed it, it is about our trade, and we asked for it."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec import structs

from ingest import answers, authenticate
from ingest.errors import Malformed, NotConfirmed, NotOurs, Unauthentic
from ingest.keys import Key, KeyRing
from schemas.accounts import Account, Family, SignType
from schemas.dispositions import Refusal
from schemas.record_format import RecordContents
from tests.support import alipay
from tests.support.paths import VECTORS

VECTOR = json.loads((VECTORS / "mapi_global_single_trade_query_rsa2_response.json").read_text())
OLD = Account(name="old", family=Family.MAPI, sign_type=SignType.RSA2, partner="2088621926786355")
OPEN = Account(name="cn", family=Family.OPENAPI, sign_type=SignType.RSA2, app_id="2021", seller_id="2088")
ANTOM = Account(name="hk", family=Family.ANTOM, sign_type=SignType.RSA256, client_id="C", public_path="/notify/hk")
PATH = b"/ams/api/v1/payments/inquiryPayment"


def genuine_ring() -> KeyRing:
    der = base64.b64decode(VECTOR["public_key"])
    return KeyRing("old", SignType.RSA2, (Key("alipay", serialization.load_der_public_key(der)),))  # type: ignore[arg-type]


def contents(account: Account, body: bytes, **more: bytes) -> RecordContents:
    return RecordContents(
        account=account.name, family=account.family.value, received_at_ms=1, path=PATH, content_type=b"", key_id="",
        confirmed=True, body=body, is_answer=True, client_id=more.get("client_id", b""),
        request_time=more.get("request_time", b""), signature=more.get("signature", b""),
    )  # fmt: skip


def open_body(inner: bytes, sign: str, more: str = "") -> bytes:
    return b'{"alipay_trade_query_response":%b,"sign":"%b"%b}' % (inner, sign.encode(), more.encode())


def antom_contents(body: bytes, *, path: str = PATH.decode(), client_id: str = "C") -> RecordContents:
    made = alipay.antom_headers(body, alipay.rsa_key(), path=path, client_id=client_id)
    named = {name.replace("-", "_"): value.encode() for name, value in made.items()}
    return contents(ANTOM, body, **named)


def test_genuine_answer_of_alipays_old_gateway_verifies() -> None:
    assert answers.check(contents(OLD, VECTOR["raw_body"].encode()), OLD, genuine_ring()) == "alipay"


def test_changed_value_of_a_genuine_answer_is_refused() -> None:
    body = VECTOR["raw_body"].replace("<total_fee>73.82<", "<total_fee>73.81<").encode()
    with pytest.raises(Unauthentic) as raised:
        answers.check(contents(OLD, body), OLD, genuine_ring())
    assert raised.value.reason is Refusal.BAD_SIGNATURE


def test_answer_about_the_trade_of_another_seller_is_not_ours() -> None:
    other = structs.replace(OLD, partner="2088000000000000")
    with pytest.raises(NotOurs):
        answers.check(contents(other, VECTOR["raw_body"].encode()), other, genuine_ring())


def test_answer_that_nobody_asked_for_is_refused() -> None:
    unasked = structs.replace(contents(OLD, VECTOR["raw_body"].encode()), confirmed=False)
    with pytest.raises(NotConfirmed):
        answers.check(unasked, OLD, genuine_ring())


def test_answer_is_rechecked_as_one_and_a_notification_is_none() -> None:
    whole = contents(OLD, VECTOR["raw_body"].encode())
    assert authenticate.recheck(whole, OLD, genuine_ring()) == "alipay"
    with pytest.raises(Malformed):
        authenticate.recheck(structs.replace(whole, is_answer=False), OLD, genuine_ring())


def test_signature_of_the_open_platform_covers_the_raw_object() -> None:
    inner = b'{"code":"10000", "out_trade_no":"A-1"}'
    ring = alipay.ring(SignType.RSA2, alipay.rsa_key())
    sign = alipay.signature(inner, alipay.rsa_key(), "RSA2")
    assert answers.check(contents(OPEN, open_body(inner, sign)), OPEN, ring) == "k0"
    for body in (
        open_body(inner.replace(b" ", b""), sign),
        open_body(inner, alipay.signature(inner, alipay.rsa_key("stranger"), "RSA2")),
        open_body(inner, ""),
        open_body(inner, sign, ',"alipay_cert_sn":"0"'),
    ):
        with pytest.raises(Unauthentic):
            answers.check(contents(OPEN, body), OPEN, ring)


def test_signature_of_antom_covers_path_client_and_time() -> None:
    ring = alipay.ring(SignType.RSA256, alipay.rsa_key(), ids=("1",))
    body = b'{"result":{"resultStatus":"S"},"paymentRequestId":"A-1"}'
    assert answers.check(antom_contents(body), ANTOM, ring) == "1"
    with pytest.raises(Unauthentic):
        answers.check(antom_contents(body, path="/notify/hk"), ANTOM, ring)
    with pytest.raises(Unauthentic):
        answers.check(structs.replace(antom_contents(body), request_time=b"2025-03-18T06:31:08Z"), ANTOM, ring)
    with pytest.raises(NotOurs):
        answers.check(antom_contents(body, client_id="D"), ANTOM, ring)


def test_error_of_the_old_gateway_proves_nothing() -> None:
    body = b"<alipay><is_success>F</is_success><error>TRADE_NOT_EXIST</error></alipay>"
    with pytest.raises(Unauthentic):
        answers.check(contents(OLD, body), OLD, genuine_ring())


def test_other_text_is_malformed() -> None:
    for account in (OLD, OPEN):
        with pytest.raises(Malformed):
            answers.check(contents(account, b"<html>"), account, genuine_ring())
