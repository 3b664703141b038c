"""Settlement without processes: deliveries go in, the store keeps the decisions, and the model judges the result."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import structs

from schemas import topics
from schemas.accounts import Account
from schemas.dispositions import HELD, Disposition
from schemas.notification import Notification
from schemas.orders import Order, View
from tests.support import facts, model
from tests.support.fakes import Offsets
from tests.support.stores import MemoryStore
from workers.settlement import decision, loading, order_view, verdicts
from workers.settlement.plan import Decide, Delivery, HeldRow, ParsedRecord, Position, Registration
from workers.settlement.verdicts import Verdict

NOW_MS = 1_743_480_000_000
HOUR_MS = 3_600_000


def members(view: View) -> dict[str, Any]:
    """Return a view in the model's shape."""
    named = {name: getattr(view, name) for name in view.__struct_fields__}
    return named | {"flags": set(view.flags), "claims": msgspec.to_builtins(list(view.claims))}


class World:
    """One account's store, and the clock. The model's registrations are kept beside the product's own."""

    def __init__(self, account: Account, registered: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.account = account
        self.store = MemoryStore()
        self.now_ms = NOW_MS
        self.registered: dict[str, Mapping[str, Any]] = {}
        self._log = Offsets()
        self._notifications: dict[Position, Notification] = {}
        for number, registration in (registered or {}).items():
            self.register(number, registration)

    def register(self, number: str, registration: Mapping[str, Any]) -> None:
        entry = Registration(amounts=facts.amounts(registration), refunds=tuple(registration.get("refunds", ())))
        self.store.register_now(self.account.name, number, entry, now_ms=self.now_ms)
        self.registered[number] = registration

    def deliver(self, *notifications: Notification) -> list[Delivery]:
        """Process one batch; return the disposition of each notification."""
        readings = [facts.reading(notification, self.account, self._log.position()) for notification in notifications]
        self._notifications.update(
            {reading.position: notification for reading, notification in zip(readings, notifications, strict=True)}
        )
        self._settle(readings)
        return [self.store.deliveries[reading.position] for reading in readings]

    def sweep(self) -> None:
        """Retry due rows until none is due, as the sweeper does."""
        while due := self.store.due_now(now_ms=self.now_ms):
            self.retry(due)

    def retry(self, rows: Iterable[HeldRow]) -> None:
        self._settle([self._again(row) for row in rows])

    def accept(self, row: HeldRow) -> None:
        """Accept a held notification as an operator does, without trying the order's other rows again.

        Raises:
            DecisionRefused: it cannot be accepted.
        """
        again = self._again(row)
        self._decide(
            again,
            lambda known: verdicts.accept(again, [], known, facts.ACCOUNTS, self._verdict(), chance=lambda: 0.5),
        )

    def discard(self, row: HeldRow) -> None:
        """Discard a held refund or capture as an operator does."""
        again = self._again(row)
        self._decide(
            again,
            lambda known: verdicts.discard(
                row, again.notification, known, self.account, lambda record: None, self._verdict()
            ),
        )

    def _verdict(self) -> Verdict:
        return Verdict(by="ana", why="agreed with the buyer", at_ms=self.now_ms)

    def _decide(self, again: ParsedRecord, decide: Decide) -> None:
        needs = loading.load_request([again])
        orders = needs.orders | ({(self.account.name, again.held.order)} if again.held and again.held.order else set())
        self.store.settle_now(structs.replace(needs, orders=orders, with_history=True), decide)

    def wait(self, hours: float) -> None:
        self.now_ms += int(hours * HOUR_MS)

    def order(self, number: str = "A") -> Order:
        return self.store.orders[self.account.name, number]

    def seen(self) -> dict[str, dict[str, Any]]:
        """The orders that consumers can see, in the model's shape."""
        shown = {}
        for (_, number), order in self.store.orders.items():
            if not order.is_note:
                view = order_view.view(order)
                shown[number] = members(view)
        return shown

    def judge(self, delivered: Iterable[facts.Fact]) -> None:
        """Assert everything that must hold in every order of arrival."""
        truth = model.final(delivered, facts.settings(self.account), self.registered)
        assert self.seen() == {self._named(number, order): order for number, order in truth.items()}
        self._judge_dispositions()
        self._judge_events()

    def _named(self, number: str, order: Mapping[str, Any]) -> str:
        """Return the number that the order has here: the payment's own if it came first without an order."""
        is_by_trade = (self.account.name, order["trade"]) in self.store.orders and number not in self.seen()
        return str(order["trade"]) if is_by_trade else number

    def _judge_dispositions(self) -> None:
        assert self.store.deliveries.keys() == self._notifications.keys(), "each record has exactly one disposition"
        ends = defaultdict(list)
        for position, delivery in self.store.deliveries.items():
            is_held = delivery.disposition in HELD
            assert is_held == (position in self.store.held), (
                "held if its disposition is one of the held ones, and only then"
            )
            ends[delivery.notification_id].append(delivery.disposition)
        for dispositions in ends.values():
            again = (Disposition.DUPLICATE, Disposition.STALE)
            assert sum(disposition not in again for disposition in dispositions) <= 1, "an id counts once"
        assert {notification.id for notification in self._notifications.values()} == {
            id_ for _, id_ in self.store.ledger
        }

    def _judge_events(self) -> None:
        versions = defaultdict(list)
        latest = {}
        for outgoing in self.store.outbox:
            if outgoing.topic == topics.ORDER_EVENT:
                event = json.loads(outgoing.value)
                assert outgoing.id == f"{event['account']}:{event['order']}:{event['version']}"
                versions[event["order"]].append(event["version"])
                assert event["changed"], "an event has a change"
                latest[event["order"]] = event
        for number, shown in self.seen().items():
            assert versions[number] == list(range(1, self.order(number).version + 1)), "versions 1..n, one event each"
            if number in latest:
                last = {name: latest[number].get(name) for name in shown} | {"flags": set(latest[number]["flags"])}
                last["claims"] = last["claims"] or []
                if last["authorized_until"] is not None:
                    last["authorized_until"] = datetime.fromisoformat(last["authorized_until"])
                assert last == shown, "the last event is the order as it is"
        ids = [outgoing.id for outgoing in self.store.outbox]
        assert len(ids) == len(set(ids)), "no id goes out twice"

    def _settle(self, readings: Sequence[ParsedRecord]) -> None:
        self.store.settle_now(
            loading.load_request(readings),
            lambda known: decision.decide(readings, known, facts.ACCOUNTS, now_ms=self.now_ms, chance=lambda: 0.5),
        )

    def _again(self, row: HeldRow) -> ParsedRecord:
        return ParsedRecord(
            position=row.position,
            record=row.record,
            account=row.account,
            received_at_ms=self.now_ms,
            notification=self._notifications[row.position],
            held=row,
        )
