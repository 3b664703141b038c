"""Playing a plan: its courses side by side, and within each the steps one after another, as Alipay would send them.

A step that was not answered as it should be does not hold up the next one: its retries go on beside it, because that is
how late and out-of-order notifications come about in life.

Scenarios: what happens to a payment, as data files, and how one becomes notifications for an account.

A scenario is a list of steps in the order in which they are *sent*; `at` says when each thing *happened*, relative to
now, and `late` how long afterwards it was sent. So a file can let a refund arrive before its payment, or yesterday's
payment today. One file serves every account whose product has the notifications it needs.

`plan` is pure: all chance and the present moment are arguments.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec

from deploy.sandbox import field_sets, forgery, notifications, serials
from deploy.sandbox.delivery import Attempt, Errand, Expected, Sender
from deploy.sandbox.notifications import Edits, MessageKind, SandboxRefund, Trade, TradeEvent, UnplayableError
from deploy.sandbox.world import Product, SandboxAccount


class Registry(Protocol):
    """Where a merchant says which orders it expects."""

    async def register(self, account: str, order: str, *, amount: str, currency: str) -> None: ...


async def register(courses: Sequence[Course], registry: Registry, *, amount: str, always: bool = False) -> None:
    """Does the merchant's part for accounts that take only registered orders; for others only where it is asked for."""
    for course in courses:
        identity = course[0].errand.notification.account.identity
        if identity.registered or always:
            order = course[0].errand.notification.order
            await registry.register(identity.name, order, amount=amount, currency=identity.currency)


async def play(courses: Sequence[Course], sender: Sender) -> None:
    """Sends everything; returns when nothing is left that Alipay would send again."""
    async with asyncio.TaskGroup() as tasks:
        for course in courses:
            tasks.create_task(_play_course(course, sender))


async def _play_course(course: Course, sender: Sender) -> None:
    async with asyncio.TaskGroup() as retries:
        for step in course:
            await sender.pause(step.wait_s)
            last = await _tell(step.errand, sender)
            if last.again_in_s is not None:
                retries.create_task(sender.resend(step.errand, after=last))


async def _tell(errand: Errand, sender: Sender) -> Attempt:
    """The first delivery and its copies; only the last answer is one that Alipay has seen."""
    for number in range(1, errand.copies):
        await sender.attempt(errand, number=number, settles=False)
    return await sender.attempt(errand, number=errand.copies)


_DIRECTORY = Path(__file__).parent / "scenarios"
_DURATION = re.compile(r"(-?)([0-9]+)([smhd])")
_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# A trade is created about this long before it is paid.
_CHECKOUT = timedelta(seconds=45)
_SUBJECT = "Museum pass, two days"
_PREFIX: Mapping[Product, str] = {"in-app": "APP", "website": "WEB", "open": "OP", "antom": "PAY"}
# An account of somebody else, for the step that reaches the wrong merchant: made up like all ids here.
_STRANGER = {"seller_id": "2088999900009009", "partner": "2088999900009009", "app_id": "2021999900009009",
             "client_id": "SANDBOX_5Y0000000000009009"}  # fmt: skip


class ScenarioError(ValueError):
    """A scenario's file says something that cannot be meant."""


class ScenarioStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One notification of a scenario."""

    send: MessageKind
    at: str = "0s"
    late: str = "0s"
    wait: str = "0s"
    times: int = 1
    amount: str = ""
    share: str = ""
    charset: str = ""
    subject: str = ""
    stranger: bool = False
    forge: forgery.Way | None = None
    expect: Expected = "success"
    override: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One data file."""

    title: str
    tells: str
    step: tuple[ScenarioStep, ...]
    name: str = ""
    orders: int = 1
    registers: bool = False  # whether the merchant says what the order costs even where the account takes any
    products: tuple[Product, ...] = ()

    def suits(self, account: SandboxAccount) -> bool:
        """Whether the account's product has what the scenario needs."""
        identity = account.identity
        needed = {step.send for step in self.step}
        if self.products and identity.product not in self.products:
            return False
        return needed <= notifications.KINDS_OF[identity.product] and not self.misread(account)

    def misread(self, account: SandboxAccount) -> bool:
        """Whether the account would read its text wrongly: a mapi notification does not say which charset it is in."""
        identity = account.identity
        charsets = {step.charset for step in self.step if step.charset}
        return identity.family == "mapi" and bool(charsets - {identity.charset})


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One step, ready to be played: wait this long, then run the errand. `offered` are the fields it had to edit."""

    wait_s: float
    errand: Errand
    offered: frozenset[str]


Course = tuple[Planned, ...]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the person who plays a scenario wants different."""

    order: str = ""
    amount: str = "12.80"
    edits: Edits = Edits()
    url: str = ""


def load_all(directory: Path = _DIRECTORY) -> dict[str, Scenario]:
    """Every scenario by name.

    Raises:
        ScenarioError: a file does not read as one; the message names it.
    """
    return {path.stem: _load(path) for path in sorted(directory.glob("*.toml"))}


def _load(path: Path) -> Scenario:
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        return msgspec.convert({**raw, "name": path.stem}, Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path.name}: {error}") from error


