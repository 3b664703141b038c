"""Rows N: Antom's headers and JSON. The signature covers the bytes; what they mean, the receiver does not ask."""

import json
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest

from tests.bad_input import pen, wire
from tests.bad_input.judge import OK, Expected, Judge
from tests.bad_input.pen import Pen, antom_header, encode

PATH = "/notify/antom-hk"
MISSING = Expected(401, "bad_signature", "missing_sign")
BAD = Expected(401, "bad_signature", "bad_signature")
UNSUPPORTED = Expected(401, "bad_signature", "unsupported_sign_type")
UNKNOWN_KEY = Expected(401, "bad_signature", "unknown_key")
MALFORMED = Expected(400, "malformed", "malformed")
NOT_OURS = Expected(403, "not_ours", "not_ours")
WRONG_MEDIA = Expected(415, "unsupported", "media_type")

Headers = dict[str, str] | list[tuple[str, str]]


def request(alipay: Pen, body: bytes | None = None, *, target: str = PATH, **signing: str) -> bytes:
    """A genuine message."""
    body = pen.g5() if body is None else body
    headers = alipay.antom(body, **signing)  # type: ignore[arg-type]
    return sent(body, headers | {"signature": antom_header(headers["signature"])}, target=target)


def sent(body: bytes, headers: Headers, *, target: str = PATH, content_type: str = wire.JSON) -> bytes:
    return wire.post(target, body, headers=headers, content_type=content_type)


def with_signature(alipay: Pen, spell: Callable[[str], str | None]) -> bytes:
    """A genuine message whose signature header is spelled by `spell` from the base64."""
    body = pen.g5()
    headers = alipay.antom(body)
    spelled = spell(headers.pop("signature"))
    return sent(body, headers if spelled is None else headers | {"signature": spelled})


def changed(alipay: Pen, change: Callable[[bytes], bytes]) -> bytes:
    body = pen.g5()
    headers = alipay.antom(body)
    return sent(change(body), headers | {"signature": antom_header(headers["signature"])})


def with_headers(alipay: Pen, change: Callable[[dict[str, str]], Headers]) -> bytes:
    body = pen.g5()
    headers = alipay.antom(body)
    return sent(body, change(headers | {"signature": antom_header(headers["signature"])}))


def without(name: str) -> Callable[[dict[str, str]], Headers]:
    return lambda headers: {key: value for key, value in headers.items() if key != name}


def twice(name: str) -> Callable[[dict[str, str]], Headers]:
    return lambda headers: [*headers.items(), (name, headers[name])]


def algorithm_called(name: str) -> Callable[[Pen], bytes]:
    return lambda alipay: with_signature(alipay, lambda sign: antom_header(sign, algorithm=name))


def version_called(name: str) -> Callable[[Pen], bytes]:
    return lambda alipay: with_signature(alipay, lambda sign: antom_header(sign, version=name))


def re_serialised(body: bytes) -> bytes:
    return json.dumps(json.loads(body), indent=1).encode()


