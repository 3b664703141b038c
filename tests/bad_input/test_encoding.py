"""Rows E: content type, charset, bytes. The receiver knows none but the media type and the printable bytes."""

import gzip
from collections.abc import Callable

import pytest

from tests.bad_input import merchant, wire
from tests.bad_input.judge import OK, Expected, Judge, body_of
from tests.bad_input.merchant import Signer, encode

SG, CN = "/notify/shop-sg", "/notify/shop-cn"
UNSUPPORTED = Expected(415, "unsupported", "media_type")
ENCODED = Expected(415, "unsupported", "content_encoding")
MALFORMED = Expected(400, "malformed", "malformed")
BAD_SIGNATURE = Expected(401, "bad_signature", "bad_signature")

MULTIPART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nhello there\r\n--b--\r\n'
XML = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]><a>&x;</a>'

REFUSED_TYPES = {
    "E01": (None, b"a=b"),
    "E01-empty": ("", b"a=b"),
    "E02": ("application/json", b'{"out_trade_no":"E02"}'),
    "E03": ("multipart/form-data; boundary=b", MULTIPART),
    "E04": ("text/xml", XML),
    "E04-form-inside": ("application/xml; a=application/x-www-form-urlencoded", XML),
    "D04": ("multipart/form-data; boundary=" + "(" * 300, b"--("),
    "E-text": ("text/plain", b"a=b"),
    "E-near": ("application/x-www-form-urlencoded2", b"a=b"),
    "E-list": ("text/plain, application/x-www-form-urlencoded", b"a=b"),
}


@pytest.mark.parametrize("name", REFUSED_TYPES)
def test_other_media_type_is_refused(judge: Judge, name: str) -> None:
    content_type, body = REFUSED_TYPES[name]
    judge.row(wire.post(CN, body, content_type=content_type), UNSUPPORTED)


ACCEPTED_TYPES = {
    "E06": "application/x-www-form-urlencoded; text/html; charset=utf-8",
    "E06-gbk": "application/x-www-form-urlencoded; text/html; charset=GBK",
    "E07-quoted": 'application/x-www-form-urlencoded; CHARSET="UTF-8"',
    "E07-case": "Application/X-WWW-Form-Urlencoded",
    "E07-bare": "application/x-www-form-urlencoded",
    "E07-broken": 'application/x-www-form-urlencoded; charset="; =;;',
    "E08": "application/x-www-form-urlencoded; charset=bogus",
} | {
    f"E09-{codec}": f"application/x-www-form-urlencoded; charset={codec}"
    for codec in ("punycode", "rot13", "zlib_codec", "base64", "hex", "undefined", "mbcs")
}


@pytest.mark.parametrize("name", ACCEPTED_TYPES)
def test_parameters_of_the_media_type_are_ignored(judge: Judge, name: str) -> None:
    body = encode(judge.signer.sg(merchant.mapi_payment()))
    judge.row(wire.post(SG, body, content_type=ACCEPTED_TYPES[name]), OK)


def signed_in(signer: Signer, charset: str, text: str, **changes: str) -> bytes:
    params = signer.cn(merchant.payment(subject=text, charset=charset, **changes), charset=charset)
    return encode(params, charset)


AUTHENTIC: dict[str, Callable[[Signer], bytes]] = {
    "E12": lambda signer: signed_in(signer, "GBK", "港式奶茶两杯"),
    "E14": lambda signer: signed_in(signer, "gb18030", "㐀𠀀"),
    "E15": lambda signer: encode(signer.cn(merchant.payment(charset="utf-7"))),
    "E15-user": lambda signer: encode(signer.cn(merchant.payment(charset="x-user-defined"))),
    "E19": lambda signer: encode(signer.cn(merchant.payment(out_trade_no=merchant.fresh("E\x0019")))),
    "E20": lambda signer: encode(signer.cn(merchant.payment(subject="a\r\nb\tc\u2028d\u202ee"))),
    "E23-plus": lambda signer: encode(signer.cn(merchant.payment(subject="two words"))),
    "E23-percent": lambda signer: encode(signer.cn(merchant.payment(subject="two words"))).replace(
        b"+words", b"%20words"
    ),
    "E26-quot": lambda signer: encode(
        signer.cn(merchant.payment(fund_bill_list="[{&quot;amount&quot;:&quot;1&quot;}]"))
    ),
    "E29": lambda signer: encode(signer.cn(merchant.payment(subject="🧋 × 2"))),
}


