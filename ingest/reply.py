"""An answer on its way out: `ingest.answers`' fixed bytes as aiohttp's response.

aiohttp's own response builds its header anew for each request, from a multidict, and costs more than reading the form.
Ours are fixed but for the time, so they are joined from two pieces and written at once.
"""

import time
from email.utils import formatdate

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ingest import answers
from ingest.answers import Answer


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


_FIXED = answers.refusals(None)


def fixed(status: int) -> Answer:
    """The answer to what belongs to no account."""
    return _FIXED[status]
