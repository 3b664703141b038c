"""The verification phase: waits until what was acknowledged has been settled, looks at each order, reads each event.

An order's page is read again until nothing is wrong with it or the time is over: what is still on its way through the
log is no finding, and what is missing at the end is one. Events are read until all that the pages speak of have come,
and nothing more does. An order whose events then stand above the page that was seen is looked at once more, since a
late second effect would otherwise pass unseen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from deploy.load import judge
from deploy.load.judge import Discrepancy, Named, Page, SeenEvent, SentOrder, Sightings, Wrong
from deploy.load.progress import ProgressStage

LOOKS_AT_ONCE = 32  # tasks; how many questions are asked at a time is for the pages to bound
# Nothing for so long, after all that was awaited has come, is the end.
QUIET_S = 1.0
_PAUSE_S = 0.3
_POLL_S = 0.1
# What the log's way through the worker heals; nothing else is worth waiting for.
_MAY_SETTLE = frozenset({Wrong.LOST, Wrong.WRONG})


class Pages(Protocol):
    """Where orders are looked at; bounded in how many at a time by whoever implements it."""

    async def order(self, named: Named) -> Page: ...


class FeedReader(Protocol):
    """Where events come from: all of them since the run's start, each as a consumer gets it."""

    async def read(self) -> Sequence[tuple[SeenEvent, bytes]]: ...


class Verified(Struct, frozen=True, kw_only=True):
    """What the verification saw, and what it found."""

    orders: int
    records: int
    records_beyond_answers: (
        int  # more copies than were acknowledged: of uncertain attempts, or written twice by the log
    )
    events: int
    copies_of_events: int
    seconds: float
    findings: tuple[Discrepancy, ...]


async def verify(
    orders: Mapping[Named, SentOrder],
    *,
    prefix: str,
    pages: Pages,
    feed: FeedReader,
    until: float,
    stage: ProgressStage,
    quiet_s: float = QUIET_S,
) -> Verified:
    """The verdict on a run; `until` is by `time.monotonic`, `prefix` begins the number of each of its orders.

    Raises:
        deploy.load.api.Unreadable: what has to be looked at cannot be.
    """
    began = time.monotonic()
    looker = _Looker(orders, pages)
    await looker.settle(until, stage)
    sightings = Sightings()
    await _events(feed, sightings, looker, prefix=prefix, until=until, quiet_s=quiet_s)
    await looker.look([named for named in orders if sightings.version(named) > looker.seen[named].version])
    found = [finding for findings in looker.found.values() for finding in findings]
    found += sightings.verdict({named: (page.version, page.outcome) for named, page in looker.seen.items()})
    records = sum(len(page.records) for page in looker.seen.values())
    acknowledged = sum(
        notification.acknowledged for order in orders.values() for notification in order.notifications.values()
    )
    return Verified(
        orders=len(orders),
        records=records,
        records_beyond_answers=max(0, records - acknowledged),
        events=sightings.count,
        copies_of_events=sightings.copies,
        seconds=time.monotonic() - began,
        findings=tuple(sorted(found)),
    )


class _Looker:
    """Looks at orders, and keeps what was seen last of each and what was wrong with it."""

    def __init__(self, orders: Mapping[Named, SentOrder], pages: Pages) -> None:
        self._orders = orders
        self._pages = pages
        self.seen: dict[Named, Page] = {}
        self.found: dict[Named, list[Discrepancy]] = {}

    async def settle(self, until: float, stage: ProgressStage) -> None:
        """Look until nothing is wrong, or the time is over; everything is looked at once at least."""
        unsettled = list(self._orders)
        while True:
            await self.look(unsettled, stage)
            unsettled = [named for named in unsettled if self.found[named]]
            if not self._may_settle(unsettled) or time.monotonic() > until:
                return
            await asyncio.sleep(_PAUSE_S)

    async def look(self, wanted: Sequence[Named], stage: ProgressStage | None = None) -> None:
        """Look at these once. A few tasks take them in turn, since there may be a million."""
        left = iter(wanted)

        async def take() -> None:
            for named in left:
                page = await self._pages.order(named)
                self.seen[named] = page
                self.found[named] = judge.of_page(self._orders[named], page)
                if stage is not None and not self.found[named]:
                    stage.advance(1)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(LOOKS_AT_ONCE, len(wanted))):
                    group.create_task(take())
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    def _may_settle(self, unsettled: Sequence[Named]) -> bool:
        return any(finding.what in _MAY_SETTLE for named in unsettled for finding in self.found[named])


async def _events(
    feed: FeedReader, sightings: Sightings, looker: _Looker, *, prefix: str, until: float, quiet_s: float
) -> None:
    """Read until every version that the pages show has been seen, or the time is over; and then until nothing comes."""
    last = time.monotonic()
    while True:
        came = await feed.read()
        for event, value in came:
            if event.order.startswith(prefix):
                sightings.see(event, value)
                last = time.monotonic()
        if not came:
            await asyncio.sleep(_POLL_S)
        now = time.monotonic()
        if now - last < quiet_s:
            continue
        if now > until or not sightings.lacks({named: page.version for named, page in looker.seen.items()}):
            return
