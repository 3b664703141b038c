"""A recorded week for shadow mode: signed notifications, the old handler's log and books, and planted differences.

The old handler is right about all that is not planted: it refuses forgeries and other merchants' notifications,
acknowledges the rest, and its books are those of the independent model. So each planted difference has to be found,
and nothing else.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.world import World
from schemas import money
from tests.acceptance import judge
from tests.support import flood_corpus, model
from tests.support.flood_corpus import Item

NOW = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
ACCOUNTS = ("demo-app", "demo-web", "demo-cn", "demo-antom", "demo-md5", "demo-cert")
ORDERS = 220

PAID = MessageKind.PAID

Planted = tuple[str, str, str]  # kind, account, order
Named = tuple[str, str]
Reactions = tuple[dict[str, Any], ...]
_ACKNOWLEDGED = {"status": 200, "answer": "success"}
_ANTOM_ACKNOWLEDGED = {"status": 200, "answer": '{"result":{"resultCode":"SUCCESS","resultStatus":"S"}}'}


class RecordedWeek:
    """The corpus. `planted` are the differences in it, and `never_logged` those that need a mirror to be found."""

    def __init__(self, world: World, *, seed: int, orders: int = ORDERS) -> None:
        self.items = list(flood_corpus.generate(world, seed=seed, orders=orders, now=NOW, accounts=ACCOUNTS))
        self.planted: set[Planted] = set()
        self.never_logged: set[int] = set()
        self._reactions = [_right_reaction(item) for item in self.items]
        self._by_order: dict[Named, list[int]] = defaultdict(list)
        for index, item in enumerate(self.items):
            if not item.refused:
                self._by_order[item.account, item.order].append(index)
        self._used: set[Named] = set()
        self._books = self._right_books(world)
        self._plant()

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the old handler's access log, without those that it never got."""
        for index, (item, reaction) in enumerate(zip(self.items, self._reactions, strict=True)):
            if index not in self.never_logged:
                yield self.line(index) | {"account": item.account} | reaction

    def line(self, index: int) -> dict[str, Any]:
        """Return the part of a line that is the request's."""
        item = self.items[index]
        headers = {name.lower().replace("-", "_"): value for name, value in item.headers}
        names = ("content_type", "client_id", "request_time", "signature")
        known: dict[str, Any] = {name: headers[name] for name in names if name in headers}
        time = f"{NOW.timestamp() + index:.3f}"
        return {"time": time, "request": f"r-{index}", "path": "/pay/ali", "body": item.body.decode(), **known}

    def books(self) -> str:
        """Return the merchant's orders as CSV."""
        rows = [f"{order},{row['state']},{row['amount']},{row['currency']},{row['refunded']},{account}"
                for (account, order), row in sorted(self._books.items())]  # fmt: skip
        return "\n".join(["order,state,amount,currency,refunded,account", *rows, ""])

    def _right_books(self, world: World) -> dict[Named, dict[str, str]]:
        books = {}
        for account in ACCOUNTS:
            own = [item for item in self.items if item.account == account and not item.refused]
            facts = {item.notify_id: judge.fact(item) for item in own}
            setting = judge.setting(world, account) | {"orders": "any"}
            for number, final in model.final(facts.values(), setting, {}).items():
                books[account, number] = _row(final)
        return books

    def _plant(self) -> None:
        refusals: Reactions = ({"status": 403}, {"status": 200, "answer": "fail"})
        failures: Reactions = ({"status": 500}, {"status": 200, "answer": "<p>OK</p>"})
        self._plant_accepted_forgeries()
        only_paid = lambda kinds: kinds == {MessageKind.PAID}  # noqa: E731
        for named in self._pick(4, only_paid):
            self._books[named]["amount"] = _more(self._books[named])
            self._add("accepted_held", named)
        for named, texts in zip(self._pick(2, only_paid), refusals, strict=True):
            self._react(self._by_order[named], texts)
            self._add("refused_accepted", named)
        for named, texts in zip(self._pick(2, only_paid), failures, strict=True):
            self._react(self._by_order[named][:1], texts)
            self._add("not_acknowledged", named)
        for named in self._pick(3, only_paid, deliveries_min=2):
            self._react(self._by_order[named], {"old_did": "applied"}, is_added=True)
            self._add("taken_twice", named)
        for named in self._pick(1, self._is_overtaken):
            waiting = [i for i in self._by_order[named] if self.items[i].facts.kind is MessageKind.WAITING]
            self._react(waiting, {"old_did": "applied"}, is_added=True)
            self._add("taken_late", named)
        self._plant_states(only_paid)
        for named in self._pick(3, only_paid, is_inside=True):
            self.never_logged.update(self._by_order[named])
            self._add("never_seen", named)

    def _plant_accepted_forgeries(self) -> None:
        forged = [index for index, item in enumerate(self.items) if item.forged and item.facts.kind is PAID]
        foreign = [index for index, item in enumerate(self.items) if item.refused and not item.forged]
        for index in (*forged[:4], *foreign[:2]):
            item = self.items[index]
            self._reactions[index] = _acknowledged(item)
            self.planted.add(("accepted_refused", item.account, item.order))
            self._used.add((item.account, item.order))

    def _plant_states(self, only_paid: Callable[[set[MessageKind]], bool]) -> None:
        first, second, third = self._pick(3, only_paid)
        self._books[first]["state"] = "waiting"
        self._books[second]["refunded"] = _more(self._books[second] | {"amount": self._books[second]["refunded"]})
        del self._books[third]
        for named in (first, second, third):
            # `demo-web` applies no payment of an order that its books do not have.
            is_held = named is third and named[0] == "demo-web"
            self._add("accepted_held" if is_held else "state_differs", named)

    def _is_overtaken(self, kinds: set[MessageKind]) -> bool:
        return {MessageKind.WAITING, MessageKind.PAID} <= kinds

    def _pick(
        self,
        count: int,
        fits: Callable[[set[MessageKind]], bool],
        *,
        deliveries_min: int = 1,
        is_inside: bool = False,
    ) -> Sequence[Named]:
        """Return orders that no other difference is planted in."""
        found: list[Named] = []
        for named, indexes in self._by_order.items():
            kinds = {self.items[index].facts.kind for index in indexes}
            ids = {self.items[index].notify_id for index in indexes}
            is_late = fits == self._is_overtaken
            if is_late and not self._ends_with_waiting(indexes):
                continue
            if is_inside and not 50 < indexes[0] <= indexes[-1] < len(self.items) - 50:
                continue
            if (
                named in self._used
                or not fits(kinds)
                or len(indexes) < deliveries_min
                or (len(ids) > 1 and not is_late)
            ):
                continue
            found.append(named)
            self._used.add(named)
            if len(found) == count:
                return found
        raise AssertionError(f"the corpus has only {len(found)} of {count} such orders")

    def _ends_with_waiting(self, indexes: Sequence[int]) -> bool:
        """Whether the payment came before everything that tells of waiting, which came once."""
        kinds = [self.items[index].facts.kind for index in indexes]
        return kinds[0] is MessageKind.PAID and kinds.count(MessageKind.WAITING) == 1

    def _react(self, indexes: Sequence[int], reaction: Mapping[str, Any], *, is_added: bool = False) -> None:
        for index in indexes:
            self._reactions[index] = {**(self._reactions[index] if is_added else {}), **reaction}

    def _add(self, kind: str, named: Named) -> None:
        self.planted.add((kind, *named))


def as_lines(lines: Iterator[dict[str, Any]]) -> str:
    """Return JSON lines."""
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def _acknowledged(item: Item) -> dict[str, Any]:
    return dict(_ANTOM_ACKNOWLEDGED if item.account == "demo-antom" else _ACKNOWLEDGED)


def _right_reaction(item: Item) -> dict[str, Any]:
    return {"status": 400, "answer": "fail"} if item.refused else _acknowledged(item)


def _row(final: Mapping[str, Any]) -> dict[str, str]:
    states = {"PAID": "TRADE_SUCCESS", "FINISHED": "finished", "WAITING": "unpaid", "CLOSED": "closed"}
    state = "refunded" if final["closed_because"] == "refunded" else states[final["status"]]
    currency = final["currency"]
    return {
        "state": state,
        "amount": money.major(final["amount_minor"], currency),
        "refunded": money.major(final["refunded_minor"], currency),
        "currency": currency,
    }


def _more(row: Mapping[str, str]) -> str:
    """Return another amount than the row's."""
    amount = money.parse_major(row["amount"], row["currency"])
    return money.major(amount.minor + 100, row["currency"])
