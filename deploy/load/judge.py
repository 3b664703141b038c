"""Compare the notifications of a run and their answers with the order pages and the events. Pure, no I/O.

    lost            acknowledged, but not on the order's page
    double          applied more than once, or one version given twice
    wrong           the order differs from its notifications, or a notification is parked or held
    stranger        on the page, but never sent, turned away, or forged
    missing event   a version of the order without an event
    wrong event     differing copies of one event, an event without its version, or an event that differs from the page
    event order     a version that was first seen after a later one
    refused         genuine, but answered 4xx, or answered neither success nor 503
    believed        forged, but acknowledged
    unacknowledged  genuine and retried, but never acknowledged

A notification that was answered `success` is in the log. One that was answered 4xx is not. After a 503, a time-out or a
lost connection it may be there or not, and both are right. The same holds for a 200 with another word and for a
redirect, but those are findings, because no receiver may answer so.

The log may have several records of one notification: it was sent more than once, and the log may write one request
twice. Exactly one record is the first. The others must have the disposition `duplicate` with the same id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct, field

from deploy.load import model
from deploy.load.corpus import SentNotification
from deploy.load.generator import SendAttempt
from deploy.load.model import SendOutcome

OrderKey = tuple[str, str]  # account, order


class AnsweredNotification(Struct, kw_only=True):
    """One notification, and how many of its requests were acknowledged, were turned away, or may have arrived.

    `misanswered` counts those of `uncertain` that got an answer which no receiver may give.
    """

    sent: SentNotification
    acknowledged: int = 0
    uncertain: int = 0
    turned_away: int = 0
    misanswered: int = 0


class SentOrder(Struct, frozen=True, kw_only=True):
    """The notifications of one order, by notification id."""

    account: str
    order: str
    notifications: dict[str, AnsweredNotification] = field(default_factory=dict)
    forged: dict[str, AnsweredNotification] = field(default_factory=dict)

    @property
    def was_called(self) -> bool:
        """Whether any request of it reached the receiver, even if it was refused."""
        notifications = (*self.notifications.values(), *self.forged.values())
        return any(one.acknowledged or one.uncertain or one.turned_away for one in notifications)


def orders(sent: Sequence[SentNotification], attempts: Iterable[SendAttempt]) -> Mapping[OrderKey, SentOrder]:
    """Return every order that a request was due for. `attempts` name requests by their index in `sent`."""
    found: dict[OrderKey, SentOrder] = {}
    for one in sent:
        key = (one.account, one.order)
        if key not in found:
            found[key] = SentOrder(account=one.account, order=one.order)
        _answered(found[key], one)
    for attempt in attempts:
        one = sent[attempt.index]
        _count(_answered(found[one.account, one.order], one), attempt)
    return found


def _answered(order: SentOrder, sent: SentNotification) -> AnsweredNotification:
    """Return the counts of this notification in its order; they start at zero."""
    place = order.forged if sent.forged else order.notifications
    if sent.notify_id not in place:
        place[sent.notify_id] = AnsweredNotification(sent=sent)
    return place[sent.notify_id]


def _count(notification: AnsweredNotification, attempt: SendAttempt) -> None:
    if attempt.outcome == "ok":
        notification.acknowledged += 1
    elif attempt.outcome == "refused" and 400 <= attempt.status < 500:
        notification.turned_away += 1
    elif attempt.outcome != "unsent":
        notification.uncertain += 1
        notification.misanswered += attempt.outcome == "refused" and attempt.status < 400


_PROCESSED = frozenset({"applied", "duplicate", "stale"})


class DiscrepancyKind(StrEnum):
    """The kinds of findings; see the module's head."""

    LOST = "lost"
    DOUBLE = "double"
    WRONG = "wrong"
    STRANGER = "stranger"
    MISSING_EVENT = "missing_event"
    WRONG_EVENT = "wrong_event"
    EVENT_ORDER = "event_order"
    REFUSED = "refused"
    BELIEVED = "believed"
    UNACKNOWLEDGED = "unacknowledged"


class Discrepancy(Struct, frozen=True, kw_only=True, order=True):
    """One finding: a difference between the run and its outcome."""

    kind: DiscrepancyKind
    account: str
    order: str
    notification_id: str = ""
    detail: str = ""


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of an order's timeline. Only `kind` is read of events and refusals."""

    kind: str
    notification_id: str = ""
    disposition: str = ""
    reason: str = ""
    version: int | None = None
    position: str = ""


class OrderView(SendOutcome, frozen=True, kw_only=True):
    """A page or an event: the outcome of an order, with more about it."""

    @property
    def outcome(self) -> SendOutcome:
        return SendOutcome(**{name: getattr(self, name) for name in SendOutcome.__struct_fields__})


