"""The tail: notifications as they are received, refused and settled, and events as they are sent, for its viewers.

It is kept in memory, in one ring for all viewers: a viewer has a place in it and no buffer of its own, so one that
reads too slowly misses entries and costs nothing. It is filled only while it is watched; otherwise each notification
costs the test of one flag. An entry has numbers and values of closed sets, and nothing of the buyer.

All calls are made on the event loop.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from typing import Protocol

from msgspec import Struct, structs

from schemas import scopes, topics
from schemas.events import Outgoing
from workers.long_poll import TooManyWaiters, Waiter
from workers.queries import Emitted
from workers.settlement.plan import Delivery, WritePlan

KEPT_MAX = 1000
WATCHED_S = 15.0  # since the last sign of a viewer; each sends one every few seconds
VIEWERS_MAX = 50
TEXT_MAX = 80  # characters of a number or an id: a sender chooses them


class TailKind(StrEnum):
    """The four moments of a notification that the tail shows."""

    RECEIVED = "received"
    REFUSED = "refused"
    SETTLED = "settled"
    SENT = "sent"


class TailEntry(Struct, frozen=True, kw_only=True, gc=False):
    """One line of the tail. `number` is its place in the ring, and `process` the one that reported it.

    `outcome` is `accepted`, or the outcome of a refused request, or a disposition, or the type of an event.
    """

    kind: TailKind
    at_ms: int
    account: str
    auth_app_id: str = ""
    order: str = ""
    notification_id: str = ""
    outcome: str
    reason: str = ""
    version: int | None = None
    process: str = ""
    number: int = 0


class RecentPort(Protocol):
    """Reads the newest rows of the order store, by an index: with no viewer, the tail itself is empty."""

    async def settled(self, limit: int) -> Sequence[Delivery]:
        """Return deliveries of the newest records, in any order."""

    async def events(self, limit: int) -> Sequence[Emitted]:
        """Return the newest events and notices of the outbox, in any order."""


class Tail:
    """The ring. `is_watched` is the flag that a reporting process tests. `added` is the number of the newest entry, in
    this run of the process."""

    def __init__(self, *, now_ms: Callable[[], int], kept_max: int = KEPT_MAX, watched_s: float = WATCHED_S) -> None:
        self.run_id = secrets.token_hex(4)
        self.is_watched = False
        self.is_closed = False
        self.added = 0
        self._now_ms = now_ms
        self._watched_s = watched_s
        self._watched_until = 0.0
        self._entries: deque[TailEntry] = deque(maxlen=kept_max)
        self._waiters: set[Waiter] = set()

    def watch(self) -> None:
        """Fill the tail for the next `watched_s` seconds."""
        loop = asyncio.get_running_loop()
        self._watched_until = loop.time() + self._watched_s
        if not self.is_watched:
            self.is_watched = True
            loop.call_later(self._watched_s, self._look_for_viewers)

    def _look_for_viewers(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._watched_until - loop.time()
        if left_s > 0 and not self.is_closed:
            loop.call_later(left_s, self._look_for_viewers)
        else:
            self.is_watched = False

    def add(self, entries: Iterable[TailEntry], *, missed: int = 0) -> None:
        """Append the entries, each with the next number. `missed` are those before them that another ring has lost."""
        self.added += missed
        for entry in entries:
            self.added += 1
            self._entries.append(structs.replace(entry, number=self.added))
        for waiter in self._waiters:
            waiter.wake()

    def after(self, number: int, limit: int) -> Sequence[TailEntry]:
        """Return the newest entries after this number, oldest first, and at most `limit` of them.

        Entries whose numbers are skipped are gone.
        """
        count = min(limit, len(self._entries), max(0, self.added - number))
        newest = list(islice(reversed(self._entries), count))
        return [entry for entry in reversed(newest) if entry.number > number]

    def received(self, *, account: str, scope: str, order: str, notification_id: str) -> None:
        """Add a notification that was made durable."""
        self.add([self._of_request(TailKind.RECEIVED, account, scope, order, notification_id, "accepted", "")])

    def refused(self, *, account: str, scope: str, order: str, notification_id: str, outcome: str, reason: str) -> None:
        """Add a refused request; scope, order and id are the sender's claims."""
        self.add([self._of_request(TailKind.REFUSED, account, scope, order, notification_id, outcome, reason)])

    def _of_request(
        self, kind: TailKind, account: str, scope: str, order: str, notification_id: str, outcome: str, reason: str
    ) -> TailEntry:
        return TailEntry(
            kind=kind,
            at_ms=self._now_ms(),
            account=account,
            auth_app_id=scopes.merchant_of(scope),
            order=order[:TEXT_MAX],
            notification_id=notification_id[:TEXT_MAX],
            outcome=outcome,
            reason=reason,
        )

    def settled(self, plan: WritePlan) -> None:
        """Add the dispositions of a batch."""
        if self.is_watched:
            self.add(map(settled_entry, plan.deliveries))

    def emitted(self, events: Sequence[Outgoing]) -> None:
        """Add events that their topics have acknowledged."""
        if self.is_watched:
            now_ms = self._now_ms()
            self.add(sent_entry(event, now_ms) for event in events)

    @contextmanager
    def waiting(self) -> Iterator[Waiter]:
        """Wait for entries, from now until the end of the block.

        Raises:
            TooManyWaiters: there are too many viewers.
        """
        if len(self._waiters) >= VIEWERS_MAX:
            raise TooManyWaiters(f"{VIEWERS_MAX} viewers watch the tail already")
        waiter = Waiter()
        self._waiters.add(waiter)
        try:
            yield waiter
        finally:
            self._waiters.discard(waiter)

    def close(self) -> None:
        """Wake all viewers, so that each request ends before the process does."""
        self.is_closed = True
        for waiter in self._waiters:
            waiter.wake()


def settled_entry(delivery: Delivery) -> TailEntry:
    """Return the line of one record's disposition."""
    return TailEntry(
        kind=TailKind.SETTLED,
        at_ms=delivery.decided_at_ms,
        account=scopes.account_of(delivery.account),
        auth_app_id=scopes.merchant_of(delivery.account),
        order=delivery.order[:TEXT_MAX],
        notification_id=delivery.notification_id[:TEXT_MAX],
        outcome=delivery.disposition.value,
        reason=delivery.reason.value,
        version=delivery.version,
    )


def sent_entry(event: Outgoing, at_ms: int) -> TailEntry:
    """Return the line of one event or notice; its outcome is the CloudEvents type without prefix and version."""
    scope, _, order = event.key.decode("utf-8", "replace").partition(":")
    headers = dict(event.headers)
    version = event.id.rpartition(":")[2] if event.topic == topics.ORDER_EVENT else ""
    return TailEntry(
        kind=TailKind.SENT,
        at_ms=at_ms,
        account=scopes.account_of(scope),
        auth_app_id=scopes.merchant_of(scope),
        order=order[:TEXT_MAX],
        outcome=short_type(headers.get("ce_type", b"").decode("utf-8", "replace")) or event.topic,
        version=int(version) if version.isdigit() else None,
    )


def short_type(type_: str) -> str:
    """Return an event's type as people read it: `order.paid` of `alipay_notify.order.paid.v1`."""
    return ".".join(type_.split(".")[-3:-1])