class Planner:
    """Makes notifications out of scenarios. Give it the seed's chance and it makes the same ones again."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._numbers = serials.Serials(chance)
        self._forger = forgery.Forger()

    def plan(
        self, scenario: Scenario, account: SandboxAccount, *, now: datetime, base_url: str, wishes: Wishes | None = None
    ) -> tuple[Course, ...]:
        """One course per order: what to send, in order, with all that happened dated relative to `now`.

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
        trade = self._trade(scenario, account, now=now, wishes=wishes)
        refunds = self._refunds(scenario, trade, now)
        return tuple(
            self._planned(step, trade, refunds.get(index), now=now, base_url=base_url, wishes=wishes)
            for index, step in enumerate(scenario.step)
        )

    def _trade(self, scenario: Scenario, account: SandboxAccount, *, now: datetime, wishes: Wishes) -> Trade:
        paid = min((now + duration(step.at) for step in scenario.step if step.send is MessageKind.PAID), default=now)
        identity = account.identity
        return Trade(
            account=account,
            order=wishes.order or self._numbers.order(_PREFIX[identity.product], now),
            trade_no=self._trade_no(account, paid),
            amount_minor=field_sets.minor_units(wishes.amount, identity.currency),
            currency=identity.currency,
            subject=_SUBJECT,
            created=paid - _CHECKOUT,
            paid=paid,
        )

    def _trade_no(self, account: SandboxAccount, at: datetime) -> str:
        antom = account.identity.product == "antom"
        return self._numbers.payment_id(at) if antom else self._numbers.trade_no(at)

    def _refunds(self, scenario: Scenario, trade: Trade, now: datetime) -> dict[int, SandboxRefund]:
        """The refunds by step. Sums run in the order in which things happened, whatever the order of sending."""
        refunds: dict[int, SandboxRefund] = {}
        total = 0
        dated = sorted((duration(step.at), index) for index, step in enumerate(scenario.step) if step.share)
        for when, index in dated:
            part = trade.amount_minor * field_sets.minor_units(scenario.step[index].share, "") // 100
            total = min(total + part, trade.amount_minor)
            refunds[index] = SandboxRefund(
                number=self._numbers.order("RF", now + when),
                refund_id=self._numbers.payment_id(now + when),
                amount_minor=part,
                total_minor=total,
            )
        return refunds

    def _planned(
        self,
        step: ScenarioStep,
        trade: Trade,
        refund: SandboxRefund | None,
        *,
        now: datetime,
        base_url: str,
        wishes: Wishes,
    ) -> Planned:
        happened = now + duration(step.at)
        told = TradeEvent(kind=step.send, at=happened, refund=refund)
        one = field_sets.compose(_as_told(step, trade), told, numbers=self._numbers, chance=self._chance)
        one = notifications.edited(one, Edits(override=_pairs(step.override), add=_pairs(step.add), remove=step.remove))
        offered = frozenset(name for name, _ in one.fields)
        one = notifications.edited(one, _fitting(wishes.edits, offered))
        if step.forge is not None:
            one = self._forger.forge(one, step.forge)
        errand = Errand(
            notification=one,
            url=wishes.url or base_url + one.account.identity.path,
            at=happened + duration(step.late),
            expected=step.expect,
            forged=step.forge is not None,
            copies=step.times,
        )
        return Planned(wait_s=duration(step.wait).total_seconds(), errand=errand, offered=offered)


def _as_told(step: ScenarioStep, trade: Trade) -> Trade:
    """The trade as this step presents it: another amount, charset, subject or merchant than the order really has."""
    identity = trade.account.identity
    if step.charset:
        identity = msgspec.structs.replace(identity, charset=step.charset)
    if step.stranger:
        theirs = {name: value for name, value in _STRANGER.items() if getattr(identity, name)}
        identity = msgspec.structs.replace(identity, **theirs)
    return msgspec.structs.replace(
        trade,
        account=msgspec.structs.replace(trade.account, identity=identity),
        amount_minor=field_sets.minor_units(step.amount, trade.currency) if step.amount else trade.amount_minor,
        subject=step.subject or trade.subject,
    )


def duration(text: str) -> timedelta:
    """`-90d`, `15m`, `5s` …

    Raises:
        ScenarioError: it is not written so.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ScenarioError(f"{text!r} is no duration; write 5s, 15m, 2h or -90d")
    sign, count, unit = match.groups()
    return timedelta(seconds=int(f"{sign}{count}") * _SECONDS[unit])


def _pairs(table: Mapping[str, str]) -> notifications.Fields:
    return tuple(table.items())


def _fitting(edits: Edits, names: frozenset[str]) -> Edits:
    """The user's edits as far as this notification has the fields; those that fit nowhere are refused afterwards."""
    return Edits(
        override=tuple(pair for pair in edits.override if pair[0] in names),
        add=edits.add,
        remove=tuple(name for name in edits.remove if name in names),
    )


def _refuse_idle_edits(edits: Edits, courses: Sequence[Course]) -> None:
    have = frozenset[str]().union(*(step.offered for course in courses for step in course))
    for name in (*(name for name, _ in edits.override), *edits.remove):
        if name not in have:
            raise UnplayableError(f"no notification here has a field {name!r}; there are {', '.join(sorted(have))}")


def _why_not(scenario: Scenario, account: SandboxAccount) -> str:
    identity = account.identity
    if scenario.misread(account):
        return f"{identity.name} reads {identity.charset}, and its notifications do not say otherwise"
    return f"{identity.name} ({identity.product}) has no notifications for the scenario {scenario.name}"
