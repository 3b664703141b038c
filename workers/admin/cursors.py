"""Cursors of the API's lists: the place where a page ended, as a text that callers hand back unread. Pure."""

import base64
import binascii
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from workers.admin import responses
from workers.queries import HeldPage, HeldPlace, OrderPlace
from workers.settlement.plan import Position

CURSOR_CHARACTERS_MAX = 4096  # an order number may be long


def after_held(page: HeldPage) -> str:
    """Return the cursor of the page that begins after this row."""
    return _encode(page.row.first_at_ms, page.row.position.partition, page.row.position.offset)


def after_order(place: OrderPlace) -> str:
    """Return the cursor of the page that begins after this order."""
    return _encode(place.changed_at_ms, place.number, place.account)


def after_movement(place: int) -> str:
    """Return the cursor of the page that begins after this movement of an order."""
    return _encode(place)


def after_audit(place: int) -> str:
    """Return the cursor of the page that begins before this audit row."""
    return _encode(place)


def audit_place(request: web.Request) -> int | None:
    """Return the place in a request's `cursor`; `None` if it has none, for the first page.

    Raises:
        ApiError: no list of audit rows has returned this cursor.
    """
    parts = _decode(request, tuple[Annotated[int, Meta(ge=0, lt=2**62)]])
    return None if parts is None else int(parts[0])


def movement_place(request: web.Request) -> int:
    """Return the place in a request's `cursor`; 0 if it has none, for the first page.

    Raises:
        ApiError: no list of movements has returned this cursor.
    """
    parts = _decode(request, tuple[Annotated[int, Meta(ge=0, lt=2**62)]])
    return 0 if parts is None else int(parts[0])


def held_place(request: web.Request) -> HeldPlace | None:
    """Return the place in a request's `cursor`; `None` if it has none, for the first page.

    Raises:
        ApiError: no list of held notifications has returned this cursor.
    """
    parts = _decode(request, tuple[int, int, int])
    return None if parts is None else HeldPlace(first_at_ms=parts[0], position=Position(parts[1], parts[2]))


def order_place(request: web.Request) -> OrderPlace | None:
    """Return the place in a request's `cursor`; `None` if it has none, for the first page.

    Raises:
        ApiError: no list of orders has returned this cursor.
    """
    parts = _decode(request, tuple[int, str, str])
    return None if parts is None else OrderPlace(changed_at_ms=parts[0], number=parts[1], account=parts[2])


def _encode(*parts: int | str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def _decode(request: web.Request, shape: Any) -> Any:
    text = request.query.get("cursor", "")
    if not text:
        return None
    try:
        if len(text) > CURSOR_CHARACTERS_MAX:
            raise ValueError
        content = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        return msgspec.json.decode(content, type=shape)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise responses.bad_request("cursor must be the `next` of an earlier page of this list") from None
