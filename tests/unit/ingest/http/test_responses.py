"""The answers, byte for byte."""

import json
from email.utils import formatdate
from unittest import mock

import pytest

from ingest import errors
from ingest.errors import Refused
from ingest.http import responses
from ingest.http.responses import Reply, Stamp
from schemas import accounts_toml
from schemas.accounts import Account, Family

HK = accounts_toml.parse({"accounts": {"h": {"family": "antom", "client_id": "C1", "keys": {"1": "k"}}}})["h"]
SHOP = accounts_toml.parse(
    {"accounts": {"s": {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["k"]}}}
)["s"]
UNKNOWN = (408, 503)


def subclasses() -> list[type[Refused]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Refused)][1:]


def test_form_is_answered_with_success_as_plain_text() -> None:
    answer = responses.success(SHOP)
    assert (answer.status, answer.body) == (200, b"success")
    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\nServer: alipay-notify\r\nContent-Type: text/plain\r\n")


def test_antom_is_answered_in_json_with_the_account_s_client_id() -> None:
    answer = responses.success(HK)
    assert json.loads(answer.body)["result"] == {
        "resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"
    }  # fmt: skip
    assert b"\r\nclient-id: C1\r\n" in answer.head
    assert answer.is_timed


@pytest.mark.parametrize("kind", subclasses())
@pytest.mark.parametrize("family", [*Family, None])
def test_every_refusal_has_a_fixed_answer_in_every_family(family: Family | None, kind: type[Refused]) -> None:
    answer = responses.refusals(family)[kind.status]
    if family is not Family.ANTOM:
        assert answer.body == b"fail"
    else:
        assert json.loads(answer.body)["result"]["resultStatus"] == ("U" if kind.status in UNKNOWN else "F")
    assert f"Content-Length: {len(answer.body)}\r\n".encode() in answer.head
    assert (b"Allow: POST\r\n" in answer.head) == (kind.status == 405)
    assert (b"Retry-After: 60\r\n" in answer.head) == (kind.status == 503)


def test_no_refusal_is_answered_500() -> None:
    assert len(subclasses()) == 11
    assert not [kind for kind in subclasses() if kind.status >= 500 and kind.status != 503]


@pytest.mark.parametrize("has_body", [True, False])
@pytest.mark.parametrize("closing", [True, False])
@pytest.mark.parametrize("account", [HK, SHOP])
def test_answer_is_written_whole_with_the_time_of_its_second(account: Account, closing: bool, has_body: bool) -> None:
    stamp = Stamp()
    for second in (1_764_500_000, 1_764_500_000, 1_764_500_001):
        with mock.patch("time.time", return_value=second + 0.5):
            written = stamp.render(Reply(responses.success(account), closing), has_body=has_body)
        head, _, body = written.partition(b"\r\n\r\n")
        assert f"Date: {formatdate(second, usegmt=True)}".encode() in head
        assert (b"response-time: 2025-11-30T" in head) == (account is HK)
        assert (b"Connection: close" in head) == closing
        assert bool(body) == has_body


def test_answers_made_anew_are_not_taken_for_earlier_ones() -> None:
    stamp = Stamp()
    for number in range(1000):
        account = accounts_toml.parse(
            {"accounts": {"h": {"family": "antom", "client_id": f"C{number}", "keys": {"1": "k"}}}}
        )["h"]
        assert b"client-id: C%d\r\n" % number in stamp.render(Reply(responses.success(account), False), has_body=True)
