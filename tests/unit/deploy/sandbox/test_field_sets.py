"""The fields of each product, as the receiver interprets them."""

from __future__ import annotations

from random import Random
from urllib.parse import parse_qsl

import pytest

from deploy.sandbox import field_sets, serials
from deploy.sandbox.notifications import (
    NAMELESS,
    MessageKind,
    SandboxRefund,
    TradeEvent,
    UnplayableError,
)
from deploy.sandbox.world import World
from schemas import money
from schemas.orders import News
from tests.unit.deploy.sandbox.samples import EVERY, NOW, event, fields_of, interpreted, made, trade


@pytest.mark.parametrize(("account", "kind"), EVERY)
def test_receiver_interprets_every_kind_of_every_product(world: World, account: str, kind: MessageKind) -> None:
    notification = made(world, account, kind)
    meaning = interpreted(world, notification)
    names_order = kind not in NAMELESS[notification.account.identity.product]
    assert notification.facts.names_order is names_order
    if names_order:
        assert meaning.order == notification.order
        assert meaning.amount is None or meaning.amount.minor == 1280
    if kind is not MessageKind.AUTHORIZATION:  # no document says which of its numbers identifies an authorization
        assert meaning.id == notification.notify_id


@pytest.mark.parametrize(
    ("account", "kind", "percent", "news"),
    [
        ("demo-app", MessageKind.WAITING, 0, News.WAITING),
        ("demo-app", MessageKind.PAID, 0, News.PAID),
        ("demo-app", MessageKind.FINISHED, 0, News.FINISHED),
        ("demo-app", MessageKind.FROZEN, 0, News.FROZEN),
        ("demo-app", MessageKind.CLOSED, 0, News.EXPIRED),
        ("demo-app", MessageKind.REFUND, 30, News.PARTLY_REFUNDED),
        ("demo-app", MessageKind.REFUND, 100, News.REFUNDED),
        ("demo-app", MessageKind.REFUND_CLOSED, 30, News.PAID),
        ("demo-web", MessageKind.PAID, 0, News.FINISHED),
        ("demo-web", MessageKind.CLOSED, 0, News.EXPIRED),
        ("demo-web", MessageKind.REFUND, 100, News.REFUNDED),
        ("demo-cn", MessageKind.REFUND, 30, News.PARTLY_REFUNDED),
        ("demo-cn", MessageKind.REFUND, 100, News.REFUNDED),
        ("demo-cn", MessageKind.CLOSED, 0, News.EXPIRED),
        ("demo-antom", MessageKind.PAID, 0, News.PAID),
        ("demo-antom", MessageKind.WAITING, 0, News.WAITING),
        ("demo-antom", MessageKind.CLOSED, 0, News.FAILED),
        ("demo-antom", MessageKind.DISPUTE, 0, News.OTHER),
    ],
)
def test_each_kind_is_interpreted_as_its_trade_status(
    world: World, account: str, kind: MessageKind, percent: int, news: News
) -> None:
    assert interpreted(world, made(world, account, kind, percent=percent)).news is news


def test_website_notification_has_exactly_ten_fields(world: World) -> None:
    assert set(fields_of(made(world, "demo-web", MessageKind.PAID))) == {
        "notify_id", "notify_type", "notify_time", "sign", "sign_type",
        "trade_no", "out_trade_no", "total_fee", "currency", "trade_status",
    }  # fmt: skip


def test_openapi_refund_reports_the_total_so_far(world: World) -> None:
    refund = SandboxRefund(number="RF-2", refund_id="2", amount_minor=256, total_minor=640)
    chance = Random(7)
    one = field_sets.compose(
        trade(world.account("demo-cn")),
        TradeEvent(kind=MessageKind.REFUND, at=NOW, refund=refund),
        numbers=serials.Serials(chance),
        chance=chance,
    )
    assert dict(one.fields)["refund_fee"] == "6.40"
    assert dict(one.fields)["trade_status"] == "TRADE_SUCCESS"


def test_kind_that_a_product_does_not_send_is_refused(world: World) -> None:
    with pytest.raises(UnplayableError, match="demo-antom"):
        made(world, "demo-antom", MessageKind.FINISHED)


@pytest.mark.parametrize(("minor", "currency", "text"), [(5, "USD", "0.05"), (1280, "CNY", "12.80"), (7, "JPY", "7")])
def test_amounts_have_the_decimals_of_their_currency(minor: int, currency: str, text: str) -> None:
    assert money.major(minor, currency) == text
    assert field_sets.minor_units(text, currency) == minor


@pytest.mark.parametrize("text", ["1", "1.0", "1.000", ".50", "-1.00", "1e3", "１.00", "", "1,000.00"])
def test_malformed_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        field_sets.minor_units(text, "USD")


def test_gbk_text_is_decoded_by_the_receiver(world: World) -> None:
    chance = Random(7)
    one = field_sets.compose(
        trade(world.account("demo-md5"), subject="港式奶茶"),
        event(MessageKind.PAID),
        numbers=serials.Serials(chance),
        chance=chance,
    )
    assert interpreted(world, one).news is News.PAID
    sent = one.delivery(NOW).body.decode("ascii")
    assert dict(parse_qsl(sent, encoding="gbk", errors="strict"))["subject"] == "港式奶茶"
