"""The callback as it is sent; the library of Standard Webhooks verifies it."""

import base64
from datetime import UTC, datetime

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from schemas import event_names, topics
from schemas.event_names import EventNames
from schemas.events import Outgoing
from workers.callbacks import messages

OLD, NEW = b"o" * 24, b"n" * 32


def now_s() -> int:
    """The library refuses what is older than five minutes, so this is asked in each test."""
    return int(datetime.now(UTC).timestamp())


def event(order: str = "N1") -> Outgoing:
    value = msgspec.json.encode({"id": f"shop:{order}:2", "type": "alipay_notify.order.paid.v1", "version": 2})
    headers = (("ce_type", b"alipay_notify.order.paid.v1"), ("ce_time", b"2026-01-31T08:00:00+00:00"))
    return Outgoing(
        id=f"shop:{order}:2", topic=topics.ORDER_EVENT, key=f"shop:{order}".encode(), value=value, headers=headers
    )


def webhook(secret: bytes) -> Webhook:
    return Webhook("whsec_" + base64.b64encode(secret).decode())


def test_library_verifies_the_message_with_each_secret() -> None:
    message = messages.message(event(), event_names.LOGICAL)
    headers = message.headers((NEW, OLD), at_s=now_s())
    for secret in (NEW, OLD):
        assert webhook(secret).verify(message.body, headers)["data"]["version"] == 2
    with pytest.raises(WebhookVerificationError):
        webhook(b"x" * 24).verify(message.body, headers)
    with pytest.raises(WebhookVerificationError):
        webhook(NEW).verify(message.body + b" ", headers)


def test_signature_is_the_one_of_the_library() -> None:
    message = messages.message(event(), event_names.LOGICAL)
    at_s = now_s()
    signed = webhook(OLD).sign(message.id, datetime.fromtimestamp(at_s, UTC), message.body.decode())
    assert message.headers((OLD,), at_s=at_s)[messages.SIGNATURE] == signed


def test_body_names_the_event_as_this_deployment_does() -> None:
    message = messages.message(event(), EventNames(type_prefix="com.example"))
    assert msgspec.json.decode(message.body) == {
        "type": "com.example.order.paid.v1",
        "timestamp": "2026-01-31T08:00:00+00:00",
        "data": {"id": "shop:N1:2", "type": "com.example.order.paid.v1", "version": 2},
    }


@pytest.mark.parametrize(
    ("order", "id_"),
    [
        ("N1", "shop:N1:2"),
        ("a.b", "shop:a%2Eb:2"),
        ("订单", "shop:%E8%AE%A2%E5%8D%95:2"),
        ("a\r\nb", "shop:a%0D%0Ab:2"),
    ],
)
def test_id_is_plain_ascii_without_the_separating_dot(order: str, id_: str) -> None:
    message = messages.message(event(order), event_names.LOGICAL)
    assert message.id == id_
    assert webhook(OLD).verify(message.body, message.headers((OLD,), at_s=now_s()))
