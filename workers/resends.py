"""Publish events of an order again, with the same ids, because a consumer has lost them.

A resent event gets a new number at the end of the outbox, as if it were written now; the relay sends it like any other,
and readers of `/api/events` meet it again. The later versions of its order follow it. So copies arrive in version
order too, also for a reader that begins with the oldest number, and the compacted topic ends with the newest state.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

VERSIONS_MAX = 500  # of one request: one transaction writes them


class ResendRefusal(StrEnum):
    """The reason why nothing was published again."""

    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_VERSION = "unknown_version"
    NOT_SENT_YET = "not_sent_yet"
    TOO_MANY = "too_many_versions"


class SentEvent(Struct, frozen=True):
    """An order event in the outbox, by its number there and the order's version."""

    number: int
    version: int
    is_sent: bool


class ResendPort(Protocol):
    """The part of the order store that publishes again."""

    async def resend(
        self, scope: str, number: str, version: int | None, *, by: str, why: str, now_ms: int
    ) -> tuple[int, ...] | ResendRefusal:
        """Publish this version and the later ones, or the newest alone if `version` is `None`, with an audit row each.

        Return the versions, of which each gets a new number in the outbox.
        """


def chosen(events: Sequence[SentEvent], version: int | None) -> Sequence[SentEvent] | ResendRefusal:
    """Return the events to publish again, by version. `events` are all that the outbox still has of the order."""
    by_version = {event.version: event for event in events}
    first = max(by_version, default=0) if version is None else version
    if first not in by_version:
        return ResendRefusal.UNKNOWN_VERSION
    found = [by_version[each] for each in sorted(by_version) if each >= first]
    if len(found) > VERSIONS_MAX:
        return ResendRefusal.TOO_MANY
    if not all(event.is_sent for event in found):
        return ResendRefusal.NOT_SENT_YET
    return found
