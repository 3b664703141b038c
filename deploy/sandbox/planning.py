"""Plan a scenario for an account: the notifications that it sends, in their order, and the end that it expects.

Randomness and the current time are arguments, so that a seed repeats a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

import msgspec

from deploy.sandbox import antom_messages, field_sets, forgery, notifications, serials
from deploy.sandbox.delivery import DeliveryJob
from deploy.sandbox.identities import Product
from deploy.sandbox.notifications import (
    Edits,
    MessageKind,
    SandboxRefund,
    Trade,
    TradeEvent,
    UnplayableError,
    UnsignedNotification,
)
from deploy.sandbox.scenario import End, Scenario, ScenarioStep, duration
from deploy.sandbox.world import SandboxAccount
from schemas import money
from schemas.currencies import EXPONENTS

# A trade is created about this long before it is paid.
_CHECKOUT = timedelta(seconds=45)
_SUBJECT = "Museum pass, two days"
_PREFIX: Mapping[Product, str] = {"in-app": "APP", "website": "WEB", "open": "OP", "antom": "PAY"}
# Kinds that move no order.
_UNMOVING = (MessageKind.OTHER, MessageKind.AUTHORIZATION, MessageKind.SUBSCRIPTION, MessageKind.VAULTING)
_PAYMENTS = (MessageKind.PAID, MessageKind.AUTHORIZED, MessageKind.SUBSCRIPTION_PAYMENT)
# The account of another merchant, for a step that reaches the wrong one. Made up, like all ids here.
_STRANGER = {"seller_id": "2088999900009009", "partner": "2088999900009009", "app_id": "2021999900009009",
             "client_id": "SANDBOX_5Y0000000000009009"}  # fmt: skip


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step, ready to be played: wait, then deliver. `offered` are the names of the fields that could be edited."""

    wait_s: float
    job: DeliveryJob
    offered: frozenset[str]


