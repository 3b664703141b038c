"""What was told of each order and how it was answered: what the judge holds against the store.

An attempt that was answered `success` is certain: the notification is in the log. One that was refused with a 4xx is
certain too: it is not. A 503, a time-out, a lost connection say nothing: the notification may have arrived or not, and
either is right. The same goes for a 200 with another word, or a redirect; but no receiver may answer so.

The judge: what was told and how it was answered, held against what the store and the events say. Pure.

    lost            acknowledged, and the order's page does not have it
    double          took effect more than once, or a version was given twice
    wrong           the order is not what its notifications make it, or a notification waits or was held
    stranger        the page has what was never sent, was turned away, or was forged
    missing event   a version of the order that no event announced
    wrong event     copies of one event that differ, an event of no version, or one that says other than the page
    event order     a version that was first seen after a later one
    refused         genuine, and turned away, or answered neither success nor 503
    believed        forged, and acknowledged
    unacknowledged  genuine, sent again and again, and never acknowledged

For one notification several records may lie in the log: it was told more than once, and a log may write one sending
twice. Exactly one of them is its first; the others have to be `duplicate` of the same id.
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

Named = tuple[str, str]  # account, order


class AnsweredNotification(Struct, kw_only=True):
    """One notification: how many of its sendings were acknowledged, may have arrived, were turned away; and how many of
    those that may have arrived were answered as no receiver may answer."""

    told: SentNotification
    acknowledged: int = 0
    uncertain: int = 0
    turned_away: int = 0
    misanswered: int = 0


class SentOrder(Struct, frozen=True, kw_only=True):
    """All that the run told of one order, by notification id."""

    account: str
    order: str
    notifications: dict[str, AnsweredNotification] = field(default_factory=dict)
    forged: dict[str, AnsweredNotification] = field(default_factory=dict)

    @property
    def was_called(self) -> bool:
        """Whether the receiver has heard anything of it, be it only to refuse it."""
        notifications = (*self.notifications.values(), *self.forged.values())
        return any(one.acknowledged or one.uncertain or one.turned_away for one in notifications)


def orders(told: Sequence[SentNotification], attempts: Iterable[SendAttempt]) -> Mapping[Named, SentOrder]:
    """Every order of which a request was due. `attempts` name requests by their index in `told`."""
    found: dict[Named, SentOrder] = {}
    for one in told:
        named = (one.account, one.order)
        if named not in found:
            found[named] = SentOrder(account=one.account, order=one.order)
        _kept(found[named], one)
    for attempt in attempts:
        one = told[attempt.index]
        _count(_kept(found[one.account, one.order], one), attempt)
    return found


def _kept(order: SentOrder, told: SentNotification) -> AnsweredNotification:
    place = order.forged if told.forged else order.notifications
    if told.notify_id not in place:
        place[told.notify_id] = AnsweredNotification(told=told)
    return place[told.notify_id]


def _count(notification: AnsweredNotification, attempt: SendAttempt) -> None:
    if attempt.outcome == "ok":
        notification.acknowledged += 1
    elif attempt.outcome == "refused" and 400 <= attempt.status < 500:
        notification.turned_away += 1
    elif attempt.outcome != "unsent":
        notification.uncertain += 1
        notification.misanswered += attempt.outcome == "refused" and attempt.status < 400


_SETTLED = frozenset({"applied", "duplicate", "stale"})


class Wrong(StrEnum):
    """What can be found."""

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
    """One thing that is not as it has to be."""

    what: Wrong
    account: str
    order: str
    notification_id: str = ""
    detail: str = ""


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of an order's timeline; of events and refusals only `kind` is read."""

    kind: str
    notification_id: str = ""
    disposition: str = ""
    reason: str = ""
    version: int | None = None
    position: str = ""


class Shown(SendOutcome, frozen=True, kw_only=True):
    """Something that shows an order, with more about it than the outcome that is judged."""

    @property
    def outcome(self) -> SendOutcome:
        return SendOutcome(**{name: getattr(self, name) for name in SendOutcome.__struct_fields__})


