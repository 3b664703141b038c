"""Rows C: the parameters, and the text that was signed."""

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes

from tests.bad_input import pen, wire
from tests.bad_input.judge import OK, Expected, Judge, body_of
from tests.bad_input.pen import Pen, encode

CN = "/notify/shop-cn"
DUPLICATE = Expected(400, "malformed", "duplicate_param")
MALFORMED = Expected(400, "malformed", "malformed")
TOO_MANY = Expected(400, "malformed", "too_many_fields")
TOO_LONG = Expected(400, "malformed", "field_too_long")
MISSING_SIGN = Expected(401, "bad_signature", "missing_sign")
BAD_SIGNATURE = Expected(401, "bad_signature", "bad_signature")
AMBIGUOUS = Expected(400, "ambiguous", "ambiguous")


def plain(alipay: Pen, **changes: str) -> bytes:
    return encode(alipay.cn(pen.gp(**changes)))


def renamed(alipay: Pen, new: str) -> bytes:
    return plain(alipay).replace(b"&sign=", b"&" + new.encode() + b"=")


def resplit(alipay: Pen, *, split: bool) -> bytes:
    """Signed as one subject; `split` tells it as the two parameters that have the same signed text."""
    hidden = "S&total_amount=9999.00&trade_aaa="
    params = pen.gp(subject=hidden, total_amount="0.01")
    signed = alipay.cn(params)
    if not split:
        return encode(signed)
    told = signed | {"subject": "S", "total_amount": "9999.00", "trade_aaa": "&total_amount=0.01"}
    assert pen.text_of(told) == pen.text_of(params)
    return encode(told)


REFUSED: dict[str, tuple[Callable[[Pen], bytes], Expected]] = {
    "C01": (lambda alipay: b"total_amount=0.01&" + plain(alipay), DUPLICATE),
    "C02": (lambda alipay: plain(alipay) + b"&version=1.0", DUPLICATE),
    "C02-escaped": (lambda alipay: plain(alipay) + b"&%76ersion=1.0", DUPLICATE),
    "C03-after": (lambda alipay: plain(alipay) + b"&sign=YmFk", DUPLICATE),
    "C03-before": (lambda alipay: b"sign=YmFk&" + plain(alipay), DUPLICATE),
    "C04": (lambda alipay: plain(alipay) + b"&sign_type=MD5", DUPLICATE),
    "C05-[]": (lambda alipay: renamed(alipay, "sign%5B%5D"), MISSING_SIGN),
    "C05-[0]": (lambda alipay: renamed(alipay, "sign[0]"), MISSING_SIGN),
    "C05-.x": (lambda alipay: renamed(alipay, "sign.x"), MISSING_SIGN),
    "C06-sign": (lambda alipay: renamed(alipay, "Sign"), MISSING_SIGN),
    "C06-amount": (lambda alipay: plain(alipay).replace(b"total_amount", b"Total_Amount"), BAD_SIGNATURE),
    "C08-split": (lambda alipay: resplit(alipay, split=True), AMBIGUOUS),
    "C08-unsplit": (lambda alipay: resplit(alipay, split=False), AMBIGUOUS),
    "C12": (lambda alipay: plain(alipay) + b"&a=b", BAD_SIGNATURE),
    "C13": (lambda alipay: plain(alipay).replace(b"&version=1.0", b""), BAD_SIGNATURE),
    "C18": (lambda alipay: signed_over_sign_type(alipay), BAD_SIGNATURE),
    "C19": (lambda alipay: plain(alipay).replace(b"&", b";"), MISSING_SIGN),
    "C20-nameless": (lambda alipay: plain(alipay) + b"&=c", MALFORMED),
    "C20-empty": (lambda alipay: plain(alipay) + b"&&a=b", MALFORMED),
    "C20-bare": (lambda alipay: plain(alipay) + b"&b", MALFORMED),
    "C20-end": (lambda alipay: plain(alipay) + b"&", MALFORMED),
    "C21-201": (lambda alipay: b"&".join(b"n%d=1" % n for n in range(201)), TOO_MANY),
    "C21-9000": (lambda alipay: b"&".join(b"%d=1" % n for n in range(9000)), TOO_MANY),
    "C22-name": (lambda alipay: encode(alipay.cn(pen.gp() | {"n" * 1024: "v"})), TOO_LONG),
    "C22-value": (lambda alipay: plain(alipay, body="v" * 17 * 1024), TOO_LONG),
    "C24": (lambda alipay: b"", MALFORMED),
}


def signed_over_sign_type(alipay: Pen) -> bytes:
    params = pen.gp() | {"sign_type": "RSA2"}
    text = pen.text_of(params, keep=("sign_type",)).encode()
    return encode(params | {"sign": pen.rsa_sign(alipay.keys.cn, text, hashes.SHA256())})


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_is_not_exactly_what_was_signed_is_refused(judge: Judge, name: str) -> None:
    build, expected = REFUSED[name]
    judge.row(wire.post(CN, build(judge.pen)), expected)


def test_c21_ten_thousand_parameters_are_refused(judge: Judge) -> None:
    body = b"&".join(b"name%d=1" % n for n in range(10_000))
    judge.row(wire.post(CN, body), Expected(413, "too_large", "too_large"))


def test_c07_a_form_in_the_query_is_no_body(judge: Judge) -> None:
    judge.row(wire.post(f"{CN}?{plain(judge.pen).decode()}", b""), MALFORMED)


def test_c07_the_query_is_never_read(judge: Judge) -> None:
    body = plain(judge.pen)
    judge.server.mark()
    judge.row(wire.post(f"{CN}?total_amount=9&sign_type=MD5", body), OK)
    assert body in [body_of(record) for record in judge.server.state()["records"]]


DEEP = '{"a":' * 2400 + "1" + "}" * 2400

ACCEPTED: dict[str, Callable[[Pen], bytes]] = {
    "C10": lambda alipay: plain(alipay, subject="a & b = 100% + \"c\" & 'd' &e"),
    "C11": lambda alipay: plain(alipay, subject="a&b=c"),
    "C11-near": lambda alipay: plain(alipay, subject="x&Total_amount=1&total_amounts=2&total_amount =3"),
    "C16-without": lambda alipay: encode(alipay.cn(pen.gp(buyer_logon_id=""))),
    "C16-with": lambda alipay: encode(alipay.cn(pen.gp(buyer_logon_id=""), blanks=True)),
    "C16-zero": lambda alipay: plain(alipay, point_amount="0", subject=" ", body="null"),
    "C23": lambda alipay: plain(alipay, fund_bill_list=DEEP[:12_000]),
    "C-unknown": lambda alipay: plain(alipay, a_new_name_of_next_year="1"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_whatever_was_signed_is_taken(judge: Judge, name: str) -> None:
    judge.row(wire.post(CN, ACCEPTED[name](judge.pen)), OK)


def test_c14_the_order_on_the_wire_means_nothing(judge: Judge) -> None:
    shuffling = random.Random(14)
    params = list(judge.pen.cn(pen.gp()).items())
    judge.server.mark()
    for _ in range(100):
        shuffling.shuffle(params)
        answer = wire.send(judge.port, wire.post(CN, encode(dict(params))))
        assert answer.body == b"success"
    assert len({record["key"] for record in judge.server.state()["records"]}) == 1
    judge.canary()
