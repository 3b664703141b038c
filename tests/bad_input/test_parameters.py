"""Rows C: the parameters, and the text that was signed."""

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes

from tests.bad_input import merchant, wire
from tests.bad_input.judge import OK, Expected, Judge, body_of
from tests.bad_input.merchant import Signer, encode
from tests.support import alipay

CN = "/notify/shop-cn"
DUPLICATE = Expected(400, "malformed", "duplicate_param")
MALFORMED = Expected(400, "malformed", "malformed")
TOO_MANY = Expected(400, "malformed", "too_many_fields")
TOO_LONG = Expected(400, "malformed", "field_too_long")
MISSING_SIGN = Expected(401, "bad_signature", "missing_sign")
BAD_SIGNATURE = Expected(401, "bad_signature", "bad_signature")


def plain(signer: Signer, **changes: str) -> bytes:
    return encode(signer.cn(merchant.payment(**changes)))


def renamed(signer: Signer, new: str) -> bytes:
    return plain(signer).replace(b"&sign=", b"&" + new.encode() + b"=")


def resplit(signer: Signer, *, split: bool) -> bytes:
    """Sign one subject; with `split`, send it as two parameters that have the same signed text."""
    hidden = "S&total_amount=9999.00&trade_aaa="
    params = merchant.payment(subject=hidden, total_amount="0.01")
    signed = signer.cn(params)
    if not split:
        return encode(signed)
    changed = signed | {"subject": "S", "total_amount": "9999.00", "trade_aaa": "&total_amount=0.01"}
    assert merchant.text_of(changed) == merchant.text_of(params)
    return encode(changed)


REFUSED: dict[str, tuple[Callable[[Signer], bytes], Expected]] = {
    "C01": (lambda signer: b"total_amount=0.01&" + plain(signer), DUPLICATE),
    "C02": (lambda signer: plain(signer) + b"&version=1.0", DUPLICATE),
    "C02-escaped": (lambda signer: plain(signer) + b"&%76ersion=1.0", DUPLICATE),
    "C03-after": (lambda signer: plain(signer) + b"&sign=YmFk", DUPLICATE),
    "C03-before": (lambda signer: b"sign=YmFk&" + plain(signer), DUPLICATE),
    "C04": (lambda signer: plain(signer) + b"&sign_type=MD5", DUPLICATE),
    "C05-[]": (lambda signer: renamed(signer, "sign%5B%5D"), MISSING_SIGN),
    "C05-[0]": (lambda signer: renamed(signer, "sign[0]"), MISSING_SIGN),
    "C05-.x": (lambda signer: renamed(signer, "sign.x"), MISSING_SIGN),
    "C06-sign": (lambda signer: renamed(signer, "Sign"), MISSING_SIGN),
    "C06-amount": (lambda signer: plain(signer).replace(b"total_amount", b"Total_Amount"), BAD_SIGNATURE),
    "C12": (lambda signer: plain(signer) + b"&a=b", BAD_SIGNATURE),
    "C13": (lambda signer: plain(signer).replace(b"&version=1.0", b""), BAD_SIGNATURE),
    "C18": (lambda signer: signed_over_sign_type(signer), BAD_SIGNATURE),
    "C19": (lambda signer: plain(signer).replace(b"&", b";"), MISSING_SIGN),
    "C20-nameless": (lambda signer: plain(signer) + b"&=c", MALFORMED),
    "C20-empty": (lambda signer: plain(signer) + b"&&a=b", MALFORMED),
    "C20-bare": (lambda signer: plain(signer) + b"&b", MALFORMED),
    "C20-end": (lambda signer: plain(signer) + b"&", MALFORMED),
    "C21-201": (lambda signer: b"&".join(b"n%d=1" % n for n in range(201)), TOO_MANY),
    "C21-9000": (lambda signer: b"&".join(b"%d=1" % n for n in range(9000)), TOO_MANY),
    "C22-name": (lambda signer: encode(signer.cn(merchant.payment() | {"n" * 1024: "v"})), TOO_LONG),
    "C22-value": (lambda signer: plain(signer, body="v" * 17 * 1024), TOO_LONG),
    "C24": (lambda signer: b"", MALFORMED),
}


def signed_over_sign_type(signer: Signer) -> bytes:
    params = merchant.payment() | {"sign_type": "RSA2"}
    text = alipay.canonical(params, blanks=False, left_out=("sign",))
    return encode(params | {"sign": alipay.rsa_signature(text, signer.keys.cn, hashes.SHA256())})


@pytest.mark.parametrize("name", REFUSED)
def test_form_other_than_the_signed_one_is_refused(judge: Judge, name: str) -> None:
    build, expected = REFUSED[name]
    judge.row(wire.post(CN, build(judge.signer)), expected)


def test_c21_ten_thousand_parameters_are_refused(judge: Judge) -> None:
    body = b"&".join(b"name%d=1" % n for n in range(10_000))
    judge.row(wire.post(CN, body), Expected(413, "too_large", "too_large"))


def test_c07_form_in_the_query_is_no_body(judge: Judge) -> None:
    judge.row(wire.post(f"{CN}?{plain(judge.signer).decode()}", b""), MALFORMED)


def test_c07_query_is_ignored(judge: Judge) -> None:
    body = plain(judge.signer)
    judge.server.mark()
    judge.row(wire.post(f"{CN}?total_amount=9&sign_type=MD5", body), OK)
    assert body in [body_of(record) for record in judge.server.state()["records"]]


DEEP = '{"a":' * 2400 + "1" + "}" * 2400

ACCEPTED: dict[str, Callable[[Signer], bytes]] = {
    "C08-split": lambda signer: resplit(signer, split=True),
    "C08-unsplit": lambda signer: resplit(signer, split=False),
    "C10": lambda signer: plain(signer, subject="a & b = 100% + \"c\" & 'd' &e"),
    "C11": lambda signer: plain(signer, subject="a&b=c"),
    "C11-near": lambda signer: plain(signer, subject="x&Total_amount=1&total_amounts=2&total_amount =3"),
    "C16-without": lambda signer: encode(signer.cn(merchant.payment(buyer_logon_id=""))),
    "C16-with": lambda signer: encode(signer.cn(merchant.payment(buyer_logon_id=""), blanks=True)),
    "C16-zero": lambda signer: plain(signer, point_amount="0", subject=" ", body="null"),
    "C23": lambda signer: plain(signer, fund_bill_list=DEEP[:12_000]),
    "C-unknown": lambda signer: plain(signer, a_new_name_of_next_year="1"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_signed_form_is_accepted(judge: Judge, name: str) -> None:
    judge.row(wire.post(CN, ACCEPTED[name](judge.signer)), OK)


def test_c14_parameter_order_does_not_matter(judge: Judge) -> None:
    shuffling = random.Random(14)
    params = list(judge.signer.cn(merchant.payment()).items())
    judge.server.mark()
    for _ in range(100):
        shuffling.shuffle(params)
        answer = wire.send(judge.port, wire.post(CN, encode(dict(params))))
        assert answer.body == b"success"
    assert len({record["key"] for record in judge.server.state()["records"]}) == 1
    judge.canary()
