"""Verify the outcome of a run: read each order's page until it has settled, then read all events.

An order's page is read again until it has no findings or the time is over. So records that are still in the log are no
finding, and those missing at the end are. Events are read until every version on the pages has its event and no more
arrive. If an order's events then show a higher version than its page, the page is read once more, because a late second
effect would otherwise stay unseen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from deploy.load import judge
from deploy.load.judge import Discrepancy, DiscrepancyKind, OrderKey, Page, SeenEvent, SeenEvents, SentOrder
from deploy.load.progress import ProgressStage

LOOKS_AT_ONCE = 32  # tasks; `Pages` bounds the number of requests at a time
QUIET_S = 1.0  # the events are complete if none has arrived for so long
_PAUSE_S = 0.3
_POLL_S = 0.1
# Findings that may disappear when the workers have read the rest of the log.
_MAY_SETTLE = frozenset({DiscrepancyKind.LOST, DiscrepancyKind.WRONG})


class Pages(Protocol):
    """Reads order pages. Implementations bound the number of requests at a time."""

    async def order(self, order: OrderKey) -> Page: ...


class FeedReader(Protocol):
    """Reads every event since the start of the run, in the order in which a consumer receives them."""

    async def read(self) -> Sequence[tuple[SeenEvent, bytes]]: ...


class Verified(Struct, frozen=True, kw_only=True):
    """The counts and findings of a verification.

    `records_beyond_answers`: records beyond the acknowledged ones, of uncertain attempts or written twice by the log.
    """

    orders: int
    records: int
    records_beyond_answers: int
    events: int
    copies_of_events: int
    seconds: float
    findings: tuple[Discrepancy, ...]


async def verify(
    orders: Mapping[OrderKey, SentOrder],
    *,
    prefix: str,
    pages: Pages,
    feed: FeedReader,
    until: float,
    stage: ProgressStage,
    quiet_s: float = QUIET_S,
) -> Verified:
    """Verify a run's orders. `until` is by `time.monotonic`; `prefix` begins the number of each of its orders.

    Raises:
        deploy.load.api.UnreadableAnswer: a page or the events cannot be read.
    """
    began = time.monotonic()
    reader = _PageReader(orders, pages)
    await reader.settle(until, stage)
    events = SeenEvents()
    await _read_events(feed, events, reader, prefix=prefix, until=until, quiet_s=quiet_s)
    await reader.read([order for order in orders if events.version(order) > reader.seen[order].version])
    found = [finding for findings in reader.found.values() for finding in findings]
    found += events.findings({order: (page.version, page.outcome) for order, page in reader.seen.items()})
    records = sum(len(page.records) for page in reader.seen.values())
    acknowledged = sum(
        notification.acknowledged for order in orders.values() for notification in order.notifications.values()
    )
    return Verified(
        orders=len(orders),
        records=records,
        records_beyond_answers=max(0, records - acknowledged),
        events=events.count,
        copies_of_events=events.copies,
        seconds=time.monotonic() - began,
        findings=tuple(sorted(found)),
    )


class _PageReader:
    """Reads order pages, and keeps the last page of each order with its findings."""

    def __init__(self, orders: Mapping[OrderKey, SentOrder], pages: Pages) -> None:
        self._orders = orders
        self._pages = pages
        self.seen: dict[OrderKey, Page] = {}
        self.found: dict[OrderKey, list[Discrepancy]] = {}

    async def settle(self, until: float, stage: ProgressStage) -> None:
        """Read every page once, and those with findings again until they have none or the time is over."""
        unsettled = list(self._orders)
        while True:
            await self.read(unsettled, stage)
            unsettled = [order for order in unsettled if self.found[order]]
            if not self._may_settle(unsettled) or time.monotonic() > until:
                return
            await asyncio.sleep(_PAUSE_S)

    async def read(self, wanted: Sequence[OrderKey], stage: ProgressStage | None = None) -> None:
        """Read these pages once. A few tasks share them, because there may be a million."""
        left = iter(wanted)

        async def take() -> None:
            for order in left:
                page = await self._pages.order(order)
                self.seen[order] = page
                self.found[order] = judge.check_page(self._orders[order], page)
                if stage is not None and not self.found[order]:
                    stage.advance(1)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(LOOKS_AT_ONCE, len(wanted))):
                    group.create_task(take())
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    def _may_settle(self, unsettled: Sequence[OrderKey]) -> bool:
        return any(finding.kind in _MAY_SETTLE for order in unsettled for finding in self.found[order])


async def _read_events(
    feed: FeedReader, events: SeenEvents, pages: _PageReader, *, prefix: str, until: float, quiet_s: float
) -> None:
    """Read until every version on the pages has its event, or the time is over; then until no more events arrive."""
    last = time.monotonic()
    while True:
        read = await feed.read()
        for event, value in read:
            if event.order.startswith(prefix):
                events.add(event, value)
                last = time.monotonic()
        if not read:
            await asyncio.sleep(_POLL_S)
        now = time.monotonic()
        if now - last < quiet_s:
            continue
        if now > until or not events.lacks({order: page.version for order, page in pages.seen.items()}):
            return
