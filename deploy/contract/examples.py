"""Examples of events and notices: records as topics have them, made by the code that makes the real ones."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import structs

from deploy.contract import json_schemas
from schemas import events, topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.event_names import EventNames
from schemas.events import Cause, HeldNotice, HeldWay, NotedNotice, OrderEvent, Outgoing
from schemas.notification import Kind, NamedNumber, NumberKind
from schemas.orders import ClaimView, ClosedBecause, Status

_AT = datetime(2026, 11, 30, 8, 0, 1, 208_000, tzinfo=UTC)

WAITING = OrderEvent(
    id="shop-sg:ORDER-1:1",
    type=f"{events.TYPE_PREFIX}.order.waiting.v1",
    account="shop-sg",
    order="ORDER-1",
    version=1,
    status=Status.WAITING,
    closed_because=None,
    trade="2026113022001476981000031417",
    amount_minor=1280,
    currency="USD",
    refunded_minor=0,
    flags=(),
    changed=("status", "closed_because", "trade", "amount_minor", "currency", "refunded_minor", "flags"),
    cause=Cause(
        notification_id="2026113000222080000099990000031416",
        type="trade_status_sync",
        status="WAIT_BUYER_PAY",
        news="waiting",
        happened_at=None,
        received_at=_AT,
    ),
    occurred_at=_AT,
)
PAID = structs.replace(
    WAITING,
    id="shop-sg:ORDER-1:2",
    type=f"{events.TYPE_PREFIX}.order.paid.v1",
    version=2,
    status=Status.PAID,
    changed=("status",),
    cause=Cause(
        notification_id="2026113000222080011099990000031417",
        type="trade_status_sync",
        status="TRADE_SUCCESS",
        news="paid",
        happened_at=datetime(2026, 11, 30, 8, 0, tzinfo=UTC),
        received_at=_AT,
    ),
)
REFUNDED = structs.replace(
    PAID,
    id="provider/2021000000000008:ORDER-1:3",
    type=f"{events.TYPE_PREFIX}.order.refunded.v1",
    account="provider",
    auth_app_id="2021000000000008",
    version=3,
    status=Status.CLOSED,
    closed_because=ClosedBecause.REFUNDED,
    currency="CNY",
    refunded_minor=1280,
    changed=("status", "closed_because", "refunded_minor"),
)
FLAGGED = structs.replace(
    PAID,
    id="shop-sg:ORDER-1:4",
    type=f"{events.TYPE_PREFIX}.order.flagged.v1",
    version=4,
    flags=(Flag.SECOND_TRADE,),
    changed=("flags", "claims"),
    claims=tuple(
        ClaimView(trade=trade, status=Status.PAID, amount_minor=1280, currency="USD", refunded_minor=0)
        for trade in ("2026113022001476981000031417", "2026113022001476981000031418")
    ),
)
HELD = HeldNotice(
    id="held:3-1041:0:quarantined",
    held_id="3-1041",
    account="shop-sg",
    order="ORDER-1",
    notification_id="2026113000222080011099990000031418",
    disposition=Disposition.QUARANTINED,
    reason=Reason.AMOUNT_MISMATCH,
    detail="another amount than the order's",
    at=_AT,
)
_HELD_WAY = HeldWay(
    partition=3,
    offset=1041,
    received_at=_AT,
    first_at=_AT,
    step="decide",
    error_class="",
    attempts=0,
    replays=0,
)
NOTED = NotedNotice(
    id="noted:shop-cn:2026113000222080911099990000031417",
    record_id="3-1042",
    account="shop-cn",
    order="",
    notification_id="2026113000222080911099990000031417",
    kind=Kind.AGREEMENT,
    type="dut_user_unsign",
    status="UNSIGN",
    numbers=(
        NamedNumber(NumberKind.AGREEMENT, "20265225715271617440"),
        NamedNumber(NumberKind.EXTERNAL_AGREEMENT, "CONTRACT-31"),
    ),
    fields={"status": "UNSIGN", "unsign_time": "2026-11-30 08:00:00"},
    sent_at=_AT,
    received_at=_AT,
    at=_AT,
)

RECORDS: dict[str, Outgoing] = {
    "order_event.waiting": events.outgoing_event(WAITING),
    "order_event.paid": events.outgoing_event(PAID),
    "order_event.refunded": events.outgoing_event(REFUNDED),
    "order_event.flagged": events.outgoing_event(FLAGGED),
    "held_notice.quarantined": events.outgoing_notice(HELD, _HELD_WAY),
    "noted_notice.agreement": events.outgoing_noted(NOTED),
}


def documents(names: EventNames, *, prefix: str) -> dict[str, str]:
    """Return the text of each example by its file name, with the names and topics of a deployment."""
    return {
        f"examples/{name}.json": json_schemas.as_text(record(outgoing, names, prefix=prefix))
        for name, outgoing in RECORDS.items()
    }


def record(outgoing: Outgoing, names: EventNames, *, prefix: str) -> dict[str, Any]:
    """Return the record as JSON: its topic, key, headers and value."""
    named = structs.replace(names, topic_prefix=prefix).of(outgoing)
    return {
        "topic": topics.named(named.topic, prefix),
        "key": named.key.decode(),
        "headers": {name: text.decode() for name, text in named.headers},
        "value": msgspec.json.decode(named.value),
    }
