"""The receiver's fixed answers, by family, and their bytes.

An answer contains nothing of the request, no version and no reason, so a forger learns only that the request failed.
Alipay stops resending when it reads exactly `success`; Antom reads its JSON. Neither verifies a signature on answers.
"""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from msgspec import Struct

from schemas.accounts import Account, Family

SERVER = "alipay-notify"  # without a version, which would help attackers
RETRY_AFTER_S = 60  # for load balancers; Alipay has its own schedule of resends
ALLOW = "POST"

# Antom's result codes for our statuses. 408 and 503 have result status U (unknown), after which Antom resends.
_ANTOM_CODES = {
    400: ("PARAM_ILLEGAL", "F"),
    401: ("INVALID_SIGNATURE", "F"),
    403: ("ACCESS_DENIED", "F"),
    404: ("NO_INTERFACE_DEF", "F"),
    405: ("METHOD_NOT_SUPPORTED", "F"),
    408: ("PROCESS_FAIL", "U"),
    413: ("PARAM_ILLEGAL", "F"),
    415: ("MEDIA_TYPE_NOT_ACCEPTABLE", "F"),
    503: ("UNKNOWN_EXCEPTION", "U"),
}
STATUSES = tuple(_ANTOM_CODES)


class Answer(Struct, frozen=True, kw_only=True):
    """One answer. `head` has the header lines that never change. `is_timed`: Antom's success needs `response-time`."""

    status: int
    head: bytes
    body: bytes
    is_timed: bool = False


def success(account: Account) -> Answer:
    """Return the answer that ends the resends of an account's notifications."""
    if account.family is not Family.ANTOM:
        return _answer(200, "text/plain", b"success")
    body = _antom_body("SUCCESS", "S", "success")
    return _answer(200, "application/json", body, {"client-id": account.client_id or ""}, is_timed=True)


def refusal(family: Family | None, status: int) -> Answer:
    """Return the answer to a refused request. `family` is `None` if its account is unknown."""
    headers = {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ALLOW
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if family is not Family.ANTOM:
        return _answer(status, "text/plain", b"fail", headers)
    code, result_status = _ANTOM_CODES[status]
    return _answer(status, "application/json", _antom_body(code, result_status, "fail"), headers)


def refusals(family: Family | None) -> dict[int, Answer]:
    """Return the answers to all refusals of a family, by status."""
    return {status: refusal(family, status) for status in STATUSES}


def _antom_body(code: str, status: str, message: str) -> bytes:
    return msgspec.json.encode({"result": {"resultCode": code, "resultStatus": status, "resultMessage": message}})


def _answer(
    status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None, *, is_timed: bool = False
) -> Answer:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Server: {SERVER}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return Answer(status=status, head="".join(line + "\r\n" for line in lines).encode(), body=body, is_timed=is_timed)


_FIXED = refusals(None)


def fixed(status: int) -> Answer:
    """Return the answer to a request that belongs to no account."""
    return _FIXED[status]


class Reply(NamedTuple):
    """One answer to one request. The connection is closed after it if `closing`."""

    answer: Answer
    closing: bool


class Stamp:
    """Writes answers with the time, and remembers their bytes for a second, because most answers are the same."""

    def __init__(self) -> None:
        self._second = -1
        self._date = self._response_time = b""
        # With the answer itself, so that no other one gets its id within the second.
        self._rendered: dict[tuple[int, bool, bool], tuple[Answer, bytes]] = {}

    def render(self, reply: Reply, *, has_body: bool) -> bytes:
        """Return the bytes of an answer. `has_body` is false for HEAD."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self._response_time = time.strftime("response-time: %Y-%m-%dT%H:%M:%SZ\r\n", time.gmtime(second)).encode()
            self._rendered.clear()
        key = (id(reply.answer), reply.closing, has_body)
        rendered = self._rendered.get(key)
        if rendered is None:
            joined = self._join(reply.answer, closing=reply.closing, has_body=has_body)
            rendered = self._rendered[key] = (reply.answer, joined)
        return rendered[1]

    def _join(self, answer: Answer, *, closing: bool, has_body: bool) -> bytes:
        return b"".join(
            (
                answer.head,
                self._date,
                self._response_time if answer.is_timed else b"",
                b"Connection: close\r\n\r\n" if closing else b"\r\n",
                answer.body if has_body else b"",
            )
        )
