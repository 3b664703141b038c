"""Authenticity and addressee, checked on arrival and again on the record."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import pytest

from ingest import authenticate
from ingest.authenticate import Authentic, SigningHeaders
from ingest.errors import Malformed, NotConfirmed, NotOurs, Refused, Unauthentic
from ingest.keys import Key, KeyRing
from schemas.accounts import Account, SignType
from schemas.dispositions import Refusal
from schemas.record_format import RecordContents
from tests.support import alipay

RING = alipay.ring(SignType.RSA2, alipay.rsa_key())
ANTOM = alipay.ring(SignType.RSA256, alipay.rsa_key(), ids=("1",))
FORM: dict[str, str | bytes] = {
    "app_id": alipay.APP,
    "seller_id": alipay.SELLER,
    "notify_id": "N-1",
    "out_trade_no": "OP-1",
    "total_amount": "1.00",
}
MESSAGE = b'{"notifyType":"PAYMENT_RESULT","paymentRequestId":"PAY-1"}'


def body(**changes: str) -> bytes:
    return alipay.form({**FORM, **changes}, alipay.rsa_key(), "RSA2")


def reason(account: Account, ring: KeyRing, content: bytes, headers: SigningHeaders | None = None) -> Refusal:
    with pytest.raises(Refused) as caught:
        authenticate.check(account, ring, content, headers)
    return caught.value.reason


def headers_of(content: bytes, **changes: str) -> SigningHeaders:
    found = alipay.antom_headers(content, alipay.rsa_key(), **changes)
    return authenticate.signing_headers(lambda name: [found[name.decode()].encode()])


def sealed(content: bytes, *, confirmed: bool = False, headers: SigningHeaders | None = None) -> RecordContents:
    given = headers or SigningHeaders(b"", b"", b"")
    return RecordContents(
        account="shop",
        family="openapi",
        received_at_ms=1,
        path=b"/notify/shop",
        content_type=b"",
        key_id="k0",
        confirmed=confirmed,
        body=content,
        client_id=given.client_id,
        request_time=given.request_time,
        signature=given.signature,
    )


def test_check_returns_key_number_and_id_of_a_form() -> None:
    assert authenticate.check(alipay.openapi(), RING, body()) == Authentic("k0", b"OP-1", b"N-1")


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({"out_trade_no": "O", "out_biz_no": "R"}, b"O"),
        ({"out_trade_no": "", "batch_no": "B", "out_biz_no": "R"}, b"B"),
        ({"out_trade_no": "", "out_biz_no": "R", "out_request_no": "Q"}, b"R"),
        ({"out_trade_no": "", "out_request_no": "Q"}, b"Q"),
        ({"out_trade_no": "", "auth_no": "A", "out_request_no": "Q"}, b"A"),
        ({"out_trade_no": "", "agreement_no": "A", "external_agreement_no": "E"}, b"A"),
        ({"out_trade_no": ""}, b""),
    ],
)
def test_number_is_the_order_s_or_else_the_batch_s_or_refund_s(params: dict[str, str], number: bytes) -> None:
    assert authenticate.check(alipay.openapi(), RING, body(**params)).number == number


def test_invalid_form_is_malformed_with_its_reason() -> None:
    assert reason(alipay.openapi(), RING, b"") is Refusal.MALFORMED
    assert reason(alipay.openapi(), RING, b"a=1&a=2") is Refusal.DUPLICATE_PARAM
    with pytest.raises(Malformed):
        authenticate.check(alipay.openapi(), RING, b"a=\xff")


def test_signature_is_checked_before_the_payee() -> None:
    foreign = body(app_id="2021000000000000")
    with pytest.raises(NotOurs):
        authenticate.check(alipay.openapi(), RING, foreign)
    forged = foreign.replace(b"total_amount=1.00", b"total_amount=2.00")
    assert reason(alipay.openapi(), RING, forged) is Refusal.BAD_SIGNATURE


def test_c08_all_spellings_of_an_ambiguous_form_have_one_number() -> None:
    hidden = body(subject="S&total_amount=9999.00&trade_aaa=")
    resplit = hidden.replace(b"subject=S%26total_amount%3D9999.00%26trade_aaa%3D", b"subject=S").replace(
        b"total_amount=1.00", b"total_amount=9999.00&trade_aaa=%26total_amount%3D1.00"
    )
    found = [authenticate.check(alipay.openapi(), RING, content) for content in (hidden, resplit)]
    assert found[0] == found[1]
    assert (found[0].is_ambiguous, found[0].number[:5], len(found[0].number)) == (True, b"sign-", 37)
    other = authenticate.check(alipay.openapi(), RING, body(subject="T&total_amount=9999.00&trade_aaa="))
    assert other.number != found[0].number
    with pytest.raises(NotOurs):
        authenticate.check(alipay.openapi(), RING, body(subject="x&total_amount=2", app_id="2021000000000000"))


def test_unknown_certificate_number_is_refused() -> None:
    ring = KeyRing("shop", SignType.RSA2, (Key("k0", alipay.rsa_key().public_key(), None, "abc"),))
    account = alipay.openapi(keys={}, certificates=("c",))
    assert authenticate.check(account, ring, body(alipay_cert_sn="abc")).key_id == "k0"
    assert reason(account, ring, body(alipay_cert_sn="other")) is Refusal.UNKNOWN_KEY
    assert authenticate.check(alipay.openapi(), RING, body(alipay_cert_sn="other")).key_id == "k0"


def test_website_form_passes_the_check_before_confirmation() -> None:
    account = alipay.mapi(SignType.RSA2, seller_id=None, notify_verify=True)
    website = alipay.form({"out_trade_no": "W-1", "notify_id": "N-2"}, alipay.rsa_key(), "RSA2")
    assert authenticate.check(account, RING, website) == Authentic("k0", b"W-1", b"N-2")


def test_check_returns_key_and_number_of_an_antom_message() -> None:
    assert authenticate.check(alipay.antom(), ANTOM, MESSAGE, headers_of(MESSAGE)) == Authentic("1", b"PAY-1", b"")


def test_n13_signed_message_for_another_client_is_refused() -> None:
    assert reason(alipay.antom(), ANTOM, MESSAGE, headers_of(MESSAGE, client_id="OTHER")) is Refusal.NOT_OURS


def test_n28_empty_message_is_malformed_and_one_without_headers_unauthentic() -> None:
    assert reason(alipay.antom(), ANTOM, b"", headers_of(b"")) is Refusal.MALFORMED
    assert reason(alipay.antom(), ANTOM, MESSAGE) is Refusal.MISSING_SIGN
    for empty in (SigningHeaders(b"", b"c", b"t"), SigningHeaders(b"s", b"", b"t"), SigningHeaders(b"s", b"c", b"")):
        assert reason(alipay.antom(), ANTOM, MESSAGE, empty) is Refusal.MISSING_SIGN
    assert reason(alipay.antom(), ANTOM, MESSAGE, SigningHeaders(b"\xff", b"c", b"t")) is Refusal.MALFORMED


def test_signed_message_with_invalid_json_is_authentic() -> None:
    nonsense = b"\xef\xbb\xbf{'a': NaN"
    assert authenticate.check(alipay.antom(), ANTOM, nonsense, headers_of(nonsense)).number == b""


HEADERS = {"signature": ["algorithm=RSA256"], "client-id": ["C"], "request-time": ["2025-03-18T06:31:07Z"]}


def signing(changes: Mapping[str, Sequence[str]]) -> SigningHeaders:
    given = {**HEADERS, **changes}
    return authenticate.signing_headers(lambda name: [value.encode() for value in given.get(name.decode(), [])])


def test_signing_headers_are_returned_as_received() -> None:
    assert signing({}) == SigningHeaders(b"algorithm=RSA256", b"C", b"2025-03-18T06:31:07Z")
    assert signing({"request-time": ["1742279467123"]}).request_time == b"1742279467123"


@pytest.mark.parametrize("name", HEADERS)
def test_n02_n13_n14_absent_or_empty_signing_header_is_missing(name: str) -> None:
    for values in ([], [""], ["  "]):
        with pytest.raises(Unauthentic) as caught:
            signing({name: values})
        assert caught.value.reason is Refusal.MISSING_SIGN


@pytest.mark.parametrize("name", HEADERS)
def test_n13_repeated_or_non_ascii_signing_header_is_malformed(name: str) -> None:
    for values in (HEADERS[name] * 2, [*HEADERS[name], ""], ["é"], ["x" * 5000]):
        with pytest.raises(Malformed):
            signing({name: values})


@pytest.mark.parametrize(
    "text", ["yesterday", "2025-03-18T06:31:07", "2025-02-30T06:31:07Z", "174227946712", "17422794671234", "1e12"]
)
def test_n14_request_time_must_have_a_zone(text: str) -> None:
    with pytest.raises(Malformed):
        signing({"request-time": [text]})


def test_recheck_accepts_an_authentic_record() -> None:
    authenticate.recheck(sealed(body()), alipay.openapi(), RING)
    authenticate.recheck(sealed(MESSAGE, headers=headers_of(MESSAGE)), alipay.antom(), ANTOM)


def test_p14_recheck_refuses_an_unsigned_record() -> None:
    unsigned = alipay.urlencoded(FORM)
    for content in (unsigned, b"", body().replace(b"1.00", b"9.00"), body(app_id="2021000000000000")):
        with pytest.raises(Refused):
            authenticate.recheck(sealed(content), alipay.openapi(), RING)
    for headers in (None, headers_of(b"{}")):
        with pytest.raises(Unauthentic):
            authenticate.recheck(sealed(MESSAGE, headers=headers), alipay.antom(), ANTOM)


def test_recheck_without_seller_id_needs_the_record_to_be_confirmed() -> None:
    account = alipay.mapi(SignType.RSA2, seller_id=None, notify_verify=True)
    website = alipay.form({"out_trade_no": "W-1", "notify_id": "N-2"}, alipay.rsa_key(), "RSA2")
    authenticate.recheck(sealed(website, confirmed=True), account, RING)
    with pytest.raises(NotConfirmed):
        authenticate.recheck(sealed(website), account, RING)


def test_recheck_of_an_openapi_record_needs_no_seller_id() -> None:
    authenticate.recheck(sealed(body()), alipay.openapi(seller_id=None), RING)


def test_recheck_of_a_record_with_its_payee_needs_no_confirmation() -> None:
    account = alipay.mapi(SignType.RSA2, notify_verify=True)
    ours = alipay.form({"out_trade_no": "W-1", "seller_id": alipay.SELLER}, alipay.rsa_key(), "RSA2")
    authenticate.recheck(sealed(ours), account, RING)
    nobodys = alipay.form({"out_trade_no": "W-1"}, alipay.rsa_key(), "RSA2")
    with pytest.raises(NotOurs):
        authenticate.recheck(sealed(nobodys), account, RING)
    authenticate.recheck(sealed(nobodys, confirmed=True), account, RING)


def test_recheck_judges_a_form_without_payee_as_the_receiver_does() -> None:
    account = alipay.openapi()
    for changes, is_admitted in (
        ({"notify_type": "dut_user_unsign"}, True),
        ({"msg_method": "alipay.fund.trans.order.changed"}, True),
        ({"notify_type": "trade_status_sync"}, False),
        ({}, False),
    ):
        content = body(seller_id="", **changes)
        for judge in (
            lambda content=content: authenticate.check(account, RING, content),
            lambda content=content: authenticate.recheck(sealed(content), account, RING),
        ):
            with nullcontext() if is_admitted else pytest.raises(NotOurs):
                judge()


def test_length_limit_of_signing_headers_is_exact() -> None:
    assert len(signing({"signature": ["x" * 4096]}).signature) == 4096
    with pytest.raises(Malformed):
        signing({"signature": ["x" * 4097]})