class OrderKey(NamedTuple):
    """What one order is found by: a service provider's merchant (empty at other accounts), and the number."""

    auth_app_id: str
    number: str


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one order, the amount that its merchant expects, and the end that the scenario promises."""

    account: SandboxAccount
    order: str
    amount_minor: int
    currency: str
    planned: datetime
    steps: tuple[PlannedStep, ...]
    end: End | None

    @property
    def expectation(self) -> dict[str, object]:
        """Return the merchant's registration of the order: its amount, and the refunds that Antom will report."""
        known = self.currency in EXPONENTS
        expected: dict[str, object] = {"amount": money.major(self.amount_minor, self.currency)} if known else {}
        expected |= {"currency": self.currency} if known else {
            "amount_minor": self.amount_minor, "currency": self.currency
        }  # fmt: skip
        facts = [step.job.notification.facts for step in self.steps]
        refunds = [one.refund.number for one in facts if one.refund is not None and not one.names_order]
        if refunds and self.account.identity.product == "antom":
            expected["refunds"] = refunds
        return expected

    @property
    def orders(self) -> tuple[OrderKey, ...]:
        """Return the orders that the notifications move: one, except for a subscription's periods, and merchants."""
        moving = (step.job.notification for step in self.steps if not step.job.forged)
        keys = (_order_key(one.account, one.order) for one in moving if one.facts.kind not in _UNMOVING)
        return tuple(dict.fromkeys(keys)) or (_order_key(self.account, self.order),)

    @property
    def merchants(self) -> tuple[str, ...]:
        """Return the service provider's merchants that have the order; one empty text at other accounts."""
        return tuple(dict.fromkeys(key.auth_app_id for key in self.orders))


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a scenario that the user asks for."""

    order: str = ""
    amount: str = "12.80"
    edits: Edits = Edits()
    url: str = ""


class Planner:
    """Makes notifications from scenarios; the same ones again from the same seed."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._numbers = serials.Serials(chance)
        self._forger = forgery.Forger()

    def plan(
        self, scenario: Scenario, account: SandboxAccount, *, now: datetime, base_url: str, wishes: Wishes | None = None
    ) -> tuple[Course, ...]:
        """Return one course per order: its steps in the order of sending, with times relative to `now`.

        Raises:
            UnplayableError: the scenario does not suit the account, or an edit names a field that no notification has.
        """
        wishes = wishes or Wishes()
        if not scenario.suits(account):
            raise UnplayableError(_why_not(scenario, account))
        courses = tuple(
            self._course(scenario, account, now=now, base_url=base_url, wishes=wishes) for _ in range(scenario.orders)
        )
        _refuse_idle_edits(wishes.edits, courses)
        return courses

    def _course(
        self, scenario: Scenario, account: SandboxAccount, *, now: datetime, base_url: str, wishes: Wishes
    ) -> Course:
        order = wishes.order or self._numbers.order(_PREFIX[account.identity.product], now)
        numbers = sorted({_trade_of(step) for step in scenario.step})
        trades = {
            one: self._trade(scenario, account.of_merchant(one[0]), order, one, now=now, wishes=wishes)
            for one in numbers
        }
        refunds = self._refunds(scenario, trades[numbers[0]], now)
        serial = self._numbers.trade_no(now)
        steps = tuple(
            self._planned(
                step,
                trades[_trade_of(step)],
                refunds.get(index),
                serial=serial,
                now=now,
                base_url=base_url,
                wishes=wishes,
            )
            for index, step in enumerate(scenario.step)
        )
        first = trades[numbers[0]]
        return Course(
            account=first.account,
            order=order,
            amount_minor=first.amount_minor,
            currency=first.currency,
            planned=now,
            steps=steps,
            end=scenario.end(account.identity),
        )

    def _trade(
        self,
        scenario: Scenario,
        account: SandboxAccount,
        order: str,
        which: tuple[int, int],
        *,
        now: datetime,
        wishes: Wishes,
    ) -> Trade:
        own = (step for step in scenario.step if _trade_of(step) == which)
        paid = min((now + duration(step.at) for step in own if step.send in _PAYMENTS), default=now)
        currency = scenario.currency or account.identity.currency
        return Trade(
            account=account,
            order=order,
            trade_no=self._trade_no(account, paid),
            amount_minor=field_sets.minor_units(_in_decimals(wishes.amount, currency), currency),
            currency=currency,
            subject=_SUBJECT,
            created=paid - _CHECKOUT,
            paid=paid,
        )

    def _trade_no(self, account: SandboxAccount, at: datetime) -> str:
        antom = account.identity.product == "antom"
        return self._numbers.payment_id(at) if antom else self._numbers.trade_no(at)

    def _refunds(self, scenario: Scenario, trade: Trade, now: datetime) -> dict[int, SandboxRefund]:
        """Return the refunds by step. Totals add up in the order of events, not of sending."""
        refunds: dict[int, SandboxRefund] = {}
        totals: dict[int, int] = {}  # by merchant
        dated = sorted((duration(step.at), index) for index, step in enumerate(scenario.step) if step.share)
        for when, index in dated:
            part = trade.amount_minor * field_sets.minor_units(scenario.step[index].share, "") // 100
            merchant = scenario.step[index].merchant
            totals[merchant] = totals.get(merchant, 0) + part
            refunds[index] = SandboxRefund(
                number=self._numbers.order("RF", now + when),
                refund_id=self._numbers.payment_id(now + when),
                amount_minor=part,
                total_minor=totals[merchant],
            )
        return refunds

    def _planned(
        self,
        step: ScenarioStep,
        trade: Trade,
        refund: SandboxRefund | None,
        *,
        serial: str,
        now: datetime,
        base_url: str,
        wishes: Wishes,
    ) -> PlannedStep:
        happened = now + duration(step.at)
        event = TradeEvent(kind=step.send, at=happened, refund=refund)
        one = field_sets.compose(_as_sent(step, trade), event, numbers=self._numbers, chance=self._chance)
        values = {"{order}": trade.order, "{trade_no}": trade.trade_no, "{serial}": serial}
        override, add = _filled(step.override, values), _filled(step.add, values)
        one = notifications.edited(one, Edits(override=override, add=add, remove=step.remove))
        offered = frozenset(name for name, _ in one.fields)
        one = notifications.edited(one, _fitting(wishes.edits, offered))
        one = finished(one, cut=step.cut)
        if step.forge is not None:
            one = self._forger.forge(one, step.forge)
        job = DeliveryJob(
            notification=one,
            url=wishes.url or base_url + one.account.identity.path,
            at=happened + duration(step.late),
            expected=step.expect,
            forged=step.forge is not None,
            copies=step.times,
        )
        return PlannedStep(wait_s=duration(step.wait).total_seconds(), job=job, offered=offered)


