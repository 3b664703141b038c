"""The console's tail: a page of the latest lines, which a browser keeps up to date by server-sent events.

Without a script the page is a list of the newest lines. With one, the browser opens `/api/tail`, which goes on after
the number that the page shows, or after `Last-Event-ID` when the browser connects again by itself. A viewer whose
connection takes no bytes for `WRITE_S` is cut, and so is the longest answer, after `STREAM_S`: browsers connect again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from schemas import scopes, times
from schemas.accounts import Account
from schemas.dispositions import Disposition, Outcome
from workers.admin import pages, responses
from workers.admin.orders import RefusedRequests
from workers.admin.pages import ConsoleFrame
from workers.admin.process_state import RefusedOne
from workers.admin.responses import ApiError
from workers.errors import InfrastructureDown
from workers.long_poll import OrderChanges
from workers.tail import RecentPort, Tail, TailEntry, TailKind, sent_entry, settled_entry

SHOWN = 50
EXAMINED = 200  # of each kind, for a filter
LINES_MAX = 100  # in one write, three times a second; a viewer of more misses the oldest
GATHERED_S = 0.3
HEARTBEAT_S = 5.0
WRITE_S = 10.0
STREAM_S = 3600.0

_to_json = msgspec.json.Encoder().encode


class TailLine(Struct, frozen=True, kw_only=True):
    """One line, as the API shows it."""

    kind: TailKind
    at: datetime
    account: str
    auth_app_id: str | UnsetType = UNSET
    order: str
    notification_id: str
    outcome: str
    reason: str
    version: int | None
    process: str


class TailFilter(Struct, frozen=True, kw_only=True):
    """The lines that a viewer wants; empty means all."""

    account: str = ""
    kind: str = ""
    outcome: str = ""

    def keeps(self, entry: TailEntry) -> bool:
        """Return whether the line matches."""
        return (
            self.account in ("", entry.account)
            and self.kind in ("", entry.kind.value)
            and self.outcome in ("", entry.outcome)
        )


class TailPages:
    """The page, and its stream."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        tail: Tail,
        recent: RecentPort,
        refusals: RefusedRequests,
        changes: OrderChanges,
        are_processes_known: bool,
        pages: ConsoleFrame,
    ) -> None:
        self._accounts = accounts
        self._tail = tail
        self._recent = recent
        self._refusals = refusals
        self._changes = changes
        self._are_processes_known = are_processes_known
        self._pages = pages

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/tail", self.page), web.get("/api/tail", self.stream)]

    async def page(self, request: web.Request) -> web.Response:
        """Show the newest lines that match; from now on the tail is filled, so that a second look has more."""
        seen, fault = self._changes.seen, ""
        self._tail.watch()
        position = self._position(self._tail.added)
        try:
            wanted = parse_filter(request)
        except ApiError as error:
            wanted, fault = TailFilter(), error.detail
        entries = await self._newest(wanted, shown=SHOWN, examined=EXAMINED)
        return self._pages.page(
            "tail.html",
            status=400 if fault else 200,
            seen=seen,
            lines=[line(entry) for entry in entries],
            given=pages.given(request),
            fault=fault,
            position=position,
            accounts=sorted(self._accounts),
            kinds=list(TailKind),
            outcomes=_OUTCOMES,
            is_whole=self._are_processes_known,
        )

    async def newest(self, count: int) -> list[TailLine]:
        """Return the newest lines of all, newest first, without filling the tail."""
        return [line(entry) for entry in await self._newest(TailFilter(), shown=count, examined=count)]

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send each new line that matches as an event, until the viewer leaves.

        Raises:
            TooManyWaiters: as `Tail.waiting`.
        """
        wanted = parse_filter(request)
        number = self._number(request.headers.get("Last-Event-ID") or request.query.get("after", ""))
        with self._tail.waiting() as waiter:
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream",
                    "Cache-Control": "no-store",
                    "X-Accel-Buffering": "no",
                    "X-Content-Type-Options": "nosniff",
                }
            )
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            loop = asyncio.get_running_loop()
            end = loop.time() + STREAM_S
            try:
                await self._write(response, f": {self._tail.added}\n\n".encode())
                while not self._tail.is_closed and loop.time() < end:
                    self._tail.watch()
                    is_new = self._tail.added > number or await waiter.wait(HEARTBEAT_S)
                    if is_new:
                        await asyncio.sleep(GATHERED_S)
                    text, number = self._events(number, wanted)
                    # An id without data only moves the place from which the browser connects again.
                    await self._write(response, text or f"id: {self._position(number)}\n\n".encode())
            except TimeoutError:
                _cut(request)
        return response

    def _events(self, number: int, wanted: TailFilter) -> tuple[bytes, int]:
        """Return the events after this number, and the number of the last one."""
        found = self._tail.after(number, LINES_MAX)
        missed = self._tail.added - number - len(found)
        parts = [f"event: missed\ndata: {missed}\n\n".encode()] if missed > 0 else []
        parts += [
            b"id: %s\ndata: %s\n\n" % (self._position(entry.number).encode(), _to_json(line(entry)))
            for entry in found
            if wanted.keeps(entry)
        ]
        return b"".join(parts), self._tail.added

    async def _write(self, response: web.StreamResponse, text: bytes) -> None:
        async with asyncio.timeout(WRITE_S):
            await response.write(text)

    def _position(self, number: int) -> str:
        return f"{self._tail.run_id}-{number}"

    def _number(self, position: str) -> int:
        """Return the number to go on after: that of the position, or the newest if it is of another run."""
        run_id, _, text = position.partition("-")
        is_ours = run_id == self._tail.run_id and text.isascii() and text.isdigit() and len(text) <= 18
        return min(int(text), self._tail.added) if is_ours else self._tail.added

    async def _newest(self, wanted: TailFilter, *, shown: int, examined: int) -> Sequence[TailEntry]:
        """Return the newest matching lines, newest first: received ones from memory, the others as they are kept."""
        entries = [entry for entry in self._tail.after(0, examined) if entry.kind is TailKind.RECEIVED]
        entries += [_refused(refused) for refused in self._refusals.newest(examined)]
        entries += await self._stored(examined)
        matching = sorted(filter(wanted.keeps, entries), key=lambda entry: entry.at_ms, reverse=True)
        return matching[:shown]

    async def _stored(self, examined: int) -> list[TailEntry]:
        try:
            settled = await self._recent.settled(examined)
            events = await self._recent.events(examined)
        except InfrastructureDown:
            return []  # an outage of the store is when people look here, and the rest is in memory
        sent = (sent_entry(each.event, each.sent_at_ms) for each in events if each.sent_at_ms is not None)
        return [*map(settled_entry, settled), *sent]


_OUTCOMES: Mapping[str, Sequence[str]] = {
    "settled": [each.value for each in Disposition],
    "received and refused": [each.value for each in Outcome if each not in (Outcome.AMBIGUOUS, Outcome.GONE)],
}


def parse_filter(request: web.Request) -> TailFilter:
    """Return the filter of a request.

    Raises:
        ApiError: there is no such kind.
    """
    given = pages.given(request)
    if given["kind"] and given["kind"] not in {each.value for each in TailKind}:
        raise responses.bad_request(f"kind must be one of {', '.join(TailKind)}")
    return TailFilter(account=given["account"], kind=given["kind"], outcome=given["outcome"])


def line(entry: TailEntry) -> TailLine:
    """Return the line as the API shows it."""
    return TailLine(
        kind=entry.kind,
        at=times.from_epoch_ms(entry.at_ms),
        account=entry.account,
        auth_app_id=entry.auth_app_id or UNSET,
        order=entry.order,
        notification_id=entry.notification_id,
        outcome=entry.outcome,
        reason=entry.reason,
        version=entry.version,
        process=entry.process,
    )


def _refused(refused: RefusedOne) -> TailEntry:
    return TailEntry(
        kind=TailKind.REFUSED,
        at_ms=refused.received_at_ms,
        account=refused.account,
        auth_app_id=scopes.merchant_of(refused.scope),
        order=refused.order,
        notification_id=refused.notification_id,
        outcome=str(refused.outcome),
        reason=str(refused.reason),
    )


def _cut(request: web.Request) -> None:
    """Close the connection of a viewer that reads too slowly, without waiting for it to take its last bytes."""
    if request.transport is not None:
        request.transport.abort()
