"""Alipay remembers each trade as its last notification has it."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from deploy.sandbox import field_sets, serials
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.notifications import MessageKind, SandboxRefund, Trade, TradeEvent, UnsignedNotification
from deploy.sandbox.trades import Trades
from deploy.sandbox.world import World

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home: Path = tmp_path_factory.mktemp("trades")
    return World.create(
        home,
        gateway_url="http://a",
        notify_base="http://b",
        identities=[one for one in IDENTITIES if one.name == "demo-cn"],
    )


def notification(world: World, kind: MessageKind, order: str = "A-1") -> UnsignedNotification:
    trade = Trade(
        account=world.account("demo-cn"), order=order, trade_no="2026", amount_minor=1280, currency="CNY",
        subject="Tea", created=NOW, paid=NOW,
    )  # fmt: skip
    refund = SandboxRefund(number="R-1", refund_id="1", amount_minor=1280, total_minor=1280)
    event = TradeEvent(kind=kind, at=NOW, refund=refund if kind is MessageKind.REFUND else None)
    return field_sets.compose(trade, event, numbers=serials.Serials(Random(1)), chance=Random(1))


def test_last_notification_of_an_order_stands(world: World) -> None:
    trades = Trades()
    assert trades.of("demo-cn", "A-1") is None
    for kind in (MessageKind.PAID, MessageKind.WAITING, MessageKind.REFUND):
        trades.note(notification(world, kind))
    last = trades.of("demo-cn", "A-1")
    assert last is not None
    assert last.facts.kind is MessageKind.REFUND
    assert trades.of("demo-cn", "A-2") is None


def test_payment_is_not_undone_by_a_late_word_that_it_is_waited_for(world: World) -> None:
    trades = Trades()
    trades.note(notification(world, MessageKind.PAID))
    trades.note(notification(world, MessageKind.WAITING))
    last = trades.of("demo-cn", "A-1")
    assert last is not None
    assert last.facts.kind is MessageKind.PAID


def test_message_about_no_trade_is_not_remembered(world: World) -> None:
    trades = Trades()
    trades.note(notification(world, MessageKind.OTHER))
    assert trades.of("demo-cn", "A-1") is None
