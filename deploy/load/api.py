"""Read order pages and the event feed from the admin API, for verification; a few requests at a time.

A restarting worker or a failing-over store is no finding, so a request without an answer is repeated until the
verification's deadline. An answer that this API does not give ends the verification.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct

from deploy.load import judge
from deploy.load.judge import OrderKey, Page, SeenEvent

AT_ONCE = 16
_TIMEOUT_S = 10.0
_PAUSE_S = 0.25
_EVENTS_MAX = 1000  # the API's limit for one answer
_ANY_TOPIC = "all"

T = TypeVar("T")


class UnreadableAnswer(Exception):
    """An order page or the events cannot be read. The message names the source and the reason."""


class _FeedEvent(Struct, frozen=True):
    topic: str
    data: msgspec.Raw


class _Events(Struct, frozen=True):
    events: tuple[_FeedEvent, ...]
    next: int


class Api:
    """Client of the admin API at one address. `until` is its deadline by `time.monotonic`.

    The API needs a token to be read from another machine.
    """

    def __init__(self, url: str, *, until: float, at_once: int = AT_ONCE, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._until = until
        self._in_flight = asyncio.Semaphore(at_once)
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=at_once),
            headers={"Authorization": f"Bearer {token}"} if token else None,
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def order(self, order: OrderKey) -> Page:
        """Return the order's page; an unknown order has an empty one.

        Raises:
            UnreadableAnswer: no answer came before the deadline, or an answer that this API does not give.
        """
        account, number = order
        content = await self._get(f"/api/orders/{quote(account, safe='')}/{quote(number, safe='')}")
        return judge.ABSENT if content is None else self._decoded(content, Page)

    async def events_after(self, number: int, *, limit: int = _EVENTS_MAX, topic: str = "") -> _Events:
        """Return the feed's events after this number, and the number for the next request.

        Raises:
            UnreadableAnswer: as above.
        """
        content = await self._get(f"/api/events?after={number}&limit={limit}" + (f"&topic={topic}" if topic else ""))
        if content is None:
            raise UnreadableAnswer(f"{self._url} has no event feed: give --admin the admin port of `console` or `up`")
        return self._decoded(content, _Events)

    async def last_event(self) -> int:
        """Return the number of the last event. The feed has no request for it, so this is a binary search."""
        low, high = 0, 1
        while (await self.events_after(high, limit=1, topic=_ANY_TOPIC)).events:
            low, high = high, high * 4
        # There is no event after `high`; there is one after `low`, or `low` is the beginning.
        while low < high:
            middle = (low + high) // 2
            if (await self.events_after(middle, limit=1, topic=_ANY_TOPIC)).events:
                low = middle + 1
            else:
                high = middle
        return low

    async def _get(self, path: str) -> bytes | None:
        """Return the answer's body, or `None` if the API does not know the order."""
        async with self._in_flight:
            while True:
                status, content = await self._request(path)
                if status == 200:
                    return content
                if status == 404 and b'"error"' in content:
                    return None
                if status == 401:
                    raise UnreadableAnswer(f"{self._url} needs the admin token: give its file with --token-file")
                if status not in (0, 502, 503, 504):
                    raise UnreadableAnswer(f"{self._url}{path} answers {status}: is --admin the admin port?")
                if time.monotonic() > self._until:
                    raise UnreadableAnswer(
                        f"{self._url} does not answer: {content.decode('utf-8', 'replace') or status}"
                    )
                await asyncio.sleep(_PAUSE_S)

    async def _request(self, path: str) -> tuple[int, bytes]:
        try:
            async with self._http.get(self._url + path) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, (str(error) or type(error).__name__).encode()

    def _decoded(self, content: bytes, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=shape)
        except msgspec.MsgspecError as error:
            raise UnreadableAnswer(f"{self._url} does not answer like the admin API: {error}") from error


class AdminFeed:
    """Reads the order events after a number from the admin API's feed."""

    def __init__(self, api: Api, *, after: int) -> None:
        self._api = api
        self._after = after

    async def read(self) -> list[tuple[SeenEvent, bytes]]:
        """Return the events that are new since the last call."""
        read = await self._api.events_after(self._after)
        self._after = read.next
        return [(event_of(bytes(each.data)), bytes(each.data)) for each in read.events]


def event_of(value: bytes) -> SeenEvent:
    """Decode the judged part of an order event.

    Raises:
        UnreadableAnswer: the value is no order event.
    """
    try:
        return msgspec.json.decode(value, type=SeenEvent)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UnreadableAnswer(f"an order event cannot be read: {error}") from error
