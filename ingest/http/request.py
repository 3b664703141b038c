"""One request as it arrives: its header, and its body within its limits (`ingest.receive.Arrived`)."""

from collections.abc import Sequence
from typing import Protocol

from ingest.errors import Malformed, TooLarge, TooSlow
from ingest.pending import Pending
from schemas.dispositions import Refusal
from schemas.form import BODY_BYTES_MAX

# The header fields that are kept, in lower case. All others only count against the limits.
KEPT = frozenset(
    {
        b"client-id",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"request-time",
        b"signature",
        b"transfer-encoding",
    }
)
HTTP_1_0 = "1.0"


class BrokenBody(Exception):
    """The body of a request is not valid HTTP, so it can never be read to its end."""


class Asks(Protocol):
    """The connection of a request."""

    def await_body(self, request: "Request", /) -> None:
        """The request is wanted, and waits for its body from now on."""


class Request:
    """A request whose header is complete. The connection adds its body as it arrives."""

    __slots__ = (
        "_arrival",
        "_connection",
        "_error",
        "_received",
        "_size",
        "body",
        "headers",
        "is_complete",
        "keeps_alive",
        "method",
        "target",
        "version",
    )

    def __init__(
        self,
        connection: Asks,
        *,
        method: str,
        target: bytes,
        version: str,
        headers: dict[bytes, list[bytes]],
        keeps_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.keeps_alive = keeps_alive
        self.is_complete = False
        self.body: bytes | None = None  # once it has been read
        self._connection = connection
        # A list of pieces would take twelve times the memory of its bytes, if each chunk has two of them.
        self._received: bytes | bytearray = b""
        self._size = 0
        self._error: Exception | None = None
        self._arrival: Pending | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header field, named in lower case."""
        return self.headers[name][0] if name in self.headers else None

    def header_values(self, name: bytes) -> Sequence[bytes]:
        """Return all values of a header field, named in lower case."""
        return self.headers.get(name, ())

    @property
    def expects_continue(self) -> bool:
        """Whether the sender waits for `100 Continue`, and has sent nothing of the body yet."""
        return (
            not self._size
            and self.version != HTTP_1_0
            and (self.header(b"expect") or b"").strip().lower() == b"100-continue"
        )

    async def read_body(self) -> bytes:
        """Return the whole body (see `Arrived`). Most bodies are complete already and need no waiting."""
        if self.version == HTTP_1_0 and self.header(b"transfer-encoding") is not None:
            raise Malformed(Refusal.MALFORMED, "HTTP/1.0 has no Transfer-Encoding")
        if self._error is None and not self.is_complete:
            self._arrival = Pending()
            self._connection.await_body(self)
            await self._arrival
        if self._error is not None:
            raise self._error
        self.body, self._received = bytes(self._received), b""
        return self.body

    def add(self, piece: bytes) -> None:
        """Add the next bytes of the body."""
        self._size += len(piece)
        if self._size > BODY_BYTES_MAX:
            self._fail(TooLarge(f"the body has more than {BODY_BYTES_MAX} bytes"))
        elif not self._received:
            self._received = piece
        elif isinstance(self._received, bytearray):
            self._received += piece
        else:
            self._received = bytearray(self._received + piece)

    def fail(self, error: Exception) -> None:
        """The body will never be whole: `read_body` raises this error. Only the first one counts."""
        self._fail(error)
        self.wake()

    def wake(self) -> None:
        """Let the waiting story go on, if the body is whole or failed."""
        if self._arrival is not None and (self.is_complete or self._error is not None):
            self._arrival.end()

    def expire(self) -> None:
        """The body has taken too long."""
        self.fail(TooSlow())

    def _fail(self, error: Exception) -> None:
        if not self.is_complete and self._error is None:
            self._error = error
            self._received = b""
