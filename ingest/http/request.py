"""aiohttp's request with the receiver's reading of the body, within its deadline and size limit."""

import asyncio

from aiohttp import StreamReader, web
from multidict import CIMultiDictProxy

from ingest.errors import Malformed, TooLarge, TooSlow
from ingest.http.connection import BrokenBody, Connection
from ingest.receive import Gone
from schemas.dispositions import Refusal
from schemas.form import BODY_BYTES_MAX

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Incoming(web.BaseRequest):
    """A request whose header is complete (`ingest.receive.Arrived`)."""

    body: bytes | None = None
    body_deadline_s: float

    @property
    def target(self) -> str:
        return self._message.path

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._message.headers

    async def read_body(self) -> bytes:
        """Return the whole body (see `Arrived`). Most bodies are complete already and need no waiting."""
        if self.version < (1, 1) and "Transfer-Encoding" in self.headers:
            raise Malformed(Refusal.MALFORMED, "HTTP/1.0 has no Transfer-Encoding")
        content = self.content
        if content.is_eof():
            body = content.read_nowait()
        else:
            body = await self._read_the_rest(content)
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge(f"the body has more than {BODY_BYTES_MAX} bytes")
        self.body = body
        return body

    def drop_rest(self) -> None:
        """Drop what still arrives of the body, because the request is refused."""
        protocol = self.protocol
        if isinstance(protocol, Connection) and not self.content.is_eof():
            protocol.drop_rest(self.content)

    async def _read_the_rest(self, content: StreamReader) -> bytes:
        protocol = self.protocol
        if isinstance(protocol, Connection) and protocol.is_broken:
            raise BrokenBody
        self._send_continue()
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self.body_deadline_s):
                while piece := await content.readany():
                    pieces.append(piece)
                    size += len(piece)
                    if size > BODY_BYTES_MAX:
                        break
        except TimeoutError:
            raise TooSlow from None
        except (OSError, web.PayloadAccessError) as error:
            raise Gone from error
        except web.RequestPayloadError as error:
            raise BrokenBody from error
        return b"".join(pieces)

    def _send_continue(self) -> None:
        """Send `100 Continue` if the sender waits for it. The announced size has been checked before."""
        if self.headers.get("Expect", "").lower() == "100-continue" and self.version >= (1, 1):
            transport = self.transport
            if transport is not None and not transport.is_closing():
                transport.write(_CONTINUE)
