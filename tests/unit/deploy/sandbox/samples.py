"""Sample trades and events, the notifications made of them, and the receiver's interpretation of those."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import parse_qsl

from deploy.sandbox import field_sets, serials
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.notifications import (
    KINDS_OF,
    MessageKind,
    SandboxRefund,
    Trade,
    TradeEvent,
    UnsignedNotification,
)
from deploy.sandbox.world import SandboxAccount, World
from schemas import accounts as merchant_accounts
from schemas import accounts_toml, form, interpret_antom, interpret_form
from schemas.notification import Notification as Meaning

NOW = datetime(2026, 3, 18, 6, 30, 12, 412_000, tzinfo=UTC)
# OTHER has no fields of its own: a scenario adds them.
EVERY = [
    (one.name, kind) for one in IDENTITIES for kind in sorted(KINDS_OF[one.product]) if kind is not MessageKind.OTHER
]


def trade(account: SandboxAccount, *, subject: str = "Gift box + tea, 10% off") -> Trade:
    return Trade(
        account=account,
        order="WEB-1",
        trade_no="2026031822001499990500001017",
        amount_minor=1280,
        currency=account.identity.currency,
        subject=subject,
        created=NOW - timedelta(minutes=1),
        paid=NOW,
    )


def event(kind: MessageKind, *, percent: int = 30) -> TradeEvent:
    part = 1280 * percent // 100
    refund = SandboxRefund(number="RF-1", refund_id="2026031900009", amount_minor=part, total_minor=part)
    return TradeEvent(kind=kind, at=NOW, refund=refund if "refund" in kind else None)


def made(world: World, account: str, kind: MessageKind, *, percent: int = 30) -> UnsignedNotification:
    chance = Random(7)
    happened = event(kind, percent=percent)
    return field_sets.compose(trade(world.account(account)), happened, numbers=serials.Serials(chance), chance=chance)


def fields_of(notification: UnsignedNotification) -> dict[str, str]:
    body = notification.delivery(NOW).body.decode()
    return dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True, encoding=notification.charset))


def fields_of_antom(notification: UnsignedNotification) -> dict[str, object]:
    return dict(json.loads(notification.delivery(NOW).body))


def interpreted(world: World, notification: UnsignedNotification) -> Meaning:
    """Return the receiver's interpretation, once notify_verify has confirmed what names nobody."""
    known = accounts_toml.parse(tomllib.loads(world.accounts_file.read_text()))
    account = known[notification.account.identity.name]
    body = notification.delivery(NOW).body
    if account.family is merchant_accounts.Family.ANTOM:
        return interpret_antom.read(body, account)
    return interpret_form.read(form.read(body), account, is_confirmed=True)