class Page(OrderView, frozen=True, kw_only=True):
    """An order as the admin API shows it."""

    version: int
    timeline: tuple[Entry, ...]

    @property
    def records(self) -> list[Entry]:
        """The notifications of the timeline, each position once."""
        return list({one.position: one for one in self.timeline if one.kind == "notification"}.values())


ABSENT = Page(
    version=0, status=None, closed_because=None, trade=None, amount_minor=None, currency=None, refunded_minor=0,
    flags=(), timeline=(),
)  # fmt: skip


def check_answers(orders: Iterable[SentOrder], *, repeated: bool) -> Iterator[Discrepancy]:
    """Yield the findings from the answers alone. `repeated`: requests were retried until they were acknowledged."""
    for order in orders:
        for id_, notification in order.forged.items():
            if notification.acknowledged:
                yield _finding(order, DiscrepancyKind.BELIEVED, id_, "forged, and answered success")
        for id_, notification in order.notifications.items():
            if notification.acknowledged:
                continue
            if notification.turned_away:
                yield _finding(order, DiscrepancyKind.REFUSED, id_, "genuine, and answered 4xx")
            elif notification.misanswered:
                yield _finding(order, DiscrepancyKind.REFUSED, id_, "genuine, and answered neither success nor 503")
            elif repeated:
                yield _finding(order, DiscrepancyKind.UNACKNOWLEDGED, id_, "never answered success, despite retries")


def check_page(order: SentOrder, page: Page) -> list[Discrepancy]:
    """Return the findings on one order's page: none, once every acknowledged notification is processed correctly."""
    records = page.records
    by_id: dict[str, list[Entry]] = {}
    for record in records:
        by_id.setdefault(record.notification_id, []).append(record)
    return [
        *_lost(order, by_id),
        *_strangers(order, by_id),
        *_dispositions(order, by_id),
        *_versions(order, page, records),
        *_state(order, page, by_id),
    ]


def _lost(order: SentOrder, by_id: Mapping[str, Sequence[Entry]]) -> Iterator[Discrepancy]:
    arrived = _arrived(order, by_id)
    for id_, notification in order.notifications.items():
        if model.waits(notification.sent, arrived):
            continue
        shown, acknowledged = len(by_id.get(id_, ())), notification.acknowledged
        if shown < acknowledged:
            yield _finding(
                order, DiscrepancyKind.LOST, id_, f"acknowledged {acknowledged} times, on the page {shown} times"
            )


def _strangers(order: SentOrder, by_id: Mapping[str, Sequence[Entry]]) -> Iterator[Discrepancy]:
    for id_ in by_id:
        notification = order.notifications.get(id_)
        if id_ in order.forged:
            yield _finding(order, DiscrepancyKind.STRANGER, id_, "forged, but in the store")
        elif notification is None:
            yield _finding(order, DiscrepancyKind.STRANGER, id_, "in the store, but never sent")
        elif not notification.acknowledged and not notification.uncertain:
            yield _finding(order, DiscrepancyKind.STRANGER, id_, "in the store, but turned away or never sent")


def _dispositions(order: SentOrder, by_id: Mapping[str, Sequence[Entry]]) -> Iterator[Discrepancy]:
    for id_, records in by_id.items():
        firsts = [one for one in records if (one.disposition, one.reason) != ("duplicate", "same_id")]
        if len(firsts) > 1:
            words = ", ".join(f"{one.disposition} ({one.reason})" if one.reason else one.disposition for one in firsts)
            yield _finding(order, DiscrepancyKind.DOUBLE, id_, f"processed as new {len(firsts)} times: {words}")
        if not firsts:
            yield _finding(order, DiscrepancyKind.WRONG, id_, "has duplicates, but no first record")
        for one in firsts:
            if one.disposition not in _PROCESSED:
                yield _finding(order, DiscrepancyKind.WRONG, id_, f"{one.disposition} ({one.reason})")


def _versions(order: SentOrder, page: Page, records: Sequence[Entry]) -> Iterator[Discrepancy]:
    """Check that each version 1..n was given by exactly one applied record."""
    given = Counter(one.version for one in records if one.version is not None)
    for version, count in given.items():
        if count > 1:
            yield _finding(order, DiscrepancyKind.DOUBLE, "", f"version {version} given {count} times")
    if set(given) != set(range(1, page.version + 1)):
        shown = " ".join(str(version) for version in sorted(given)) or "none"
        yield _finding(order, DiscrepancyKind.WRONG, "", f"is at version {page.version}, but its records gave {shown}")
    for one in records:
        gives = one.disposition == "applied" and one.reason != "noted"  # a capture at an automatic account is noted
        if gives != (one.version is not None):
            yield _finding(
                order, DiscrepancyKind.WRONG, one.notification_id, f"{one.disposition}, but gave version {one.version}"
            )