class Page(Shown, frozen=True, kw_only=True):
    """An order as the admin API shows it."""

    version: int
    timeline: tuple[Entry, ...]

    @property
    def records(self) -> list[Entry]:
        """The notifications of the timeline, a copy of an entry counted once."""
        return list({one.position: one for one in self.timeline if one.kind == "notification"}.values())


ABSENT = Page(
    version=0, status=None, closed_because=None, trade=None, amount_minor=None, currency=None, refunded_minor=0,
    flags=(), timeline=(),
)  # fmt: skip


def of_answers(orders: Iterable[SentOrder], *, repeated: bool) -> Iterator[Discrepancy]:
    """What the answers alone give away. `repeated` is whether everything was sent until it was acknowledged."""
    for order in orders:
        for id_, notification in order.forged.items():
            if notification.acknowledged:
                yield _finding(order, Wrong.BELIEVED, id_, "forged, and answered success")
        for id_, notification in order.notifications.items():
            if notification.acknowledged:
                continue
            if notification.turned_away:
                yield _finding(order, Wrong.REFUSED, id_, "genuine, and answered 4xx")
            elif notification.misanswered:
                yield _finding(order, Wrong.REFUSED, id_, "genuine, and answered neither success nor 503")
            elif repeated:
                yield _finding(order, Wrong.UNACKNOWLEDGED, id_, "never answered success, for all repetitions")


def of_page(order: SentOrder, page: Page) -> list[Discrepancy]:
    """What is wrong with one order's page; nothing, once all that was acknowledged of it is settled as it has to be."""
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
    for id_, notification in order.notifications.items():
        shown = len(by_id.get(id_, ()))
        if shown < notification.acknowledged:
            yield _finding(
                order, Wrong.LOST, id_, f"acknowledged {notification.acknowledged} times, shown {shown} times"
            )


def _strangers(order: SentOrder, by_id: Mapping[str, Sequence[Entry]]) -> Iterator[Discrepancy]:
    for id_ in by_id:
        notification = order.notifications.get(id_)
        if id_ in order.forged:
            yield _finding(order, Wrong.STRANGER, id_, "forged, and in the store")
        elif notification is None:
            yield _finding(order, Wrong.STRANGER, id_, "in the store, and never sent")
        elif not notification.acknowledged and not notification.uncertain:
            yield _finding(order, Wrong.STRANGER, id_, "in the store, and turned away or never called")


def _dispositions(order: SentOrder, by_id: Mapping[str, Sequence[Entry]]) -> Iterator[Discrepancy]:
    for id_, records in by_id.items():
        firsts = [one for one in records if (one.disposition, one.reason) != ("duplicate", "same_id")]
        if len(firsts) > 1:
            words = ", ".join(one.disposition for one in firsts)
            yield _finding(order, Wrong.DOUBLE, id_, f"settled as new {len(firsts)} times: {words}")
        if not firsts:
            yield _finding(order, Wrong.WRONG, id_, "only duplicates of it, and no first")
        for one in firsts:
            if one.disposition not in _SETTLED:
                yield _finding(order, Wrong.WRONG, id_, f"{one.disposition} ({one.reason})")


def _versions(order: SentOrder, page: Page, records: Sequence[Entry]) -> Iterator[Discrepancy]:
    """Each version 1..n given by exactly one record that was applied."""
    given = Counter(one.version for one in records if one.version is not None)
    for version, count in given.items():
        if count > 1:
            yield _finding(order, Wrong.DOUBLE, "", f"version {version} given {count} times")
    if set(given) != set(range(1, page.version + 1)):
        shown = " ".join(str(version) for version in sorted(given)) or "none"
        yield _finding(order, Wrong.WRONG, "", f"is at version {page.version}, and its records gave {shown}")
    for one in records:
        if (one.disposition == "applied") != (one.version is not None):
            yield _finding(
                order, Wrong.WRONG, one.notification_id, f"{one.disposition}, and gave version {one.version}"
            )


