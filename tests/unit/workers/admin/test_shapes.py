"""Answers of the API: orders without a status, amounts as integers and texts, and events."""

from datetime import UTC, datetime

import msgspec

from schemas.dispositions import Flag
from schemas.event_names import SCHEMA_BASE, EventNames
from schemas.orders import Claim, Order, State
from tests.support.admin import NOW_MS, World, form
from workers.admin import shapes
from workers.admin.timeline_entries import EventEntry
from workers.queries import OrderPage
from workers.settlement import order_view


def test_order_named_only_by_a_refused_refund_has_no_status() -> None:
    note = Order(account="shop", number="A1", refused=frozenset({Flag.OVER_REFUNDED}))
    page = OrderPage(account="shop", number="A1", order=note, view=order_view.view(note), deliveries=(), events=())
    shown = shapes.summary(page)
    assert (shown.status, shown.version, shown.registered, shown.flags) == (None, 0, False, (Flag.OVER_REFUNDED,))


async def test_summary_has_amounts_as_integers_and_texts_and_no_timeline() -> None:
    world = World()
    await world.deliver(form("A1"))
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    shown = shapes.summary(page)
    assert (shown.amount_minor, shown.amount, shown.currency, shown.refunded) == (1280, "12.80", "USD", "0.00")
    assert shown.timeline == ()


def test_authorised_amount_is_an_integer_and_a_text_with_its_end() -> None:
    claim = Claim(trade="T1", amount_minor=1280, currency="USD", state=State.AUTHORIZED, authorized_until_ms=NOW_MS)
    order = Order(account="shop", number="A1", version=1, claims=(claim,))
    page = OrderPage(account="shop", number="A1", order=order, view=order_view.view(order), deliveries=(), events=())
    shown = shapes.summary(page)
    assert (shown.status, shown.authorized_minor, shown.authorized) == ("WAITING", 1280, "12.80")
    assert shown.authorized_until == datetime.fromtimestamp(NOW_MS / 1000, UTC)


async def test_unsent_event_has_no_sending_time() -> None:
    world = World()
    await world.deliver(form("A1"))
    (unsent,) = await world.store.events_after(0, 10)
    answer = shapes.event(unsent, EventNames())
    assert (answer.id, answer.number, answer.specversion, answer.subject) == ("shop:A1:1", 1, "1.0", "A1")
    assert (answer.type, answer.dataschema) == ("alipay_notify.order.paid.v1", f"{SCHEMA_BASE}order_event.v1.json")
    mine = shapes.event(unsent, EventNames(type_prefix="com.example.pay", schema_base="https://example.com/"))
    assert (mine.type, mine.dataschema) == ("com.example.pay.order.paid.v1", "https://example.com/order_event.v1.json")
    assert msgspec.json.decode(mine.data)["type"] == mine.type
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    (event,) = [entry for entry in shapes.order(page).timeline if isinstance(entry, EventEntry)]
    assert event.sent_at is None
    await world.processing.emit()
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    (event,) = [entry for entry in shapes.order(page).timeline if isinstance(entry, EventEntry)]
    assert event.sent_at == datetime.fromtimestamp(NOW_MS / 1000, UTC)