@pytest.mark.parametrize("name", AUTHENTIC)
def test_signed_body_is_recorded_byte_for_byte(judge: Judge, name: str) -> None:
    """The receiver checks authenticity only; meaning and charset are the worker's task."""
    body = AUTHENTIC[name](judge.signer)
    judge.server.mark()
    judge_state = judge.row(wire.post(CN, body), OK)
    assert judge_state.body == b"success"
    judge.canary()
    state = judge.server.state()
    assert body in [body_of(record) for record in state["records"]]
    for line in state["log"].splitlines():
        assert not any(mark in line for mark in ("\u2028", "\u202e", "\x00"))


def test_gbk_sender_verifies_without_configuration(judge: Judge) -> None:
    params = judge.signer.gbk(merchant.mapi_payment(subject="港式奶茶"))
    judge.row(wire.post("/notify/shop-gbk", encode(params, "gbk")), OK)


def plain(signer: Signer) -> bytes:
    return encode(signer.cn(merchant.payment()))


BROKEN: dict[str, tuple[Callable[[Signer], bytes], Expected]] = {
    "E17": (lambda signer: plain(signer).replace(b"Ferry", b"\xff"), MALFORMED),
    "E17-utf8": (lambda signer: plain(signer).replace(b"Ferry", "茶".encode()), MALFORMED),
    "E21-raw": (lambda signer: b"\xef\xbb\xbf" + plain(signer), MALFORMED),
    "E21-escaped": (lambda signer: b"%EF%BB%BF" + plain(signer), MALFORMED),
    "E22": (lambda signer: plain(signer).replace(b"Ferry", b"%zz"), MALFORMED),
    "E22-one": (lambda signer: plain(signer) + b"&a=%4", MALFORMED),
    "E24": (lambda signer: with_raw_plus(signer), BAD_SIGNATURE),
    "E25": (lambda signer: plain(signer).replace(b"%2C", b"%252C"), BAD_SIGNATURE),
    "E26": (lambda signer: plain(signer).replace(b"&", b"&amp;"), Expected(401, "bad_signature", "missing_sign")),
    "E27-crlf": (lambda signer: plain(signer) + b"\r\n", MALFORMED),
    "E27-blank": (lambda signer: plain(signer) + b" ", MALFORMED),
    "E-nul": (lambda signer: plain(signer) + b"\x00", MALFORMED),
    "E-name-blank": (lambda signer: b"a+b=c&" + plain(signer), MALFORMED),
    "E-name-amp": (lambda signer: b"a%26b=c&" + plain(signer), MALFORMED),
    "E-name-equals": (lambda signer: b"a%3Db=c&" + plain(signer), MALFORMED),
}


def with_raw_plus(signer: Signer) -> bytes:
    """A form whose signature has a `+`, sent unescaped: it arrives as a blank."""
    while True:
        params = signer.cn(merchant.payment())
        if "+" in params["sign"]:
            return encode(params).replace(b"%2B", b"+")


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_body_is_not_repaired(judge: Judge, name: str) -> None:
    build, expected = BROKEN[name]
    judge.row(wire.post(CN, build(judge.signer)), expected)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "x-gzip", "identity, gzip"])
def test_e30_compressed_body_is_refused(judge: Judge, coding: str) -> None:
    body = gzip.compress(plain(judge.signer)) if "gzip" in coding else b"a=b"
    judge.row(wire.post(CN, body, headers={"Content-Encoding": coding}), ENCODED)


def test_e30_decompression_bomb_costs_nothing(judge: Judge) -> None:
    bomb = gzip.compress(gzip.compress(bytes(100 << 20)))
    assert len(bomb) < 60_000
    before = judge.server.state()["cpu_s"]
    judge.row(wire.post(CN, bomb, headers={"Content-Encoding": "gzip"}), ENCODED)
    assert judge.server.state()["cpu_s"] - before < 0.1  # the canary and the look from inside are in it


def test_e30_identity_encoding_is_accepted(judge: Judge) -> None:
    judge.row(wire.post(CN, plain(judge.signer), headers={"Content-Encoding": "identity"}), OK)


@pytest.mark.parametrize("lines", [("identity", "gzip"), ("gzip", "identity"), ("identity, gzip",), ("identity", "")])
def test_o6_every_content_coding_of_every_line_must_be_identity(judge: Judge, lines: tuple[str, ...]) -> None:
    headers = [("Content-Encoding", line) for line in lines]
    judge.row(wire.post(CN, plain(judge.signer), headers=headers), ENCODED)


@pytest.mark.parametrize("lines", [("identity", "Identity"), ("identity, IDENTITY",)])
def test_o6_identity_named_twice_is_accepted(judge: Judge, lines: tuple[str, ...]) -> None:
    headers = [("Content-Encoding", line) for line in lines]
    judge.row(wire.post(CN, plain(judge.signer), headers=headers), OK)
