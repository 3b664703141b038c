"""Rows L and X: nothing of a request, a secret or a person where it does not belong, and nothing asked for outside."""

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.bad_input import merchant, wire
from tests.bad_input.judge import OK, Expected, Judge
from tests.bad_input.merchant import encode
from tests.support import alipay

PATH = "/notify/shop-cn"
FALSE_LINE = 'x\r\n{"event":"notification","outcome":"accepted"}\r\n\x1b[31mred\u2028\u2029\u202e\x85\u200b\x00'


def quiet(judge: Judge) -> None:
    """Everything that came before has its line, and is no longer looked at."""
    time.sleep(0.1)
    judge.server.mark()


def lines(judge: Judge, *, at_least: int) -> list[str]:
    deadline = time.monotonic() + 10
    while len(found := judge.server.state()["log"].split("\n")) <= at_least and time.monotonic() < deadline:
        time.sleep(0.02)
    return [line for line in found if line]


@pytest.mark.parametrize("field", ["out_trade_no", "notify_id", "subject", "trade_status", "trade_no", "notify_type"])
def test_l01_line_break_in_a_field_does_not_break_the_log_line(judge: Judge, field: str) -> None:
    quiet(judge)
    request = wire.post(PATH, encode(judge.signer.cn(merchant.payment(**{field: FALSE_LINE}))))
    assert wire.send(judge.port, request).body == b"success"
    found = lines(judge, at_least=1)
    assert len(found) == 1
    assert isinstance(json.loads(found[0]), dict)
    assert found[0].isprintable()
    judge.canary()


def test_l01_forged_field_is_escaped_too(judge: Judge) -> None:
    quiet(judge)
    forged = judge.signer.cn(merchant.payment(out_trade_no=FALSE_LINE), key=judge.signer.keys.stranger)
    assert wire.send(judge.port, wire.post(PATH, encode(forged))).status == 401
    found = lines(judge, at_least=1)
    assert len(found) == 1
    assert found[0].isprintable()


@pytest.mark.parametrize("field", ["out_trade_no", "notify_id", "trade_no"])
def test_h18_bytes_that_are_no_text_are_escaped_and_never_replaced(judge: Judge, field: str) -> None:
    broken = judge.signer.cn(merchant.payment(**{field: f"{merchant.fresh('B-')}\xff\xb4"}), charset="latin-1")
    forged = broken | {"sign": judge.signer.cn(merchant.payment())["sign"]}
    for params, status in ((broken, 200), (forged, 401)):
        quiet(judge)
        assert wire.send(judge.port, wire.post(PATH, encode(params, "latin-1"))).status == status
        (line,) = lines(judge, at_least=1)
        assert "\N{REPLACEMENT CHARACTER}" not in line + json.dumps(judge.server.state()["records"], ensure_ascii=False)
        assert line.isprintable()
        if field == "out_trade_no":
            assert "\\\\xff\\\\xb4" in line


def test_h18_number_cut_inside_an_emoji_is_no_number(judge: Judge) -> None:
    body = merchant.antom_payment().replace(b'"HK-', b'"HK-\\ud83d')
    headers = judge.signer.antom(body)
    headers["signature"] = alipay.antom_header(headers["signature"])
    quiet(judge)
    request = wire.post("/notify/antom-hk", body, headers=headers, content_type=wire.JSON)
    assert wire.send(judge.port, request).status == 200
    (line,) = lines(judge, at_least=1)
    assert json.loads(line)["out_trade_no"] == ""
    assert [record["key"] for record in judge.server.state()["records"]] == ["antom-hk:"]


def test_l01_headers_and_paths_are_never_logged(judge: Judge) -> None:
    judge.server.mark()
    headers = {"User-Agent": "agent-canary-77", "X-Request-Id": "id-canary-77", "Referer": "ref-canary-77"}
    wire.send(judge.port, wire.post("/path-canary-77", b"", headers=headers))
    wire.send(judge.port, wire.post(PATH, encode(judge.signer.cn(merchant.payment())), headers=headers))
    state = judge.server.state()
    assert "canary-77" not in state["log"] + state["metrics"]