REFUSED: dict[str, tuple[Callable[[Pen], bytes], Expected]] = {
    "N02-absent": (lambda alipay: with_signature(alipay, lambda sign: None), MISSING),
    "N02-empty": (lambda alipay: with_signature(alipay, lambda sign: ""), MISSING),
    "N02-only": (lambda alipay: with_signature(alipay, lambda sign: "algorithm=RSA256"), MISSING),
    **{f"N04-{name}": (algorithm_called(name), UNSUPPORTED) for name in ("none", "HS256", "RSA1", "rsa256", "RSA2")},
    "N04-absent": (lambda alipay: with_signature(alipay, lambda sign: f"keyVersion=1,signature={quote(sign)}"),
                   UNSUPPORTED),
    **{f"N05-{name}": (version_called(name), UNKNOWN_KEY) for name in ("0", "-1", "1000000000", "01", "3", "+1", "x")},
    "N07-twice": (lambda alipay: with_signature(alipay, lambda sign: antom_header(quote(sign, safe=""))), BAD),
    "N09-slash": (lambda alipay: request(alipay, path=PATH + "/"), BAD),
    "N09-double": (lambda alipay: request(alipay, path="/" + PATH), BAD),
    "N09-case": (lambda alipay: request(alipay, path=PATH.upper()), BAD),
    "N10-signed": (lambda alipay: request(alipay, path=PATH + "?a=1", target=PATH + "?a=1"), BAD),
    "N13-another": (lambda alipay: request(alipay, client_id="SANDBOX_5Y0000000000000001"), NOT_OURS),
    "N13-absent": (lambda alipay: with_headers(alipay, without("client-id")), MISSING),
    "N13-two": (lambda alipay: with_headers(alipay, twice("client-id")), MALFORMED),
    "N02-two": (lambda alipay: with_headers(alipay, twice("signature")), MALFORMED),
    "N14-absent": (lambda alipay: with_headers(alipay, without("request-time")), MISSING),
    "N14-two": (lambda alipay: with_headers(alipay, twice("request-time")), MALFORMED),
    "N14-words": (lambda alipay: request(alipay, request_time="yesterday"), MALFORMED),
    "N14-zoneless": (lambda alipay: request(alipay, request_time="2026-02-03T11:31:05"), MALFORMED),
    "N17": (lambda alipay: changed(alipay, re_serialised), BAD),
    "N18-byte": (lambda alipay: changed(alipay, lambda body: body.replace(b"7700", b"7701")), BAD),
    "N18-lf": (lambda alipay: changed(alipay, lambda body: body + b"\n"), BAD),
    "N28": (lambda alipay: request(alipay, b""), MALFORMED),
    "N34": (lambda alipay: sent(encode(alipay.cn(pen.gp())), {}, content_type=wire.FORM), WRONG_MEDIA),
    "N-part-twice": (lambda alipay: with_signature(alipay, lambda sign: f"{antom_header(sign)},keyVersion=1"),
                     MALFORMED),
    "N-no-list": (lambda alipay: with_signature(alipay, lambda sign: "a b c"), MALFORMED),
    "N-slow": (lambda alipay: wire.post(PATH, b"{", content_type=wire.JSON, length=9), Expected(408, "too_slow")),
    "N-large": (lambda alipay: wire.post(PATH, b"{", content_type=wire.JSON, length=70_000),
                Expected(413, "too_large")),
    "N-get": (lambda alipay: wire.post(PATH, b"", method="GET"), Expected(405, "unsupported")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_antom_did_not_sign_so_is_refused_in_antoms_words(judge: Judge, name: str) -> None:
    build, expected = REFUSED[name]
    judge.row(build(judge.pen), expected, antom=True)


ACCEPTED: dict[str, Callable[[Pen], bytes]] = {
    "N01": request,
    "N05-older": lambda alipay: older_key(alipay),
    "N06-order": lambda alipay: with_signature(
        alipay, lambda sign: f"signature={quote(sign, safe='')}, keyVersion=1,  algorithm=RSA256, note=x"
    ),
    "N06-version": lambda alipay: with_signature(
        alipay, lambda sign: f"algorithm=RSA256,signature={quote(sign, safe='')}"
    ),
    "N07-raw": lambda alipay: raw_plus(alipay),
    "N10": lambda alipay: request(alipay, target=PATH + "?a=1"),
    "N12": lambda alipay: with_headers(
        alipay, lambda headers: headers | {"X-Forwarded-Prefix": "/pay", "X-Original-URI": "/pay/notify/antom-hk"}
    ),
    "N15": lambda alipay: request(alipay, request_time=pen.now_iso(timedelta(hours=30))),
    "N-digits": lambda alipay: request(alipay, request_time="1770089465123"),
    "N-offset": lambda alipay: request(alipay, request_time="2026-02-03T11:31:05+08:00"),
    "N29": lambda alipay: request(alipay).replace(b"application/json", b"application/json; charset=bogus"),
}


def older_key(alipay: Pen) -> bytes:
    body = pen.g5()
    headers = alipay.antom(body, key=alipay.keys.hk_old)
    return sent(body, headers | {"signature": antom_header(headers["signature"], version="2")})


def raw_plus(alipay: Pen) -> bytes:
    """A signature with a `+`, sent unescaped: percent-decoding leaves it as it is."""
    while True:
        body = pen.g5()
        headers = alipay.antom(body)
        if "+" in headers["signature"]:
            spelled = f"algorithm=RSA256,keyVersion=1,signature={headers['signature']}"
            return sent(body, headers | {"signature": spelled})


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_antom_signed_is_taken(judge: Judge, name: str) -> None:
    judge.row(ACCEPTED[name](judge.pen), OK, antom=True)


def test_n08_a_path_that_a_proxy_strips_is_configured(judge: Judge) -> None:
    """Only the configured path is tried, whatever the request says of itself."""
    judge.row(request(judge.pen, path="/pay" + PATH), BAD, antom=True)


@pytest.mark.parametrize(("hours_ago", "counted"), [(30, 1), (-26, 1), (25.1, 1), (24.9, 0), (0, 0), (-24.9, 0)])
def test_n15_a_stale_request_time_is_counted_and_taken(judge: Judge, hours_ago: float, counted: int) -> None:
    name = 'alipay_notify_stale_request_time_total{account="antom-hk"}'
    before = judge.server.state()["samples"].get(name, 0)
    judge.row(request(judge.pen, request_time=pen.now_iso(timedelta(hours=hours_ago))), OK, antom=True)
    assert judge.server.state()["samples"].get(name, 0) == before + counted


# Signed by Antom and yet no message that can be applied: kept, acknowledged, and held by the worker.
UNREADABLE: dict[str, bytes] = {
    "N20-nan": pen.g5().replace(b'"7700"', b"NaN"),
    "N20-infinity": pen.g5().replace(b'"7700"', b"Infinity"),
    "N20-exponent": pen.g5().replace(b'"7700"', b"1e999"),
    "N24": pen.g5().decode().encode("utf-16"),
    "N25": b"\xef\xbb\xbf" + pen.g5(),
    "N26-after": pen.g5() + b" and more",
    "N26-two": pen.g5() + pen.g5(),
    "N26-comment": b"/* note */" + pen.g5(),
    "N26-quotes": pen.g5().replace(b'"', b"'"),
    "N30-decimal": pen.g5().replace(b'"7700"', b'"77.00"'),
    "N30-number": pen.g5().replace(b'"7700"', b"7700"),
    "N31": pen.g5().replace(b'"resultStatus":"S"', b'"resultStatus":"F"'),
    "N32-unknown": pen.g5().replace(b"PAYMENT_RESULT", b"PAYMENT_MIRACLE"),
    "N32-case": pen.g5().replace(b"PAYMENT_RESULT", b"payment_result"),
    "N33-case": pen.g5().replace(b"paymentAmount", b"PaymentAmount"),
    "N-deep": b"[" * 20_000,
    "N-digits": pen.g5().replace(b'"7700"', b"9" * 5000),
    "N-twice": pen.g5().replace(b'{"notifyType"', b'{"paymentRequestId":"x","notifyType"'),
    "N-surrogate": pen.g5().replace(b'"ok"', b'"\\ud800"'),
    "N-nul": pen.g5().replace(b'"ok"', b'"\\u0000"'),
    "N-bytes": b"\x00\xff\xfe",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_signed_body_is_taken_though_nobody_can_read_it(judge: Judge, name: str) -> None:
    judge.row(request(judge.pen, UNREADABLE[name]), OK, antom=True)


def test_n34_json_at_a_form_account_is_refused_in_a_forms_words(judge: Judge) -> None:
    judge.row(wire.post("/notify/shop-cn", pen.g5(), content_type=wire.JSON), WRONG_MEDIA)
