"""Lives of orders that surprise a receiver, for the flood: what Alipay really sends beside ordinary payments.

Each is chosen by the account's product. A step is an event of a trade, with the fields that a scenario would add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from typing import NamedTuple

import msgspec

from deploy.sandbox import serials
from deploy.sandbox.identities import Product
from deploy.sandbox.notifications import Edits, MessageKind, SandboxRefund, Trade, TradeEvent

# What these report moves no order.
UNMOVING = (
    MessageKind.OTHER, MessageKind.DISPUTE, MessageKind.AUTHORIZATION, MessageKind.SUBSCRIPTION, MessageKind.VAULTING,
)  # fmt: skip
PERIODS = 3
_NONE = Edits()
FORM_CURRENCIES = ("ILS", "KWD", "CLP")
ANTOM_CURRENCIES = ("BRL", "TWD", "VND", "CLP", "KWD", "XYZ")


class Step(NamedTuple):
    """One notification of a life."""

    trade: Trade
    event: TradeEvent
    edits: Edits = _NONE
    cut: tuple[str, ...] = ()
    ambiguous: bool = False


class StrangeLives:
    """Makes up the lives. The same `chance` gives the same ones."""

    def __init__(self, chance: Random, numbers: serials.Serials) -> None:
        self._chance = chance
        self._numbers = numbers

    def of(self, trade: Trade) -> list[Step]:
        """Return the steps of one order, in the order of events."""
        lives = _LIVES[trade.account.identity.product]
        return self._chance.choice(lives)(self, trade)

    def actions(self, trade: Trade) -> list[Step]:
        """Return a payment with refunds by refundFPAction, which state the sum so far; perhaps of everything."""
        totals = self._chance.choice([(20,), (20, 50), (40, 100)])
        return [_step(trade, MessageKind.PAID), *(
            _step(trade, MessageKind.REFUND_ACTION, hours=number, refund=self._refund(trade, percent))
            for number, percent in enumerate(totals, start=1)
        )]  # fmt: skip

    def reversal(self, trade: Trade) -> list[Step]:
        """Return a payment that is cancelled."""
        return [_step(trade, MessageKind.PAID), _step(trade, MessageKind.REVERSED, hours=1)]

    def priced(self, trade: Trade) -> list[Step]:
        """Return a payment in a currency that the form names."""
        currency = self._chance.choice(FORM_CURRENCIES)
        foreign = msgspec.structs.replace(trade, currency=currency)
        return [_step(foreign, MessageKind.WAITING), _step(foreign, MessageKind.PAID)]

    def overseas(self, trade: Trade) -> list[Step]:
        """Return a trade in trans_currency, if the account lists another one, and a partial refund."""
        currency = next(iter(trade.account.identity.currencies), trade.currency)
        foreign = msgspec.structs.replace(trade, currency=currency)
        refund = self._refund(trade, 25)
        return [
            _step(foreign, MessageKind.PAID),
            _step(foreign, MessageKind.REFUND, hours=1, refund=refund),
        ]

    def broken(self, trade: Trade) -> list[Step]:
        """Return a payment whose subject is cut inside its last character."""
        cut = msgspec.structs.replace(trade, subject="维多利亚港游船")
        return [_step(cut, MessageKind.PAID)._replace(cut=("subject",))]

    def harmless(self, trade: Trade) -> list[Step]:
        """Return a payment with parameters in its free text that decide nothing."""
        return [_step(trade, MessageKind.PAID, Edits(add=(("passback_params", "uid=5&body=abc"),)))]

    def ambiguous(self, trade: Trade) -> list[Step]:
        """Return a payment whose signature fits two amounts."""
        text = "A&total_amount=9.00" if trade.account.identity.product == "open" else "A&total_fee=9.00"
        return [_step(msgspec.structs.replace(trade, subject=text), MessageKind.PAID)._replace(ambiguous=True)]

    def mandate(self, trade: Trade) -> list[Step]:
        """Return a mandate that is signed and ended."""
        number = ("agreement_no", trade.trade_no)
        return [
            _step(trade, MessageKind.OTHER, Edits(add=(("notify_type", type_), number)), hours=hours)
            for hours, type_ in enumerate(("dut_user_sign", "dut_user_unsign"))
        ]

    def captures(self, trade: Trade) -> list[Step]:
        """Return a card payment that is authorised, and captured in one or two parts, after failures perhaps."""
        steps = [_step(trade, MessageKind.AUTHORIZED)]
        if self._chance.random() < 0.5:
            steps.append(_step(trade, MessageKind.CAPTURE_FAILED, _capture(trade, 0), hours=1))
        parts = self._chance.choice([(), (100,), (60,), (30, 40), (50, 50)])
        for number, percent in enumerate(parts, start=1):
            part = msgspec.structs.replace(trade, amount_minor=trade.amount_minor * percent // 100)
            steps.append(_step(part, MessageKind.CAPTURE, _capture(trade, number), hours=1 + number))
        return steps

    def subscription(self, trade: Trade) -> list[Step]:
        """Return the payments of some periods, each an order of its own, and the subscription's start."""
        periods = [
            msgspec.structs.replace(trade, trade_no=self._numbers.payment_id(trade.paid)) for _ in range(PERIODS)
        ]
        return [_step(trade, MessageKind.SUBSCRIPTION), *(
            _step(each, MessageKind.SUBSCRIPTION_PAYMENT, hours=number) for number, each in enumerate(periods)
        )]  # fmt: skip

    def settled(self, trade: Trade) -> list[Step]:
        """Return an Antom payment in one of its many currencies."""
        foreign = msgspec.structs.replace(trade, currency=self._chance.choice(ANTOM_CURRENCIES))
        return [_step(foreign, MessageKind.WAITING), _step(foreign, MessageKind.PAID)]

    def disputed(self, trade: Trade) -> list[Step]:
        """Return a payment that is disputed, and a card that is stored."""
        kinds = (MessageKind.PAID, MessageKind.DISPUTE, MessageKind.VAULTING)
        return [_step(trade, kind, hours=hours) for hours, kind in enumerate(kinds)]

    def _refund(self, trade: Trade, percent: int) -> SandboxRefund:
        minor = trade.amount_minor * percent // 100
        number = f"{trade.order}-R{percent}"
        refund_id = self._numbers.payment_id(trade.paid)
        return SandboxRefund(number=number, refund_id=refund_id, amount_minor=minor, total_minor=minor)


