"""What Alipay sends: the right fields for each product, one id for all tellings, a new signature for each."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import parse_qsl

import msgspec
import pytest

from deploy.sandbox import field_sets, forgery, serials
from deploy.sandbox.notifications import (
    KINDS_OF,
    NAMELESS,
    Edits,
    MessageKind,
    SandboxRefund,
    Trade,
    TradeEvent,
    UnplayableError,
    UnsignedNotification,
    edited,
)
from deploy.sandbox.world import IDENTITIES, SandboxAccount, World
from schemas import accounts as merchant_accounts
from schemas import form, interpret_antom, interpret_form, money
from schemas.notification import Notification as Meaning
from schemas.orders import News

FORGER = forgery.Forger()
NOW = datetime(2026, 3, 18, 6, 30, 12, 412_000, tzinfo=UTC)
EVERY = [(one.name, kind) for one in IDENTITIES for kind in sorted(KINDS_OF[one.product])]


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
    told = event(kind, percent=percent)
    return field_sets.compose(trade(world.account(account)), told, numbers=serials.Serials(chance), chance=chance)


def fields_of(notification: UnsignedNotification) -> dict[str, str]:
    body = notification.delivery(NOW).body.decode()
    return dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True, encoding=notification.charset))


def understood(world: World, notification: UnsignedNotification) -> Meaning:
    """What the receiving side reads in it."""
    known = merchant_accounts.parse(tomllib.loads(world.accounts_file.read_text()))
    account = known[notification.account.identity.name]
    body = notification.delivery(NOW).body
    if account.family is merchant_accounts.Family.ANTOM:
        return interpret_antom.read(body, account)
    return interpret_form.read(form.read(body), account)


@pytest.mark.parametrize(("account", "kind"), EVERY)
def test_the_receiving_side_reads_every_kind_of_every_product(world: World, account: str, kind: MessageKind) -> None:
    notification = made(world, account, kind)
    meaning = understood(world, notification)
    names_order = kind not in NAMELESS[notification.account.identity.product]
    assert notification.facts.names_order is names_order
    if names_order:
        assert meaning.order == "WEB-1"
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
def test_each_kind_is_understood_as_the_news_it_is(
    world: World, account: str, kind: MessageKind, percent: int, news: News
) -> None:
    assert understood(world, made(world, account, kind, percent=percent)).news is news


def test_a_website_notification_has_the_ten_fields_and_no_more(world: World) -> None:
    assert set(fields_of(made(world, "demo-web", MessageKind.PAID))) == {
        "notify_id", "notify_type", "notify_time", "sign", "sign_type",
        "trade_no", "out_trade_no", "total_fee", "currency", "trade_status",
    }  # fmt: skip


@pytest.mark.parametrize("account", ["demo-app", "demo-cn", "demo-antom"])
def test_a_retry_keeps_id_and_content_and_changes_time_and_signature(world: World, account: str) -> None:
    one = made(world, account, MessageKind.PAID)
    first, second = one.delivery(NOW), one.delivery(NOW + timedelta(minutes=4))
    if account == "demo-antom":
        assert first.body == second.body
        assert dict(first.headers)["signature"] != dict(second.headers)["signature"]
        assert dict(second.headers)["request-time"] == "2026-03-18T06:34:12Z"
        return
    before, after = (dict(parse_qsl(one.body.decode())) for one in (first, second))
    assert {name for name in before if before[name] != after[name]} == {"notify_time", "sign"}
    assert after["notify_time"] == "2026-03-18 14:34:12"


def test_a_notify_id_has_34_digits_and_a_trade_number_28() -> None:
    numbers = serials.Serials(Random(1))
    assert len(numbers.notify_id(NOW)) == 34
    assert len(numbers.trade_no(NOW)) == 28
    assert numbers.notify_id(NOW).isdigit()


def test_only_the_refund_moment_carries_milliseconds(world: World) -> None:
    fields = fields_of(made(world, "demo-cn", MessageKind.REFUND))
    assert fields["gmt_refund"] == "2026-03-18 14:30:12.412"
    assert fields["gmt_payment"] == "2026-03-18 14:30:12"


def test_refunds_of_the_open_platform_are_told_as_the_sum_so_far(world: World) -> None:
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


def test_an_override_is_signed_and_a_spoilt_field_is_not(world: World) -> None:
    one = made(world, "demo-md5", MessageKind.PAID)
    signed_for = {name: fields_of(edited(one, edits))["sign"] for name, edits in {
        "plain": Edits(),
        "override": Edits(override=(("total_fee", "88.88"),)),
        "spoil": Edits(spoil=(("total_fee", "88.88"),)),
    }.items()}  # fmt: skip
    assert signed_for["plain"] == signed_for["spoil"]
    assert signed_for["plain"] != signed_for["override"]


def test_fields_can_be_added_and_removed(world: World) -> None:
    one = edited(made(world, "demo-cn", MessageKind.PAID), Edits(add=(("promo", "yes"),), remove=("subject",)))
    assert fields_of(one)["promo"] == "yes"
    assert "subject" not in fields_of(one)


def test_a_pinned_time_stays(world: World) -> None:
    one = edited(made(world, "demo-app", MessageKind.PAID), Edits(override=(("notify_time", "1970-01-01 00:00:00"),)))
    assert fields_of(one)["notify_time"] == "1970-01-01 00:00:00"


@pytest.mark.parametrize(
    "edits", [Edits(override=(("totl_fee", "1.00"),)), Edits(remove=("nothing",)), Edits(add=(("subject", "x"),))]
)
def test_an_edit_that_fits_nothing_is_refused(world: World, edits: Edits) -> None:
    with pytest.raises(UnplayableError):
        edited(made(world, "demo-app", MessageKind.PAID), edits)


def test_a_field_of_an_antom_message_is_named_with_dots(world: World) -> None:
    one = edited(made(world, "demo-antom", MessageKind.PAID), Edits(override=(("paymentAmount.value", "1"),)))
    message = msgspec.json.decode(one.delivery(NOW).body)
    assert message["paymentAmount"] == {"currency": "USD", "value": "1"}


@pytest.mark.parametrize("way", forgery.WAYS)
@pytest.mark.parametrize(("account", "kind"), EVERY)
def test_every_kind_can_be_forged_in_every_way(world: World, account: str, kind: MessageKind, way: forgery.Way) -> None:
    one = made(world, account, kind)
    honest, forged = one.delivery(NOW), FORGER.forge(one, way).delivery(NOW)
    assert (honest.body, honest.headers) != (forged.body, forged.headers)
    assert honest.path == forged.path


def test_a_product_refuses_what_it_does_not_send(world: World) -> None:
    with pytest.raises(UnplayableError, match="demo-antom"):
        made(world, "demo-antom", MessageKind.FINISHED)


@pytest.mark.parametrize(("minor", "currency", "text"), [(5, "USD", "0.05"), (1280, "CNY", "12.80"), (7, "JPY", "7")])
def test_amounts_are_written_as_the_currency_has_it(minor: int, currency: str, text: str) -> None:
    assert money.major(minor, currency) == text
    assert field_sets.minor_units(text, currency) == minor


@pytest.mark.parametrize("text", ["1", "1.0", "1.000", ".50", "-1.00", "1e3", "１.00", "", "1,000.00"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        field_sets.minor_units(text, "USD")


def test_gbk_text_reaches_the_receiving_side(world: World) -> None:
    chance = Random(7)
    one = field_sets.compose(
        trade(world.account("demo-md5"), subject="港式奶茶"),
        event(MessageKind.PAID),
        numbers=serials.Serials(chance),
        chance=chance,
    )
    assert understood(world, one).news is News.PAID
    sent = one.delivery(NOW).body.decode("ascii")
    assert dict(parse_qsl(sent, encoding="gbk", errors="strict"))["subject"] == "港式奶茶"
