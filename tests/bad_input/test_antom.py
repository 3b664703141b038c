"""Rows N: Antom's headers and JSON. The signature covers the bytes; the receiver does not look at their meaning."""

import json
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest

from tests.bad_input import merchant, wire
from tests.bad_input.judge import OK, Expected, Judge
from tests.bad_input.merchant import Signer, encode
from tests.support import alipay

PATH = "/notify/antom-hk"
MISSING = Expected(401, "bad_signature", "missing_sign")
BAD = Expected(401, "bad_signature", "bad_signature")
UNSUPPORTED = Expected(401, "bad_signature", "unsupported_sign_type")
UNKNOWN_KEY = Expected(401, "bad_signature", "unknown_key")
MALFORMED = Expected(400, "malformed", "malformed")
NOT_OURS = Expected(403, "not_ours", "not_ours")
WRONG_MEDIA = Expected(415, "unsupported", "media_type")

Headers = dict[str, str] | list[tuple[str, str]]


def request(signer: Signer, body: bytes | None = None, *, target: str = PATH, **signing: str) -> bytes:
    """A genuine message."""
    body = merchant.antom_payment() if body is None else body
    headers = signer.antom(body, **signing)  # type: ignore[arg-type]
    return sent(body, headers | {"signature": alipay.antom_header(headers["signature"])}, target=target)


def sent(body: bytes, headers: Headers, *, target: str = PATH, content_type: str = wire.JSON) -> bytes:
    return wire.post(target, body, headers=headers, content_type=content_type)


def with_signature(signer: Signer, spell: Callable[[str], str | None]) -> bytes:
    """A genuine message whose signature header is spelled by `spell` from the base64."""
    body = merchant.antom_payment()
    headers = signer.antom(body)
    spelled = spell(headers.pop("signature"))
    return sent(body, headers if spelled is None else headers | {"signature": spelled})


def changed(signer: Signer, change: Callable[[bytes], bytes]) -> bytes:
    body = merchant.antom_payment()
    headers = signer.antom(body)
    return sent(change(body), headers | {"signature": alipay.antom_header(headers["signature"])})


def with_headers(signer: Signer, change: Callable[[dict[str, str]], Headers]) -> bytes:
    body = merchant.antom_payment()
    headers = signer.antom(body)
    return sent(body, change(headers | {"signature": alipay.antom_header(headers["signature"])}))


def without(name: str) -> Callable[[dict[str, str]], Headers]:
    return lambda headers: {key: value for key, value in headers.items() if key != name}


def twice(name: str) -> Callable[[dict[str, str]], Headers]:
    return lambda headers: [*headers.items(), (name, headers[name])]


def algorithm_called(name: str) -> Callable[[Signer], bytes]:
    return lambda signer: with_signature(signer, lambda sign: alipay.antom_header(sign, algorithm=name))


def version_called(name: str) -> Callable[[Signer], bytes]:
    return lambda signer: with_signature(signer, lambda sign: alipay.antom_header(sign, version=name))


def re_serialised(body: bytes) -> bytes:
    return json.dumps(json.loads(body), indent=1).encode()