_LIVES: Mapping[Product, tuple[Callable[[StrangeLives, Trade], list[Step]], ...]] = {
    "in-app": (
        StrangeLives.actions, StrangeLives.actions, StrangeLives.reversal, StrangeLives.priced, StrangeLives.broken,
        StrangeLives.harmless, StrangeLives.ambiguous, StrangeLives.mandate,
    ),
    "website": (StrangeLives.priced, StrangeLives.mandate),
    "open": (
        StrangeLives.overseas, StrangeLives.overseas, StrangeLives.broken, StrangeLives.harmless,
        StrangeLives.ambiguous, StrangeLives.mandate,
    ),
    "antom": (
        StrangeLives.captures, StrangeLives.captures, StrangeLives.subscription, StrangeLives.settled,
        StrangeLives.disputed,
    ),
}  # fmt: skip


def _step(
    trade: Trade, kind: MessageKind, edits: Edits = _NONE, *, hours: int = 0, refund: SandboxRefund | None = None
) -> Step:
    at = trade.created if kind is MessageKind.WAITING else trade.paid + timedelta(hours=hours)
    return Step(trade, TradeEvent(kind=kind, at=at, refund=refund), edits)


def _capture(trade: Trade, number: int) -> Edits:
    """Return the numbers of one of several captures."""
    request = ("captureRequestId", f"CAP-{trade.order}-{number}")
    return Edits(override=(request, ("captureId", f"{trade.trade_no}{number}")))
