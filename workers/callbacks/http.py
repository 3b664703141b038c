"""One attempt at a callback: a POST by aiohttp's client, to an allowed address, with every part of it bounded.

No redirect is followed, no proxy of the environment is asked, nothing is unpacked, and of the answer's body only so
much is read as lets the connection be used again. The status decides, whatever becomes of the body: an endpoint that
has answered 2xx has the event.

A server may close a connection at the moment when a request comes on it that was idle before. Such a request is sent
again at once, on another connection; the endpoint knows a copy by its id.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver

from schemas import retry_after
from workers.callbacks.addresses import Allowed, CheckedResolver, ForbiddenAddress
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.messages import Message
from workers.callbacks.schedule import RETRY_AFTER_MS_MAX, CallbackAnswer, CallbackOutcome

USER_AGENT = "alipay-notify"
BODY_BYTES_MAX = 16 * 1024  # of an answer, read and dropped
HEADER_BYTES_MAX = 8190
DETAIL_CHARACTERS_MAX = 200
# Less than servers keep an idle connection: an attempt on one that they are closing would fail. A new connection goes
# to an address that is resolved and checked anew.
IDLE_S = 1.0


class _Attempt:
    """One attempt while it runs. `answer` is there as soon as the status is."""

    def __init__(self) -> None:
        self.is_reused = False  # whether the connection had another request before
        self.answer: CallbackAnswer | None = None


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
        attempt = _Attempt()
        try:
            async with asyncio.timeout(endpoint.timeout_s):
                await self._post(endpoint, message, attempt)
        except TimeoutError:
            detail = f"no answer within {endpoint.timeout_s:g} s"
            failed = CallbackAnswer(outcome=CallbackOutcome.TIMEOUT, detail=detail)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failed = _failed(error)
        return attempt.answer or failed

    async def _post(self, endpoint: Endpoint, message: Message, attempt: _Attempt) -> None:
        while True:
            attempt.is_reused = False
            try:
                return await self._post_once(endpoint, message, attempt)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Each one that was closed leaves the pool, so this ends with a new connection at the latest.
                if attempt.answer is not None or not attempt.is_reused:
                    raise

    async def _post_once(self, endpoint: Endpoint, message: Message, attempt: _Attempt) -> None:
        session = self._sessions[urlsplit(endpoint.url).scheme]
        headers = message.headers(endpoint.secrets, at_s=self._now_ms() // 1000)
        async with session.post(
            endpoint.url, data=message.body, headers=headers, allow_redirects=False, trace_request_ctx=attempt
        ) as response:
            attempt.answer = self._answer(response.status, response.headers.get("Retry-After", ""))
            if await _is_longer(response):
                response.close()

    def _answer(self, status: int, retry_after_text: str) -> CallbackAnswer:
        detail = f"it answered {status}"
        if 200 <= status < 300:
            return CallbackAnswer(outcome=CallbackOutcome.DELIVERED, status=status)
        if status == 410:
            return CallbackAnswer(outcome=CallbackOutcome.GONE, status=status, detail=detail)
        wait_ms = retry_after.wait_ms(retry_after_text, now_ms=self._now_ms(), most_ms=RETRY_AFTER_MS_MAX)
        return CallbackAnswer(outcome=CallbackOutcome.REFUSED, status=status, detail=detail, retry_after_ms=wait_ms)

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
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        return ClientSession(
            connector=connector,
            trace_configs=[tracing],
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=ClientTimeout(total=None),  # `post` has one for all parts together
            auto_decompress=False,
            trust_env=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )


async def _note_reuse(session: ClientSession, context: Any, parameters: aiohttp.TraceConnectionReuseconnParams) -> None:
    context.trace_request_ctx.is_reused = True


async def _is_longer(response: aiohttp.ClientResponse) -> bool:
    """Read the body up to the limit; return whether there is more of it."""
    read = 0
    while chunk := await response.content.read(BODY_BYTES_MAX):
        read += len(chunk)
        if read > BODY_BYTES_MAX:
            return True
    return False


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