def _trade_of(step: ScenarioStep) -> tuple[int, int]:
    """Return what tells the trades of one order number apart: the merchant, and the number of its trade."""
    return step.merchant, step.trade


def _order_key(account: SandboxAccount, number: str) -> OrderKey:
    return OrderKey(account.identity.auth_app_id if account.identity.merchants else "", number)


def _as_sent(step: ScenarioStep, trade: Trade) -> Trade:
    """Return the trade as this step presents it, with its own amount, charset, subject, algorithm or addressee."""
    account = trade.account.signing_as(step.sign_type) if step.sign_type else trade.account
    identity = account.identity
    if step.charset:
        identity = msgspec.structs.replace(identity, charset=step.charset)
    if step.stranger:
        theirs = {name: value for name, value in _STRANGER.items() if getattr(identity, name)}
        identity = msgspec.structs.replace(identity, **theirs)
    return msgspec.structs.replace(
        trade,
        account=msgspec.structs.replace(account, identity=identity),
        amount_minor=field_sets.minor_units(_in_decimals(step.amount, trade.currency), trade.currency)
        if step.amount
        else trade.amount_minor,
        subject=step.subject or trade.subject,
    )


def _filled(table: Mapping[str, str], values: Mapping[str, str]) -> notifications.Fields:
    """Return the fields with the numbers of this play in place of `{order}`, `{trade_no}` and `{serial}`."""
    filled: list[tuple[str, str]] = []
    for name, text in table.items():
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        filled.append((name, text))
    return tuple(filled)


def finished(one: UnsignedNotification, *, cut: Sequence[str]) -> UnsignedNotification:
    """Return an edited notification as it is sent: some fields cut inside their last character, as Alipay cuts long
    texts, and an Antom message with the business key that its edited fields give.

    Raises:
        UnplayableError: it has no such field.
    """
    if missing := set(cut) - {name for name, _ in one.fields}:
        raise UnplayableError(f"the notification has no field {min(missing)!r} to cut")
    fields = tuple(
        (name, value.encode(one.charset)[:-1].decode(one.charset, "surrogateescape") if name in cut else value)
        for name, value in one.fields
    )
    antom = one.account.identity.product == "antom"
    notify_id = antom_messages.business_key(dict(fields)) if antom else one.notify_id
    return msgspec.structs.replace(one, fields=fields, notify_id=notify_id)


def _in_decimals(amount: str, currency: str) -> str:
    """Return an amount with two decimals in the decimals of the currency; other texts stay, to be refused."""
    decimals = EXPONENTS.get(currency, 2)
    whole, point, cents = amount.partition(".")
    if decimals == 2 or not point or len(cents) != 2:
        return amount
    return f"{whole}.{cents}0" if decimals == 3 else whole


def _fitting(edits: Edits, names: frozenset[str]) -> Edits:
    """Return the edits of fields that this notification has. Edits that fit no notification are refused later."""
    return Edits(
        override=tuple(pair for pair in edits.override if pair[0] in names),
        add=edits.add,
        remove=tuple(name for name in edits.remove if name in names),
    )


def _refuse_idle_edits(edits: Edits, courses: Sequence[Course]) -> None:
    have = frozenset[str]().union(*(step.offered for course in courses for step in course.steps))
    for name in (*(name for name, _ in edits.override), *edits.remove):
        if name not in have:
            raise UnplayableError(
                f"no notification of this scenario has a field {name!r}; fields: {', '.join(sorted(have))}"
            )


def _why_not(scenario: Scenario, account: SandboxAccount) -> str:
    identity = account.identity
    if scenario.is_misread_by(identity):
        return f"{identity.name} expects {identity.charset}, and mapi notifications do not name another charset"
    return f"{identity.name} ({identity.product}) does not send all notifications of the scenario {scenario.name}"
