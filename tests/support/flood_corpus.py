"""A seeded flood for the tests: signed notifications of many orders, with everything that a bad week brings.

Each order is paid, paid and finished, refunded in parts or in full, or expired. Its notifications are retried and
reordered. Forgeries and notifications of a foreign seller stand among them, and on request the lives of
`flood_lives`. `alipay-notify load` sends another mix at a constant rate; this one is more hostile, and each item
carries all facts for the independent model.

The same seed, world and arguments give the same items, except for forged signatures, because the forger's keys are new
each time. A forgery has its own notify_id. An Antom forgery has none, so it is about an order of its own. Therefore the
judge cannot mistake a forgery for the genuine item beside it.

Signing costs about 0.1 ms for the 1024-bit key and 0.3 ms for the 2048-bit ones on one core, nothing for MD5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from random import Random
from urllib.parse import parse_qsl

import msgspec

from deploy.load import origin
from deploy.sandbox import field_sets, forgery, notifications, planning, serials
from deploy.sandbox.delivery import PROFILES
from deploy.sandbox.notifications import (
    Facts,
    MessageKind,
    SandboxRefund,
    SignedDelivery,
    Trade,
    TradeEvent,
    UnsignedNotification,
)
from deploy.sandbox.world import SandboxAccount, World
from tests.support import flood_lives
from tests.support.flood_lives import Step

_LIVES: tuple[str, ...] = ("paid", "paid", "paid", "finished", "part", "parts", "whole", "expired")
_REFUNDED_PERCENT: Mapping[str, tuple[int, ...]] = {"part": (30,), "parts": (20, 30), "whole": (100,)}
_SUBJECTS = ("Museum pass, two days", "港式奶茶 x2 + 礼盒", "Night boat ticket 10% off", "Tea & cake = two")
_FORGED_SHARE = 0.05
_STRANGER_SHARE = 0.02
_RETRY_SHARE = 0.25
# Items are shuffled within a window that is this many orders long: far enough to reorder, near enough to stream.
_WINDOW_ORDERS = 200
_STRANGER_SELLER = "2088999900009009"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One request to send.

    `refused`: the receiver must refuse it, because it is `forged`, or genuine but another merchant's. `order` is set
    even if the message does not name it (see `facts.names_order`). `notify_id` of an Antom message is its business key.
    """

    account: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    notify_id: str
    order: str
    forged: bool
    refused: bool
    retry: bool
    facts: Facts
    ambiguous: bool = False


def generate(
    world: World,
    *,
    seed: int,
    orders: int,
    now: datetime,
    accounts: Sequence[str] | None = None,
    strange: float = 0.0,
) -> Iterator[Item]:
    """Yield the items of this many orders, shuffled; about three items an order. Memory stays bounded.

    `strange` is the share of orders with a life of `flood_lives`. By default all accounts take part except those with
    notify_verify, because no gateway answers for them.
    """
    chance = Random(seed)
    names = tuple(accounts if accounts is not None else origin.verifiable_offline(world))
    author = _Author(chance, strange)
    window: list[Item] = []
    for index in range(orders):
        account = world.account(chance.choice(names))
        window += author.items(account, number=index, now=now)
        if (index + 1) % _WINDOW_ORDERS == 0:
            chance.shuffle(window)
            # Keep half back, so that an order's items spread beyond their own window.
            half = len(window) // 2
            yield from window[:half]
            window = window[half:]
    chance.shuffle(window)
    yield from window


def forgeries(world: World, *, seed: int, orders: int, now: datetime, account: str) -> Iterator[Item]:
    """Yield forgeries about this many orders of the account, and nothing genuine; about two an order."""
    author = _Author(Random(seed), strange=0.0)
    for number in range(orders):
        yield from author.forgeries(world.account(account), number=number, now=now)