def _state(order: SentOrder, page: Page, by_id: Mapping[str, object]) -> Iterator[Discrepancy]:
    """The state is a function of what is there; whether what is there is right, others say."""
    expected = model.outcome([notification.told for id_, notification in order.notifications.items() if id_ in by_id])
    if page.outcome != expected:
        yield _finding(order, Wrong.WRONG, "", _difference(page.outcome, expected))


def _difference(found: SendOutcome, expected: SendOutcome) -> str:
    names = [name for name in SendOutcome.__struct_fields__ if getattr(found, name) != getattr(expected, name)]
    return ", ".join(f"{name} is {getattr(found, name)!r}, not {getattr(expected, name)!r}" for name in names)


def _finding(order: SentOrder, what: Wrong, notification_id: str, detail: str) -> Discrepancy:
    return Discrepancy(
        what=what, account=order.account, order=order.order, notification_id=notification_id, detail=detail
    )


class SeenEvent(Shown, frozen=True, kw_only=True):
    """What is read of an order event's value."""

    account: str
    order: str
    version: int


class _Sighted(Struct):
    """The events of one order: the bytes of each version, and the last as it reads."""

    values: dict[int, int]
    last: SeenEvent


class Sightings:
    """The order events of a run, as they come. Only a hash of each is kept."""

    def __init__(self) -> None:
        self._orders: dict[Named, _Sighted] = {}
        self._found: list[Discrepancy] = []
        self.count = 0
        self.copies = 0

    def see(self, event: SeenEvent, value: bytes) -> None:
        """Note one event, in the order in which a consumer gets it."""
        self.count += 1
        named = (event.account, event.order)
        digest = hash(value)
        sighted = self._orders.get(named)
        if sighted is None:
            self._orders[named] = _Sighted(values={event.version: digest}, last=event)
            return
        if event.version in sighted.values:
            self.copies += 1
            if sighted.values[event.version] != digest:
                self._note(event, Wrong.WRONG_EVENT, f"copies of version {event.version} differ")
            return
        if event.version < sighted.last.version:
            self._note(event, Wrong.EVENT_ORDER, f"version {event.version} came after {sighted.last.version}")
        else:
            sighted.last = event
        sighted.values[event.version] = digest

    def version(self, named: Named) -> int:
        """The highest version that an event of this order announced."""
        sighted = self._orders.get(named)
        return 0 if sighted is None else sighted.last.version

    def lacks(self, versions: Mapping[Named, int]) -> bool:
        """Whether an event is still missing."""
        return any(
            len(self._orders[named].values) < version if named in self._orders else version > 0
            for named, version in versions.items()
        )

    def verdict(self, pages: Mapping[Named, tuple[int, SendOutcome]]) -> list[Discrepancy]:
        """What is wrong with the events, where each order stands as `pages` say: its version, and what it is."""
        found = list(self._found)
        for (account, order), (version, outcome) in pages.items():
            found += self._of_order(account, order, version, outcome)
        for account, order in self._orders.keys() - pages.keys():
            found.append(
                Discrepancy(
                    what=Wrong.STRANGER, account=account, order=order, detail="events of an order never told of"
                )
            )
        return found

    def _of_order(self, account: str, order: str, version: int, outcome: SendOutcome) -> Iterator[Discrepancy]:
        sighted = self._orders.get((account, order))
        seen = sighted.values.keys() if sighted is not None else set()
        for each in range(1, version + 1):
            if each not in seen:
                yield Discrepancy(what=Wrong.MISSING_EVENT, account=account, order=order, detail=f"version {each}")
        for each in sorted(seen - set(range(1, version + 1))):
            detail = f"an event of version {each}, and the order is at {version}"
            yield Discrepancy(what=Wrong.WRONG_EVENT, account=account, order=order, detail=detail)
        if sighted is not None and sighted.last.version == version and sighted.last.outcome != outcome:
            detail = f"the last event against the page: {_difference(sighted.last.outcome, outcome)}"
            yield Discrepancy(what=Wrong.WRONG_EVENT, account=account, order=order, detail=detail)

    def _note(self, event: SeenEvent, what: Wrong, detail: str) -> None:
        self._found.append(Discrepancy(what=what, account=event.account, order=event.order, detail=detail))
