"""An answer on its way out: `ingest.http.responses`' fixed bytes as aiohttp's response.

aiohttp's own response builds its header anew for each request, from a multidict, and costs more than reading the form.
Ours are fixed but for the time, so they are joined from two pieces and written at once.

What the sender reads: fixed texts, in the words of the account's family.

Nothing of the request is ever in an answer, and no version, path or reason: whoever forges learns only that it failed.
Alipay stops sending when it reads exactly `success`; Antom reads its JSON. Neither verifies a signature on the answer.
"""

import time
from email.utils import formatdate
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from msgspec import Struct

from schemas.accounts import Account, Family

SERVER = "alipay-notify"  # the name alone: a version would tell an attacker where to look
RETRY_AFTER_S = 60  # for load balancers and people; Alipay follows its own schedule
ALLOW = "POST"

# Antom's own result codes for what our status means. 408 and 503 say "unknown", so that it sends again.
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
    """One answer: its status, its header lines but for those that change, and its body.

    `is_timed`: Antom's success carries a `response-time`.
    """

    status: int
    head: bytes
    body: bytes
    is_timed: bool = False


def success(account: Account) -> Answer:
    """The answer that ends the re-sending."""
    if account.family is not Family.ANTOM:
        return _answer(200, "text/plain", b"success")
    body = _antom_body("SUCCESS", "S", "success")
    return _answer(200, "application/json", body, {"client-id": account.client_id or ""}, is_timed=True)


def refusal(family: Family | None, status: int) -> Answer:
    """The answer to a request that is refused with `status`; without a family, to what was no notification at all."""
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
    """Every refusal in the family's words, by status."""
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
    """The answer to what belongs to no account."""
    return _FIXED[status]


class Stamp:
    """The header lines that say the time, made once a second."""

    __slots__ = ("_second", "date", "response_time")

    def __init__(self) -> None:
        self._second = -1
        self.date = self.response_time = b""

    def at(self, second: int) -> "Stamp":
        if second != self._second:
            self._second = second
            self.date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self.response_time = time.strftime("response-time: %Y-%m-%dT%H:%M:%SZ\r\n", time.gmtime(second)).encode()
        return self


class Reply(web.StreamResponse):
    """One answer to one request. It ends the connection where `closing`, or where the request asks for it."""

    def __init__(self, answer: Answer, *, closing: bool, stamp: Stamp | None = None) -> None:
        # Not super().__init__: it would build the headers, the cookies and the state that we do without.
        self._answer = answer
        self._closing = closing
        self._stamp = stamp or Stamp()
        self._request: web.BaseRequest | None = None

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def keep_alive(self) -> bool | None:
        return not self._closing

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self._request = request
        self._closing = self._closing or not request.keep_alive or request.version < (1, 1)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything at once. Returns when the sender's socket took it.

        Raises:
            ConnectionError: the sender is gone.
        """
        request = self._request
        assert request is not None
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the sender is gone")
        transport.write(self._bytes(has_body=request.method != "HEAD"))
        await request.writer.drain()

    def _bytes(self, *, has_body: bool) -> bytes:
        answer = self._answer
        stamp = self._stamp.at(int(time.time()))
        return b"".join(
            (
                answer.head,
                stamp.date,
                stamp.response_time if answer.is_timed else b"",
                b"Connection: close\r\n\r\n" if self._closing else b"\r\n",
                answer.body if has_body else b"",
            )
        )