def test_l03_payer_and_texts_are_in_no_log_line_and_no_record_header(judge: Judge) -> None:
    person = {
        "buyer_logon_id": "person-one@mail.example",
        "buyer_id": "2088111122223333",
        "buyer_email": "person-two@mail.example",
        "buyer_open_id": "openid-person-three",
        "subject": "subject-of-person-four",
        "body": "body-of-person-five",
        "passback_params": "params-of-person-six",
    }
    quiet(judge)
    params = judge.signer.cn(merchant.payment(**person))
    assert wire.send(judge.port, wire.post(PATH, encode(params))).body == b"success"
    forged = judge.signer.cn(merchant.payment(**person), key=judge.signer.keys.stranger)
    assert wire.send(judge.port, wire.post(PATH, encode(forged))).status == 401
    shown = "".join(lines(judge, at_least=2))
    state = judge.server.state()
    for value in (*person.values(), params["sign"], forged["sign"]):
        assert value not in shown + state["metrics"]
        assert value not in json.dumps(state["records"][0]["headers"])


def test_l04_sent_values_create_no_metric_series(judge: Judge) -> None:
    def send(number: int) -> None:
        odd = merchant.payment(app_id=f"a{number}", trade_status=f"S{number}", notify_type=f"t{number}")
        wire.send(judge.port, wire.post(PATH, encode(judge.signer.cn(odd)), headers={"User-Agent": f"u{number}"}))
        wire.send(judge.port, wire.post(f"/notify/shop{number}", b"", method=f"M{number % 7}ETHOD"))
        wire.send(judge.port, wire.post(f"/p{number}", b"", method="GET"))

    send(0)
    before = set(judge.server.state()["samples"])
    for number in range(1, 150):
        send(number)
    assert set(judge.server.state()["samples"]) == before
    judge.canary()


def test_l06_every_answer_is_fixed_text_without_a_version(judge: Judge) -> None:
    for request in (b"\x00\r\n\r\n", wire.post("/", b""), wire.post(PATH, b"a=b"), wire.post(PATH, b"a", method="GET")):
        answer = wire.send(judge.port, request)
        assert answer.body == b"fail"
        assert answer.headers["server"] == "alipay-notify"
        assert set(answer.headers) <= {
            "server", "date", "content-type", "content-length", "connection", "allow", "retry-after"
        }  # fmt: skip
        assert re.search(r"\d+\.\d+", answer.raw.decode().replace("HTTP/1.1", "")) is None


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "gopher://127.0.0.1:9/x"])
@pytest.mark.parametrize("field", ["notify_url", "return_url", "cert_url", "alipay_cert_url"])
def test_x01_address_in_a_form_is_only_text(judge: Judge, url: str, field: str) -> None:
    before = judge.server.state()["files"]
    judge.row(wire.post(PATH, encode(judge.signer.cn(merchant.payment(**{field: url})))), OK)
    assert judge.server.state()["files"] <= before + 1


def test_s35_flood_of_forgeries_does_not_delay_genuine_requests(judge_of: Callable[..., Judge]) -> None:
    judge = judge_of(ALIPAY_NOTIFY_LOG_REFUSALS_PER_S="20")
    forged = wire.post(PATH, encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.stranger)))
    judge.server.mark()
    with wire.connect(judge.port) as opened:
        for _ in range(500):
            opened.sendall(forged)
            assert wire.receive(opened).status == 401
        judge.canary()
    assert len(judge.server.state()["log"].splitlines()) < 200


def test_refusal_is_remembered_with_its_claimed_order(judge: Judge) -> None:
    forged = encode(judge.signer.cn(merchant.payment(), key=judge.signer.keys.stranger))
    judge.row(wire.post(PATH, forged), Expected(401, "bad_signature", "bad_signature"))
