"""The format of scenarios: the life of a payment as a TOML file, and how it has to end.

A scenario lists its steps in the order in which they are *sent*. `at` is the time at which a step *happened*, relative
to now; `late` is how long after that it is sent. So a refund can arrive before its payment, or yesterday's payment
today. One file serves every account whose product sends the notifications that it needs.

`scenario_files` reads them, `planning` makes notifications of them, `playing` sends these, and `ending` compares the
outcome with the scenario's promise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal

import msgspec

from deploy.sandbox import forgery, notifications
from deploy.sandbox.delivery import Expected
from deploy.sandbox.identities import IDENTITIES, Family, Identity, Product
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.world import SandboxAccount

_DURATION = re.compile(r"(-?)([0-9]+)([smhd])")
_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86400}


_FAMILY_NAMES: Mapping[Family, str] = {
    "mapi": "the old gateway (mapi)", "openapi": "the Open Platform (openapi)", "antom": "Antom (antom)",
}  # fmt: skip


class ScenarioError(ValueError):
    """A scenario file is not valid; the text has one line for each fault."""


class ScenarioStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One notification of a scenario. `trade` numbers the trades of one order; most orders have one.

    `merchant` numbers the merchants of a service provider. `sign_type` is an algorithm that the account has given up.
    """

    send: MessageKind
    at: str = "0s"
    late: str = "0s"
    wait: str = "0s"
    times: int = 1
    trade: int = 1
    merchant: int = 1
    sign_type: Literal["", "RSA", "RSA2", "MD5", "DSA"] = ""
    amount: str = ""
    share: str = ""
    charset: str = ""
    subject: str = ""
    cut: tuple[str, ...] = ()
    stranger: bool = False
    forge: forgery.Way | None = None
    expect: Expected = "success"
    override: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How each order of a scenario ends, at all accounts or at some.

    Without `status` no order may have come of it. `amount` is the order's unless given; `refunded` is a share of it.
    `held` are reasons of held notifications; `noted` are fields by whose value a noted notification is found, `found`
    those by which an order is.
    """

    products: tuple[Product, ...] = ()
    accounts: tuple[str, ...] = ()
    status: Literal["", "WAITING", "PAID", "FINISHED", "CLOSED"] = ""
    because: Literal["", "expired", "failed", "refunded"] = ""
    amount: str = ""
    refunded: str = "0.00"
    flags: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    found: tuple[str, ...] = ()

    def is_of(self, identity: Identity) -> bool:
        """Return whether this is the end at this account, unless an earlier one is."""
        is_product = not self.products or identity.product in self.products
        return is_product and (not self.accounts or identity.name in self.accounts)

    def words(self, currency: str = "") -> str:
        """Return the end as one short text, such as `PAID 12.80 BRL, flagged second_trade`."""
        parts = [" ".join(part for part in (self.status, self.amount, currency) if part)] if self.status else []
        if self.status and self.refunded != "0.00":
            parts.append("refunded" if self.refunded == "1.00" else f"{_percent(self.refunded)} refunded")
        elif self.because:
            parts.append(self.because)
        parts += [f"flagged {flag}" for flag in self.flags]
        parts += [f"held as {reason}" for reason in self.held]
        if self.found:
            parts.append(f"found by {' and '.join(self.found)}")
        if self.noted:
            parts.append(f"noted, found by {' and '.join(self.noted)}")
        return ", ".join(parts) or "no effect"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scenario file. `tells` is its description in one sentence.

    `registers` says whether the order is registered: true always; false never, unless the account demands it; without
    it, if an admin API is given.
    """

    title: str
    tells: str
    step: tuple[ScenarioStep, ...]
    name: str = ""
    orders: int = 1
    registers: bool | None = None
    currency: str = ""
    products: tuple[Product, ...] = ()
    accounts: tuple[str, ...] = ()
    ends: tuple[End, ...] = ()

    def suits(self, account: SandboxAccount) -> bool:
        """Return whether the account's product sends all notifications that the scenario needs."""
        return self.suits_identity(account.identity)

    def suits_identity(self, identity: Identity) -> bool:
        """Return the same for an account without its keys."""
        if self.products and identity.product not in self.products:
            return False
        if self.accounts and identity.name not in self.accounts:
            return False
        former = {"", *(one.sign_type for one in identity.former)}
        if any(step.sign_type not in former or step.merchant > max(1, len(identity.merchants)) for step in self.step):
            return False
        sent = {step.send for step in self.step}
        return sent <= notifications.KINDS_OF[identity.product] and not self.is_misread_by(identity)

    def is_misread_by(self, identity: Identity) -> bool:
        """Return whether the account would decode the text wrongly: a mapi notification does not name its charset."""
        charsets = {step.charset for step in self.step if step.charset}
        return identity.family == "mapi" and bool(charsets - {identity.charset})

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the families with an account that the scenario suits."""
        return tuple(dict.fromkeys(one.family for one in IDENTITIES if self.suits_identity(one)))

    @property
    def accounts_it_suits(self) -> tuple[str, ...]:
        """Return the names of the sandbox's accounts that it suits."""
        return tuple(one.name for one in IDENTITIES if self.suits_identity(one))

    @property
    def heading(self) -> str:
        """Return the heading of its group: the families whose accounts it suits."""
        if len(self.families) == len(_FAMILY_NAMES):
            return "Every family"
        names = " and ".join(_FAMILY_NAMES[each] for each in self.families)
        return names[0].upper() + names[1:]

    def end(self, identity: Identity) -> End | None:
        """Return how it ends at this account, or `None` if the file does not say."""
        return next((end for end in self.ends if end.is_of(identity)), None)

    def expectation(self) -> str:
        """Return its ends in words, for a list of scenarios."""
        texts = {end.words(self.currency): " and ".join(end.products or end.accounts) for end in self.ends}
        if len(texts) == 1:
            return next(iter(texts))
        return "; ".join(f"{text} ({where})" if where else text for text, where in texts.items())


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


def _percent(share: str) -> str:
    return f"{int(share.replace('.', ''))} %"


def grouped(scenarios: Iterable[Scenario]) -> dict[str, list[Scenario]]:
    """Return the scenarios by their headings: those of several families first, then the old gateway's."""
    order = [*_FAMILY_NAMES]
    groups: dict[str, list[Scenario]] = {}
    for each in sorted(scenarios, key=lambda one: (-len(one.families), order.index(one.families[0]), one.name)):
        groups.setdefault(each.heading, []).append(each)
    return groups
