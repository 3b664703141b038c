"""The rows of deliveries."""

from schemas import topics
from schemas.events import Outgoing
from schemas.times import HOUR_MS
from workers.callbacks import deliveries
from workers.callbacks.endpoints import Endpoint
from workers.queries import Emitted

NOW_MS = 1_700_000_000_000
SHOP = Endpoint(name="shop", url="https://shop.example/", secrets=(b"s" * 24,), types=frozenset({"order.paid"}))


def emitted(type_: str, at: bytes) -> Emitted:
    headers = (("ce_type", f"alipay_notify.{type_}.v1".encode()), ("ce_time", at))
    event = Outgoing(id="main:N1:2", topic=topics.ORDER_EVENT, key=b"main:N1", value=b"{}", headers=headers)
    return Emitted(number=7, event=event, sent_at_ms=None)


def test_rows_are_those_of_wanted_events_and_as_old_as_they() -> None:
    events = [emitted("order.closed", b""), emitted("order.paid", b"2023-11-14T22:13:19+00:00")]
    assert deliveries.new_rows(SHOP, events, now_ms=NOW_MS) == [
        ("shop", 7, b"main:N1", "main:N1:2", "order.paid", NOW_MS - 1000)
    ]


def test_event_whose_time_is_unreadable_or_ahead_is_as_old_as_now() -> None:
    for at in (b"soon", b"2024-11-14T22:13:19+00:00"):
        ((*_, created_ms),) = deliveries.new_rows(SHOP, [emitted("order.paid", at)], now_ms=NOW_MS)
        assert created_ms == NOW_MS


def test_due_events_or_an_endpoint_that_takes_none_keep_others_back() -> None:
    def has_room(due: int, pending: int, delivered_ms: int | None = NOW_MS - HOUR_MS + 1) -> bool:
        return deliveries.has_room(due=due, pending=pending, delivered_ms=delivered_ms, now_ms=NOW_MS)

    assert has_room(deliveries.DUE_MAX - 1, deliveries.PENDING_EVER_MAX - 1)
    assert not has_room(deliveries.DUE_MAX, deliveries.DUE_MAX)
    assert not has_room(0, deliveries.PENDING_EVER_MAX), "an endpoint may refuse one type for days"
    for long_ago in (None, NOW_MS - HOUR_MS, NOW_MS + HOUR_MS):  # the last: by the clock of a leader that was ahead
        assert has_room(0, deliveries.PENDING_MAX - 1, long_ago)
        assert not has_room(0, deliveries.PENDING_MAX, long_ago)


def test_audit_names_each_order_once() -> None:
    assert deliveries.orders_of([emitted("order.paid", b"")] * 2) == ["main:N1"]