def _state(order: SentOrder, page: Page, by_id: Mapping[str, object]) -> Iterator[Discrepancy]:
    """Compare the order's state with the model's, made from the notifications on the page.

    `_lost` and `_strangers` check whether these are the right notifications.
    """
    expected = model.outcome(_arrived(order, by_id))
    if page.outcome != expected:
        yield _finding(order, DiscrepancyKind.WRONG, "", _difference(page.outcome, expected))


def _arrived(order: SentOrder, by_id: Mapping[str, object]) -> list[SentNotification]:
    return [notification.sent for id_, notification in order.notifications.items() if id_ in by_id]


def _difference(found: SendOutcome, expected: SendOutcome) -> str:
    names = [name for name in SendOutcome.__struct_fields__ if getattr(found, name) != getattr(expected, name)]
    return ", ".join(f"{name} is {getattr(found, name)!r}, not {getattr(expected, name)!r}" for name in names)


def _finding(order: SentOrder, kind: DiscrepancyKind, notification_id: str, detail: str) -> Discrepancy:
    return Discrepancy(
        kind=kind, account=order.account, order=order.order, notification_id=notification_id, detail=detail
    )


class SeenEvent(OrderView, frozen=True, kw_only=True):
    """The judged part of an order event's value."""

    account: str
    order: str
    version: int


class _OrderEvents(Struct):
    """The events of one order: a hash of each version's bytes, and the event of the highest version."""

    values: dict[int, int]
    last: SeenEvent


class SeenEvents:
    """The order events of a run, in the order of arrival. Only a hash of each is kept."""

    def __init__(self) -> None:
        self._orders: dict[OrderKey, _OrderEvents] = {}
        self._found: list[Discrepancy] = []
        self.count = 0
        self.copies = 0

    def add(self, event: SeenEvent, value: bytes) -> None:
        """Record one event, in the order in which a consumer receives it."""
        self.count += 1
        key = (event.account, event.order)
        digest = hash(value)
        events = self._orders.get(key)
        if events is None:
            self._orders[key] = _OrderEvents(values={event.version: digest}, last=event)
            return
        if event.version in events.values:
            self.copies += 1
            if events.values[event.version] != digest:
                self._note(event, DiscrepancyKind.WRONG_EVENT, f"copies of version {event.version} differ")
            return
        if event.version < events.last.version:
            self._note(event, DiscrepancyKind.EVENT_ORDER, f"version {event.version} came after {events.last.version}")
        else:
            events.last = event
        events.values[event.version] = digest

    def version(self, order: OrderKey) -> int:
        """Return the highest version among the order's events, or 0."""
        events = self._orders.get(order)
        return 0 if events is None else events.last.version

    def lacks(self, versions: Mapping[OrderKey, int]) -> bool:
        """Return whether any order has fewer events than versions."""
        return any(
            len(self._orders[order].values) < version if order in self._orders else version > 0
            for order, version in versions.items()
        )

    def findings(self, pages: Mapping[OrderKey, tuple[int, SendOutcome]]) -> list[Discrepancy]:
        """Return the findings on the events, given each order's version and outcome on its page."""
        found = list(self._found)
        for (account, order), (version, outcome) in pages.items():
            found += self._of_order(account, order, version, outcome)
        for account, order in self._orders.keys() - pages.keys():
            detail = "events of an order that was never sent"
            found.append(Discrepancy(kind=DiscrepancyKind.STRANGER, account=account, order=order, detail=detail))
        return found

    def _of_order(self, account: str, order: str, version: int, outcome: SendOutcome) -> Iterator[Discrepancy]:
        events = self._orders.get((account, order))
        seen = events.values.keys() if events is not None else set()
        for each in range(1, version + 1):
            if each not in seen:
                detail = f"version {each}"
                yield Discrepancy(kind=DiscrepancyKind.MISSING_EVENT, account=account, order=order, detail=detail)
        for each in sorted(seen - set(range(1, version + 1))):
            detail = f"an event of version {each}, but the order is at version {version}"
            yield Discrepancy(kind=DiscrepancyKind.WRONG_EVENT, account=account, order=order, detail=detail)
        if events is not None and events.last.version == version and events.last.outcome != outcome:
            detail = f"the last event differs from the page: {_difference(events.last.outcome, outcome)}"
            yield Discrepancy(kind=DiscrepancyKind.WRONG_EVENT, account=account, order=order, detail=detail)

    def _note(self, event: SeenEvent, kind: DiscrepancyKind, detail: str) -> None:
        self._found.append(Discrepancy(kind=kind, account=event.account, order=event.order, detail=detail))
