"""What a run sends: how much of it is what, and what happens to each order. No keys, no clock, no bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from msgspec import Struct, structs

from deploy.sandbox import serials
from deploy.sandbox.notifications import Event, Kind, Refund, Trade
from deploy.sandbox.world import Account

_SUBJECTS = ("Museum pass, two days", "港式奶茶 x2 + 礼盒", "Night boat ticket 10% off", "Tea & cake = two")
_CHECKOUT = timedelta(seconds=45)
_UNTIL_EXPIRED = timedelta(minutes=30)
_UNTIL_FINISHED = timedelta(days=90)
# A life in the old gateway's and the Open Platform's words; Antom's refunds name no order, so they would need to be
# registered first, and here nothing is.
_LIVES = ("finished", "finished", "part", "parts", "whole", "expired")
_REFUNDED_PERCENT = {"part": (30,), "parts": (20, 30), "whole": (40, 60)}


class Mix(Struct, frozen=True, kw_only=True):
    """`duplicates` and `forgeries` are shares of all requests; `lifecycles` is that of the orders which have more to
    tell than one payment."""

    duplicates: float = 0.15
    lifecycles: float = 0.3
    forgeries: float = 0.02

    def counts(self, total: int) -> tuple[int, int, int]:
        """How many of this many requests are genuine and new, told again, and forged."""
        forged = round(total * self.forgeries)
        again = round(total * self.duplicates)
        genuine = max(1, total - forged - again) if total else 0
        return genuine, min(again, total - genuine), total - genuine - min(again, total - genuine)


class Life(Struct, frozen=True, kw_only=True):
    """One order: its trade, and what happens to it, in the order in which it happens."""

    trade: Trade
    events: tuple[Event, ...]


class Lives:
    """Makes up orders. The same chance gives the same ones."""

    def __init__(self, *, run: str, accounts: Sequence[Account], mix: Mix, chance: Random) -> None:
        """`run` begins every order's number, and sets the run apart from those before it."""
        self._run = run
        self._accounts = accounts
        self._mix = mix
        self._chance = chance
        self._numbers = serials.Serials(chance)

    def order(self, number: int, *, now: datetime) -> Life:
        """The order of this number."""
        account = self._chance.choice(self._accounts)
        life = self._chance.choice(_LIVES) if self._chance.random() < self._mix.lifecycles else "paid"
        began = now - _UNTIL_FINISHED - timedelta(days=1) if life == "finished" else now
        trade = self._trade(account, number, paid=began)
        if life == "paid":
            return Life(trade=trade, events=(Event(kind=Kind.PAID, at=began),))
        if account.identity.product == "antom":
            events = [Event(kind=Kind.WAITING, at=trade.created), Event(kind=Kind.PAID, at=began)]
            return Life(trade=trade, events=tuple(events))
        return Life(trade=trade, events=tuple(self._events(trade, life)))

    def _trade(self, account: Account, number: int, *, paid: datetime) -> Trade:
        antom = account.identity.product == "antom"
        return Trade(
            account=account,
            order=f"{self._run}-{number:07d}",
            trade_no=self._numbers.payment_id(paid) if antom else self._numbers.trade_no(paid),
            amount_minor=self._chance.randrange(100, 1_000_000),
            currency=account.identity.currency,
            subject=self._chance.choice(_SUBJECTS),
            created=paid - _CHECKOUT,
            paid=paid,
        )

    def _events(self, trade: Trade, life: str) -> list[Event]:
        waiting = Event(kind=Kind.WAITING, at=trade.created)
        if life == "expired":
            return [waiting, Event(kind=Kind.CLOSED, at=trade.paid + _UNTIL_EXPIRED)]
        events = [waiting, Event(kind=Kind.PAID, at=trade.paid)]
        if life == "finished":
            return [*events, Event(kind=Kind.FINISHED, at=trade.paid + _UNTIL_FINISHED)]
        return [*events, *self._refunds(trade, _REFUNDED_PERCENT[life])]

    def _refunds(self, trade: Trade, percents: Sequence[int]) -> list[Event]:
        events: list[Event] = []
        total = 0
        for index, percent in enumerate(percents, start=1):
            # The last of a whole refund takes the rest, so that rounding leaves nothing over.
            is_rest = index == len(percents) and sum(percents) == 100
            part = trade.amount_minor - total if is_rest else trade.amount_minor * percent // 100
            total += part
            at = trade.paid + timedelta(seconds=index)
            refund = Refund(
                number=f"{trade.order}-R{index}",
                refund_id=self._numbers.payment_id(at),
                amount_minor=part,
                total_minor=total,
            )
            events.append(Event(kind=Kind.REFUND, at=at, refund=refund))
        return events


def lookalike(life: Life, event: Event) -> tuple[Trade, Event]:
    """What a forger starts from. An Antom message has no id of its own, so a forged one is about another order: no
    judge may mistake it for the genuine one."""
    if life.trade.account.identity.product != "antom":
        return life.trade, event
    return structs.replace(life.trade, order=f"{life.trade.order}F"), event