REFUSED: dict[str, tuple[Callable[[Signer], bytes], Expected]] = {
    "N02-absent": (lambda signer: with_signature(signer, lambda sign: None), MISSING),
    "N02-empty": (lambda signer: with_signature(signer, lambda sign: ""), MISSING),
    "N02-only": (lambda signer: with_signature(signer, lambda sign: "algorithm=RSA256"), MISSING),
    **{f"N04-{name}": (algorithm_called(name), UNSUPPORTED) for name in ("none", "HS256", "RSA1", "rsa256", "RSA2")},
    "N04-absent": (lambda signer: with_signature(signer, lambda sign: f"keyVersion=1,signature={quote(sign)}"),
                   UNSUPPORTED),
    **{f"N05-{name}": (version_called(name), UNKNOWN_KEY) for name in ("0", "-1", "1000000000", "01", "3", "+1", "x")},
    "N07-twice": (lambda signer: with_signature(signer, lambda sign: alipay.antom_header(quote(sign, safe=""))), BAD),
    "N09-slash": (lambda signer: request(signer, path=PATH + "/"), BAD),
    "N09-double": (lambda signer: request(signer, path="/" + PATH), BAD),
    "N09-case": (lambda signer: request(signer, path=PATH.upper()), BAD),
    "N10-signed": (lambda signer: request(signer, path=PATH + "?a=1", target=PATH + "?a=1"), BAD),
    "N13-another": (lambda signer: request(signer, client_id="SANDBOX_5Y0000000000000001"), NOT_OURS),
    "N13-absent": (lambda signer: with_headers(signer, without("client-id")), MISSING),
    "N13-two": (lambda signer: with_headers(signer, twice("client-id")), MALFORMED),
    "N02-two": (lambda signer: with_headers(signer, twice("signature")), MALFORMED),
    "N14-absent": (lambda signer: with_headers(signer, without("request-time")), MISSING),
    "N14-two": (lambda signer: with_headers(signer, twice("request-time")), MALFORMED),
    "N14-words": (lambda signer: request(signer, request_time="yesterday"), MALFORMED),
    "N14-zoneless": (lambda signer: request(signer, request_time="2026-02-03T11:31:05"), MALFORMED),
    "N17": (lambda signer: changed(signer, re_serialised), BAD),
    "N18-byte": (lambda signer: changed(signer, lambda body: body.replace(b"7700", b"7701")), BAD),
    "N18-lf": (lambda signer: changed(signer, lambda body: body + b"\n"), BAD),
    "N28": (lambda signer: request(signer, b""), MALFORMED),
    "N34": (lambda signer: sent(encode(signer.cn(merchant.payment())), {}, content_type=wire.FORM), WRONG_MEDIA),
    "N-part-twice": (lambda signer: with_signature(signer, lambda sign: f"{alipay.antom_header(sign)},keyVersion=1"),
                     MALFORMED),
    "N-no-list": (lambda signer: with_signature(signer, lambda sign: "a b c"), MALFORMED),
    "N-slow": (lambda signer: wire.post(PATH, b"{", content_type=wire.JSON, length=9), Expected(408, "too_slow")),
    "N-large": (lambda signer: wire.post(PATH, b"{", content_type=wire.JSON, length=70_000),
                Expected(413, "too_large")),
    "N-get": (lambda signer: wire.post(PATH, b"", method="GET"), Expected(405, "unsupported")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_message_that_antom_did_not_sign_is_refused_in_antoms_format(judge: Judge, name: str) -> None:
    build, expected = REFUSED[name]
    judge.row(build(judge.signer), expected, antom=True)


ACCEPTED: dict[str, Callable[[Signer], bytes]] = {
    "N01": request,
    "N05-older": lambda signer: older_key(signer),
    "N06-order": lambda signer: with_signature(
        signer, lambda sign: f"signature={quote(sign, safe='')}, keyVersion=1,  algorithm=RSA256, note=x"
    ),
    "N06-version": lambda signer: with_signature(
        signer, lambda sign: f"algorithm=RSA256,signature={quote(sign, safe='')}"
    ),
    "N07-raw": lambda signer: raw_plus(signer),
    "N10": lambda signer: request(signer, target=PATH + "?a=1"),
    "N12": lambda signer: with_headers(
        signer, lambda headers: headers | {"X-Forwarded-Prefix": "/pay", "X-Original-URI": "/pay/notify/antom-hk"}
    ),
    "N15": lambda signer: request(signer, request_time=merchant.now_iso(timedelta(hours=30))),
    "N-digits": lambda signer: request(signer, request_time="1770089465123"),
    "N-offset": lambda signer: request(signer, request_time="2026-02-03T11:31:05+08:00"),
    "N20-metadata": lambda signer: request(signer, with_metadata(b'{"x":6.0E-5,"y":1e999}')),
    "N-surrogate": lambda signer: request(signer, merchant.antom_payment().replace(b'"ok"', b'"\\ud800"')),
    "N-nul": lambda signer: request(signer, merchant.antom_payment().replace(b'"ok"', b'"\\u0000"')),
    "N29": lambda signer: request(signer).replace(b"application/json", b"application/json; charset=bogus"),
}


def with_metadata(metadata: bytes) -> bytes:
    return merchant.antom_payment().replace(b"{", b'{"metadata":' + metadata + b",", 1)


def older_key(signer: Signer) -> bytes:
    body = merchant.antom_payment()
    headers = signer.antom(body, key=signer.keys.hk_old)
    return sent(body, headers | {"signature": alipay.antom_header(headers["signature"], version="2")})


def raw_plus(signer: Signer) -> bytes:
    """A signature with a `+`, sent unescaped: percent-decoding leaves it as it is."""
    while True:
        body = merchant.antom_payment()
        headers = signer.antom(body)
        if "+" in headers["signature"]:
            spelled = f"algorithm=RSA256,keyVersion=1,signature={headers['signature']}"
            return sent(body, headers | {"signature": spelled})


@pytest.mark.parametrize("name", ACCEPTED)
def test_message_that_antom_signed_is_accepted(judge: Judge, name: str) -> None:
    judge.row(ACCEPTED[name](judge.signer), OK, antom=True)


def test_n08_path_stripped_by_a_proxy_is_configured(judge: Judge) -> None:
    """Only the configured path is tried, whatever headers name another."""
    judge.row(request(judge.signer, path="/pay" + PATH), BAD, antom=True)
    behind = "/notify/antom-behind"
    judge.row(request(judge.signer, path="/pay" + behind, target=behind), OK, antom=True)
    judge.row(request(judge.signer, path=behind, target=behind), BAD, antom=True)


def test_n11_absolute_target_is_refused_and_its_path_is_not_signed(judge: Judge) -> None:
    target = "http://evil.example" + PATH
    judge.row(request(judge.signer, path=PATH, target=target), Expected(400, "malformed"))


@pytest.mark.parametrize(("hours_ago", "counted"), [(30, 1), (-26, 1), (25.1, 1), (24.9, 0), (0, 0), (-24.9, 0)])
def test_n15_stale_request_time_is_counted_and_accepted(judge: Judge, hours_ago: float, counted: int) -> None:
    name = 'alipay_notify_stale_request_time_total{account="antom-hk"}'
    before = judge.server.state()["samples"].get(name, 0)
    judge.row(request(judge.signer, request_time=merchant.now_iso(timedelta(hours=hours_ago))), OK, antom=True)
    assert judge.server.state()["samples"].get(name, 0) == before + counted


# Signed by Antom and yet no message that can be applied: kept, acknowledged, and held by the worker.
UNREADABLE: dict[str, bytes] = {
    "N20-nan": merchant.antom_payment().replace(b'"7700"', b"NaN"),
    "N20-infinity": merchant.antom_payment().replace(b'"7700"', b"Infinity"),
    "N20-exponent": merchant.antom_payment().replace(b'"7700"', b"1e999"),
    "N24": merchant.antom_payment().decode().encode("utf-16"),
    "N25": b"\xef\xbb\xbf" + merchant.antom_payment(),
    "N26-after": merchant.antom_payment() + b" and more",
    "N26-two": merchant.antom_payment() + merchant.antom_payment(),
    "N26-comment": b"/* note */" + merchant.antom_payment(),
    "N26-quotes": merchant.antom_payment().replace(b'"', b"'"),
    "N30-decimal": merchant.antom_payment().replace(b'"7700"', b'"77.00"'),
    "N30-number": merchant.antom_payment().replace(b'"7700"', b"7700"),
    "N31": merchant.antom_payment().replace(b'"resultStatus":"S"', b'"resultStatus":"F"'),
    "N32-unknown": merchant.antom_payment().replace(b"PAYMENT_RESULT", b"PAYMENT_MIRACLE"),
    "N32-case": merchant.antom_payment().replace(b"PAYMENT_RESULT", b"payment_result"),
    "N33-case": merchant.antom_payment().replace(b"paymentAmount", b"PaymentAmount"),
    "N-deep": b"[" * 20_000,
    "N-digits": merchant.antom_payment().replace(b'"7700"', b"9" * 5000),
    "N-twice": merchant.antom_payment().replace(b'{"notifyType"', b'{"paymentRequestId":"x","notifyType"'),
    "N-bytes": b"\x00\xff\xfe",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_signed_body_is_accepted_though_it_cannot_be_parsed(judge: Judge, name: str) -> None:
    judge.row(request(judge.signer, UNREADABLE[name]), OK, antom=True)


def test_n34_json_at_a_form_account_is_refused_in_plain_text(judge: Judge) -> None:
    judge.row(wire.post("/notify/shop-cn", merchant.antom_payment(), content_type=wire.JSON), WRONG_MEDIA)
