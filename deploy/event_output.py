"""Order events as `alipay-notify listen` shows them and passes them on.

An event is a CloudEvent in its JSON form, whether it came from the topic or from `/api/events`.
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from msgspec import UNSET

from schemas import money, scopes

Event = Mapping[str, Any]

FORWARD_TIMEOUT_S = 10.0
ATTRIBUTES = ("specversion", "id", "type", "source", "subject", "time", "dataschema")


class NotAnOrderEvent(ValueError):
    """The record is no CloudEvent with JSON in it."""


def of_feed(found: Event) -> Event:
    """Return an event of `/api/events`, without its number there."""
    return _event(found, found["data"])


def of_record(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Event:
    """Return the event of a Kafka record in CloudEvents' binary mode.

    Raises:
        NotAnOrderEvent: it is something else.
    """
    attributes = {name[3:]: text.decode("utf-8", "replace") for name, text in headers if name.startswith("ce_")}
    try:
        data = json.loads(value or b"")
    except ValueError:
        data = None
    if not isinstance(data, dict) or not attributes.get("id") or "account" not in data or "order" not in data:
        raise NotAnOrderEvent("the record is no order event")
    return _event(attributes, data)


def is_wanted(event: Event, *, types: Collection[str], accounts: Collection[str]) -> bool:
    """Return whether the event is of one of these types and accounts; none of either means any.

    A type is meant by its whole name, or by its change: `paid` for `alipay_notify.order.paid.v1`.
    """
    if types and event["type"] not in types and change(event) not in types:
        return False
    return not accounts or event["data"]["account"] in accounts


def change(event: Event) -> str:
    """Return the word for the change in the event's type, such as `paid`."""
    parts = str(event["type"]).split(".")
    return parts[-2] if len(parts) > 1 else parts[0]


def line(event: Event) -> str:
    """Return the event for people: time in UTC, change, order, version, status, amount and flags."""
    data = event["data"]
    owner = scopes.joined(data["account"], data.get("auth_app_id", UNSET))
    parts = [
        str(event.get("time", ""))[:19].replace("T", " "),
        f"{change(event):<10}",
        f"{owner}:{data['order']}",
        f"v{data.get('version')}",
        str(data.get("status")),
        _amount(data),
        " ".join(f"!{flag}" for flag in data.get("flags", ())),
    ]
    return "  ".join(part for part in parts if part)


def forward(event: Event, url: str) -> str:
    """Send the event to an address once, in CloudEvents' binary mode over HTTP. Return the outcome in words."""
    body = json.dumps(event["data"], ensure_ascii=False, separators=(",", ":")).encode()
    headers = {f"ce-{name}": _encoded(str(event[name])) for name in ATTRIBUTES if event.get(name)}
    headers["Content-Type"] = "application/json"
    started_s = time.monotonic()
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=FORWARD_TIMEOUT_S)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read(1)
        finally:
            connection.close()
    except (OSError, HTTPException) as error:
        return f"failed: {error or type(error).__name__}; it is not sent again"
    return f"{answer.status} in {(time.monotonic() - started_s) * 1000:.0f} ms"


def _encoded(text: str) -> str:
    """Return the text as CloudEvents writes it into a header: percent-encoded but for printable ASCII."""
    return "".join(
        each if "!" <= each <= "~" and each not in '"%' else "".join(f"%{byte:02X}" for byte in each.encode())
        for each in text
    )


def _event(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> Event:
    found = {name: attributes[name] for name in ATTRIBUTES if attributes.get(name)}
    return {"specversion": "1.0", **found, "datacontenttype": "application/json", "data": data}


def _amount(data: Mapping[str, Any]) -> str:
    minor, currency = data.get("amount_minor"), data.get("currency")
    if minor is None or currency is None:
        return ""
    return f"{money.text(minor, currency) or minor} {currency}"
