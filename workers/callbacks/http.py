"""One attempt at a callback: a POST by aiohttp's client, to an allowed address, with every part of it bounded.

No redirect is followed, no proxy of the environment is asked, nothing is unpacked, and of the answer's body only so
much is read as lets the connection be used again.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver

from workers.callbacks.addresses import Allowed, CheckedResolver, ForbiddenAddress
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.messages import Message
from workers.callbacks.schedule import CallbackAnswer, CallbackOutcome

USER_AGENT = "alipay-notify"
BODY_BYTES_MAX = 16 * 1024  # of an answer, read and dropped
HEADER_BYTES_MAX = 8190
DETAIL_CHARACTERS_MAX = 200
# Less than servers keep an idle connection: an attempt on one that they are closing would fail. A new connection goes
# to an address that is resolved and checked anew.
IDLE_S = 1.0


class HttpPoster:
    """Sends callbacks. Use it as a context: the connections are closed at its end."""

    def __init__(
        self,
        allowed: Allowed,
        *,
        now_ms: Callable[[], int],
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = allowed
        self._now_ms = now_ms
        self._resolver = resolver
        self._tls = tls
        self._sessions: dict[str, ClientSession] = {}

    async def __aenter__(self) -> "HttpPoster":
        self._sessions = {"http": self._session(is_encrypted=False), "https": self._session(is_encrypted=True)}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    async def post(self, endpoint: Endpoint, message: Message) -> CallbackAnswer:
        """Return the outcome of an attempt; it takes at most the endpoint's time-out."""
        if (forbidden := self._forbidden(endpoint)) is not None:
            return forbidden
        try:
            async with asyncio.timeout(endpoint.timeout_s):
                return await self._post(endpoint, message)
        except TimeoutError:
            return CallbackAnswer(outcome=CallbackOutcome.TIMEOUT, detail=f"no answer within {endpoint.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(error)

    async def _post(self, endpoint: Endpoint, message: Message) -> CallbackAnswer:
        session = self._sessions[urlsplit(endpoint.url).scheme]
        headers = message.headers(endpoint.secrets, at_s=self._now_ms() // 1000)
        async with session.post(endpoint.url, data=message.body, headers=headers, allow_redirects=False) as response:
            if await _is_longer(response):
                response.close()
            return _answer(response.status, response.headers.get("Retry-After", ""))

    def _forbidden(self, endpoint: Endpoint) -> CallbackAnswer | None:
        """Return the refusal of a URL whose host is an address: aiohttp asks no resolver for one."""
        parts = urlsplit(endpoint.url)
        host = parts.hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
        if self._allowed.allows(host, is_encrypted=parts.scheme == "https"):
            return None
        return CallbackAnswer(outcome=CallbackOutcome.FORBIDDEN, detail=f"callbacks may not be sent to {host}")

    def _session(self, *, is_encrypted: bool) -> ClientSession:
        connector = TCPConnector(
            limit=0,  # `workers.callbacks.sender` bounds the attempts
            resolver=CheckedResolver(self._allowed, is_encrypted=is_encrypted, resolver=self._resolver),
            use_dns_cache=False,
            keepalive_timeout=IDLE_S,
            ssl=self._tls or True,
        )
        return ClientSession(
            connector=connector,
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=ClientTimeout(total=None),  # `post` has one for all parts together
            auto_decompress=False,
            trust_env=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )


async def _is_longer(response: aiohttp.ClientResponse) -> bool:
    """Read the body up to the limit; return whether there is more of it."""
    read = 0
    while chunk := await response.content.read(BODY_BYTES_MAX):
        read += len(chunk)
        if read > BODY_BYTES_MAX:
            return True
    return False


def _answer(status: int, retry_after: str) -> CallbackAnswer:
    detail = f"it answered {status}"
    if 200 <= status < 300:
        return CallbackAnswer(outcome=CallbackOutcome.DELIVERED, status=status)
    if status == 410:
        return CallbackAnswer(outcome=CallbackOutcome.GONE, status=status, detail=detail)
    seconds = int(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8 else 0
    return CallbackAnswer(outcome=CallbackOutcome.REFUSED, status=status, detail=detail, retry_after_ms=seconds * 1000)


def _failed(error: Exception) -> CallbackAnswer:
    """Return the answer of an attempt that got none. The text of an error has no header and no body in it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return CallbackAnswer(outcome=CallbackOutcome.FORBIDDEN, detail=_shown(str(cause)))
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    return CallbackAnswer(outcome=CallbackOutcome.UNREACHABLE, detail=_shown(f"{type(error).__name__}: {error}"))


def _shown(text: str) -> str:
    """Return the text as each store can keep it: an error may quote bytes of the answer."""
    printable = "".join([each if each.isprintable() else "�" for each in text])
    return printable.strip(": ")[:DETAIL_CHARACTERS_MAX]
