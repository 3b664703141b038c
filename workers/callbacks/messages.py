"""One callback as it is sent: the body, and the three headers of Standard Webhooks. Pure.

    body               {"type": "alipay_notify.order.paid.v1", "timestamp": "…", "data": the whole order event}
    webhook-id         the event's id, the same at each attempt, by which a receiver drops copies
    webhook-timestamp  seconds since 1970, of this attempt
    webhook-signature  `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, one for each secret

Rules: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from schemas.event_names import EventNames
from schemas.events import Outgoing

CONTENT_TYPE = "application/json"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

_encode = msgspec.json.Encoder().encode


class _Body(Struct, frozen=True):
    type: str
    timestamp: str
    data: Raw


class Message(Struct, frozen=True, kw_only=True):
    """A callback without its signature: that is of one attempt."""

    id: str
    body: bytes

    def headers(self, secrets: Sequence[bytes], *, at_s: int) -> dict[str, str]:
        """Return the headers of an attempt at this moment."""
        signed = f"{self.id}.{at_s}.".encode() + self.body
        signatures = [base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets]
        return {
            "content-type": CONTENT_TYPE,
            ID: self.id,
            TIMESTAMP: str(at_s),
            SIGNATURE: " ".join(f"v1,{signature}" for signature in signatures),
        }


def message(event: Outgoing, names: EventNames) -> Message:
    """Return the callback of an order event, with the names of this deployment."""
    named = names.of(event)
    headers = dict(named.headers)
    body = _Body(
        type=headers.get("ce_type", b"").decode("utf-8", "replace"),
        timestamp=headers.get("ce_time", b"").decode("utf-8", "replace"),
        data=Raw(named.value),
    )
    return Message(id=id_of(event), body=_encode(body))


def id_of(event: Outgoing) -> str:
    """Return the event's id as a header can have it: ASCII, and without the dot that separates the signed parts."""
    return quote(event.id, safe=":/-_~", errors="replace").replace(".", "%2E")
