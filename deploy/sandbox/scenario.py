"""Scenarios: the life of a payment as a data file, planned as notifications for an account, and played.

A scenario lists its steps in the order in which they are *sent*. `at` is the time at which a step *happened*, relative
to now; `late` is how long after that it is sent. So a refund can arrive before its payment, or yesterday's payment
today. One file serves every account whose product sends the notifications that it needs.

`Planner` takes randomness and the current time as arguments, so that a seed repeats a plan. `play` runs the courses of
a plan concurrently, and the steps of one course one after another. A step that is not answered as expected does not
delay the next one: its retries continue beside it, as with Alipay, and that is how notifications arrive out of order.
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
from deploy.sandbox.delivery import Attempt, DeliveryJob, Expected, Sender
from deploy.sandbox.notifications import Edits, MessageKind, SandboxRefund, Trade, TradeEvent, UnplayableError
from deploy.sandbox.world import Product, SandboxAccount


class Registry(Protocol):
    """The admin API at which a merchant registers its orders."""

    async def register(self, account: str, order: str, *, amount: str, currency: str) -> None: ...


async def register(courses: Sequence[Course], registry: Registry, *, amount: str, always: bool = False) -> None:
    """Register the orders of accounts that accept registered orders only; with `always`, of all accounts."""
    for course in courses:
        identity = course[0].job.notification.account.identity
        if identity.registered or always:
            order = course[0].job.notification.order
            await registry.register(identity.name, order, amount=amount, currency=identity.currency)


async def play(courses: Sequence[Course], sender: Sender) -> None:
    """Send everything. Return when Alipay would send nothing again."""
    async with asyncio.TaskGroup() as tasks:
        for course in courses:
            tasks.create_task(_play_course(course, sender))


async def _play_course(course: Course, sender: Sender) -> None:
    async with asyncio.TaskGroup() as retries:
        for step in course:
            await sender.pause(step.wait_s)
            last = await _send(step.job, sender)
            if last.again_in_s is not None:
                retries.create_task(sender.resend(step.job, after=last))


async def _send(job: DeliveryJob, sender: Sender) -> Attempt:
    """Send the notification and its copies. Only the last answer counts as received by Alipay."""
    for number in range(1, job.copies):
        await sender.attempt(job, number=number, settles=False)
    return await sender.attempt(job, number=job.copies)


_DIRECTORY = Path(__file__).parent / "scenarios"
_DURATION = re.compile(r"(-?)([0-9]+)([smhd])")
_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# A trade is created about this long before it is paid.
_CHECKOUT = timedelta(seconds=45)
_SUBJECT = "Museum pass, two days"
_PREFIX: Mapping[Product, str] = {"in-app": "APP", "website": "WEB", "open": "OP", "antom": "PAY"}
# The account of another merchant, for a step that reaches the wrong one. Made up, like all ids here.
_STRANGER = {"seller_id": "2088999900009009", "partner": "2088999900009009", "app_id": "2021999900009009",
             "client_id": "SANDBOX_5Y0000000000009009"}  # fmt: skip


class ScenarioError(ValueError):
    """A scenario file is not valid."""


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
    """One scenario file. `tells` is its description."""

    title: str
    tells: str
    step: tuple[ScenarioStep, ...]
    name: str = ""
    orders: int = 1
    registers: bool = False  # register the order even if the account accepts unregistered orders
    products: tuple[Product, ...] = ()

    def suits(self, account: SandboxAccount) -> bool:
        """Return whether the account's product sends all notifications that the scenario needs."""
        identity = account.identity
        needed = {step.send for step in self.step}
        if self.products and identity.product not in self.products:
            return False
        return needed <= notifications.KINDS_OF[identity.product] and not self.is_misread_by(account)

    def is_misread_by(self, account: SandboxAccount) -> bool:
        """Return whether the account would decode the text wrongly: a mapi notification does not name its charset."""
        identity = account.identity
        charsets = {step.charset for step in self.step if step.charset}
        return identity.family == "mapi" and bool(charsets - {identity.charset})


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step, ready to be played: wait, then deliver. `offered` are the names of the fields that could be edited."""

    wait_s: float
    job: DeliveryJob
    offered: frozenset[str]


Course = tuple[PlannedStep, ...]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a scenario that the user asks for."""

    order: str = ""
    amount: str = "12.80"
    edits: Edits = Edits()
    url: str = ""


def load_all(directory: Path = _DIRECTORY) -> dict[str, Scenario]:
    """Return all scenarios by name.

    Raises:
        ScenarioError: a file is not valid; the message names it.
    """
    return {path.stem: _load(path) for path in sorted(directory.glob("*.toml"))}


def _load(path: Path) -> Scenario:
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        return msgspec.convert({**raw, "name": path.stem}, Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path.name}: {error}") from error


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
        """Return the refunds by step. Totals add up in the order of events, not of sending."""
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
    ) -> PlannedStep:
        happened = now + duration(step.at)
        event = TradeEvent(kind=step.send, at=happened, refund=refund)
        one = field_sets.compose(_as_sent(step, trade), event, numbers=self._numbers, chance=self._chance)
        one = notifications.edited(one, Edits(override=_pairs(step.override), add=_pairs(step.add), remove=step.remove))
        offered = frozenset(name for name, _ in one.fields)
        one = notifications.edited(one, _fitting(wishes.edits, offered))
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


def _as_sent(step: ScenarioStep, trade: Trade) -> Trade:
    """Return the trade as this step presents it, with its own amount, charset, subject or merchant."""
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
    """Parse a duration such as `-90d`, `15m` or `5s`.

    Raises:
        ScenarioError: the text is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ScenarioError(f"{text!r} is not a duration; write 5s, 15m, 2h or -90d")
    sign, count, unit = match.groups()
    return timedelta(seconds=int(f"{sign}{count}") * _SECONDS[unit])


def _pairs(table: Mapping[str, str]) -> notifications.Fields:
    return tuple(table.items())


def _fitting(edits: Edits, names: frozenset[str]) -> Edits:
    """Return the edits of fields that this notification has. Edits that fit no notification are refused later."""
    return Edits(
        override=tuple(pair for pair in edits.override if pair[0] in names),
        add=edits.add,
        remove=tuple(name for name in edits.remove if name in names),
    )


def _refuse_idle_edits(edits: Edits, courses: Sequence[Course]) -> None:
    have = frozenset[str]().union(*(step.offered for course in courses for step in course))
    for name in (*(name for name, _ in edits.override), *edits.remove):
        if name not in have:
            raise UnplayableError(
                f"no notification of this scenario has a field {name!r}; fields: {', '.join(sorted(have))}"
            )


def _why_not(scenario: Scenario, account: SandboxAccount) -> str:
    identity = account.identity
    if scenario.is_misread_by(account):
        return f"{identity.name} expects {identity.charset}, and mapi notifications do not name another charset"
    return f"{identity.name} ({identity.product}) does not send all notifications of the scenario {scenario.name}"