class _Author:
    def __init__(self, chance: Random, strange: float) -> None:
        self._chance = chance
        self._strange = strange
        self._numbers = serials.Serials(chance)
        self._forger = forgery.Forger()
        self._strange_lives = flood_lives.StrangeLives(chance, self._numbers)

    def items(self, account: SandboxAccount, *, number: int, now: datetime) -> list[Item]:
        """Return all requests about one order, unshuffled."""
        trade = self._trade(account, number=number, now=now)
        items: list[Item] = []
        for step in self._steps(trade):
            one = self._composed(step)
            items.append(_item(one, at=step.event.at, ambiguous=step.ambiguous))
            items += self._retries(one, step)
            if not step.ambiguous:
                items += self._hostile(one, step)
        return items

    def forgeries(self, account: SandboxAccount, *, number: int, now: datetime) -> Iterator[Item]:
        """Yield a forgery instead of each genuine notification about one order."""
        for step in self._steps(self._trade(account, number=number, now=now)):
            looks = self._composed(_lookalike(step))
            yield _item(self._forger.forge(looks, self._chance.choice(forgery.WAYS)), at=step.event.at, forged=True)

    def _steps(self, trade: Trade) -> list[Step]:
        if self._strange and self._chance.random() < self._strange:
            return self._strange_lives.of(trade)
        return [Step(trade, event) for event in self._life(trade)]

    def _composed(self, step: Step) -> UnsignedNotification:
        one = field_sets.compose(step.trade, step.event, numbers=self._numbers, chance=self._chance)
        return planning.finished(notifications.edited(one, step.edits), cut=step.cut)

    def _retries(self, one: UnsignedNotification, step: Step) -> list[Item]:
        """Return some of Alipay's retries, each at its scheduled moment."""
        retries: list[Item] = []
        schedule = PROFILES["cn-4m"]
        while self._chance.random() < _RETRY_SHARE and len(retries) + 1 < schedule.deliveries:
            later = step.event.at + timedelta(seconds=schedule.offset_s(len(retries) + 2))
            retries.append(_item(one, at=later, retry=True, ambiguous=step.ambiguous))
        return retries

    def _trade(self, account: SandboxAccount, *, number: int, now: datetime) -> Trade:
        paid = now - timedelta(seconds=self._chance.randrange(86_400))
        identity = account.identity
        antom = identity.product == "antom"
        return Trade(
            account=account,
            order=f"C{number:07d}-{self._chance.randrange(10**6):06d}",
            trade_no=self._numbers.payment_id(paid) if antom else self._numbers.trade_no(paid),
            amount_minor=self._chance.randrange(100, 1_000_000),
            currency=identity.currency,
            subject=self._chance.choice(_SUBJECTS),
            created=paid - timedelta(seconds=45),
            paid=paid,
        )

    def _life(self, trade: Trade) -> list[TradeEvent]:
        """Return the events of a trade in their order. A life that its product does not know ends as paid."""
        life = self._chance.choice(_LIVES)
        product = trade.account.identity.product
        # A pending Antom payment has already been paid by the buyer; it does not expire.
        waiting = [TradeEvent(kind=MessageKind.WAITING, at=trade.created)] if self._chance.random() < 0.3 else []
        if life == "expired":
            return [*waiting, TradeEvent(kind=MessageKind.CLOSED, at=trade.paid + timedelta(minutes=30))]
        events = [*waiting, TradeEvent(kind=MessageKind.PAID, at=trade.paid)]
        if life == "finished" and product in ("in-app", "open"):
            return [*events, TradeEvent(kind=MessageKind.FINISHED, at=trade.paid + timedelta(days=90))]
        return [*events, *self._refunds(trade, _REFUNDED_PERCENT.get(life, ()))]

    def _refunds(self, trade: Trade, percents: Sequence[int]) -> list[TradeEvent]:
        events: list[TradeEvent] = []
        total = 0
        for index, percent in enumerate(percents, start=1):
            part = trade.amount_minor * percent // 100
            total += part
            at = trade.paid + timedelta(hours=index, milliseconds=self._chance.randrange(1000))
            refund = SandboxRefund(
                number=f"{trade.order}-R{index}",
                refund_id=self._numbers.payment_id(at),
                amount_minor=part,
                total_minor=total,
            )
            events.append(TradeEvent(kind=MessageKind.REFUND, at=at, refund=refund))
        return events

    def _hostile(self, genuine: UnsignedNotification, step: Step) -> list[Item]:
        items: list[Item] = []
        trade, at = step.trade, step.event.at
        if self._chance.random() < _FORGED_SHARE:
            looks = self._composed(_lookalike(step))
            if looks.notify_id != genuine.notify_id:  # else the judge would mistake one for the other
                items.append(_item(self._forger.forge(looks, self._chance.choice(forgery.WAYS)), at=at, forged=True))
        names_seller = trade.account.identity.seller_id and step.event.kind is not MessageKind.OTHER
        if self._chance.random() < _STRANGER_SHARE and names_seller:
            identity = msgspec.structs.replace(trade.account.identity, seller_id=_STRANGER_SELLER)
            theirs = msgspec.structs.replace(trade.account, identity=identity)
            foreign = self._composed(step._replace(trade=msgspec.structs.replace(trade, account=theirs)))
            items.append(_item(foreign, at=at, refused=True))
        return items


def _lookalike(step: Step) -> Step:
    """Return the step that the forger starts from: the same event under its own id."""
    trade, event = step.trade, step.event
    if trade.account.identity.product == "antom":
        trade = msgspec.structs.replace(trade, order=f"{trade.order}F")
        if event.refund is not None:
            refund = msgspec.structs.replace(event.refund, number=f"{event.refund.number}F")
            event = msgspec.structs.replace(event, refund=refund)
    return step._replace(trade=trade, event=event)


def _item(
    one: UnsignedNotification,
    *,
    at: datetime,
    forged: bool = False,
    refused: bool = False,
    retry: bool = False,
    ambiguous: bool = False,
) -> Item:
    delivery: SignedDelivery = one.delivery(at)
    return Item(
        account=one.account.identity.name,
        path=delivery.path,
        headers=delivery.headers,
        body=delivery.body,
        notify_id=_id_by_signature(delivery.body) if ambiguous else one.notify_id,
        order=one.order,
        forged=forged,
        refused=forged or refused,
        retry=retry,
        facts=one.facts,
        ambiguous=ambiguous,
    )


def _id_by_signature(body: bytes) -> str:
    """Return the id of an ambiguous form. None of its numbers can be believed, so its signature stands for them."""
    sign = dict(parse_qsl(body.decode("ascii"), errors="replace"))["sign"]
    return f"sign-{blake2b(sign.encode('ascii'), digest_size=16).hexdigest()}"
