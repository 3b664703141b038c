"""The admin API, read for verification: an order's page, and the feed of events. Few questions at a time.

A worker that is starting again, or a store that is failing over, is no finding: a question without an answer is asked
again for as long as the verification may take. An answer that is no answer of this API ends it.
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
from deploy.load.judge import Named, Page, SeenEvent

AT_ONCE = 16
_TIMEOUT_S = 10.0
_PAUSE_S = 0.25
_EVENTS_MAX = 1000  # what the API gives at once
_ANY_TOPIC = "all"

T = TypeVar("T")


class UnreadableAnswer(Exception):
    """What has to be looked at cannot be; the text says what, and why."""


class _Told(Struct, frozen=True):
    topic: str
    data: msgspec.Raw


class _Events(Struct, frozen=True):
    events: tuple[_Told, ...]
    next: int


class Api:
    """The admin API at one address, until a deadline by `time.monotonic`."""

    def __init__(self, url: str, *, until: float, at_once: int = AT_ONCE) -> None:
        self._url = url.rstrip("/")
        self._until = until
        self._room = asyncio.Semaphore(at_once)
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), connector=aiohttp.TCPConnector(limit=at_once)
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def order(self, named: Named) -> Page:
        """The order's page; an order that is not known has an empty one.

        Raises:
            UnreadableAnswer: there was no answer before the deadline, or not one of this API.
        """
        account, number = named
        content = await self._get(f"/api/orders/{quote(account, safe='')}/{quote(number, safe='')}")
        return judge.ABSENT if content is None else self._decoded(content, Page)

    async def events_after(self, number: int, *, limit: int = _EVENTS_MAX, topic: str = "") -> _Events:
        """The order events behind this number of the feed, and the number to ask with next.

        Raises:
            UnreadableAnswer: as above.
        """
        content = await self._get(f"/api/events?after={number}&limit={limit}" + (f"&topic={topic}" if topic else ""))
        if content is None:
            raise UnreadableAnswer(f"{self._url} has no feed of events: is it the admin port of a worker?")
        return self._decoded(content, _Events)

    async def last_event(self) -> int:
        """The number of the last event there is. The feed has no end to ask for, so it is searched for by halves."""
        low, high = 0, 1
        while (await self.events_after(high, limit=1, topic=_ANY_TOPIC)).events:
            low, high = high, high * 4
        # Behind `high` there is nothing; behind `low` there is, or it is the beginning.
        while low < high:
            middle = (low + high) // 2
            if (await self.events_after(middle, limit=1, topic=_ANY_TOPIC)).events:
                low = middle + 1
            else:
                high = middle
        return low

    async def _get(self, path: str) -> bytes | None:
        """The answer's body; `None` where nothing is known by that name."""
        async with self._room:
            while True:
                status, content = await self._asked(path)
                if status == 200:
                    return content
                if status == 404 and b'"error"' in content:
                    return None
                if status not in (0, 502, 503, 504):
                    raise UnreadableAnswer(f"{self._url}{path} answers {status}: is it the admin port?")
                if time.monotonic() > self._until:
                    raise UnreadableAnswer(
                        f"{self._url} does not answer: {content.decode('utf-8', 'replace') or status}"
                    )
                await asyncio.sleep(_PAUSE_S)

    async def _asked(self, path: str) -> tuple[int, bytes]:
        try:
            async with self._http.get(self._url + path) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, (str(error) or type(error).__name__).encode()

    def _decoded(self, content: bytes, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=shape)
        except msgspec.MsgspecError as error:
            raise UnreadableAnswer(f"{self._url} answers otherwise than the admin API does: {error}") from error


class AdminFeed:
    """The order events from a mark on, from the feed of the admin API."""

    def __init__(self, api: Api, *, after: int) -> None:
        self._api = api
        self._after = after

    async def read(self) -> list[tuple[SeenEvent, bytes]]:
        """What has come since the last reading; nothing where nothing has."""
        read = await self._api.events_after(self._after)
        self._after = read.next
        return [(event_of(bytes(told.data)), bytes(told.data)) for told in read.events]


def event_of(value: bytes) -> SeenEvent:
    """The event as far as it is judged.

    Raises:
        UnreadableAnswer: it is none.
    """
    try:
        return msgspec.json.decode(value, type=SeenEvent)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UnreadableAnswer(f"an order event cannot be read: {error}") from error
