"""Parse Alipay's times into aware datetimes.

Forms contain Beijing time without a zone (`2025-03-18 14:30:12`), in refunds with a fraction of a second. China has had
no daylight saving since 1991, so the fixed offset UTC+8 is exact. Antom writes ISO 8601 with an offset.

These times never decide the order of two notifications: `notify_time` is the time of one delivery and changes with
every resend.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BEIJING = timezone(timedelta(hours=8), "UTC+08:00")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Hours are limited to 23 here because newer Python versions accept 24:00 as midnight of the next day.
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d (?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)", re.ASCII)
_EPOCH_MS = re.compile(r"\d{13}", re.ASCII)


# Size of the caches. Notifications of one batch were mostly paid, sent and received within the same few seconds.
_CACHED_MAX = 1024


class BadTime(ValueError):
    """The text does not have the expected form, or the date does not exist."""


@lru_cache(_CACHED_MAX)
def parse_local(text: str) -> datetime:
    """Parse a form's `yyyy-MM-dd HH:mm:ss`, with an optional fraction, as Beijing time (UTC+8).

    Raises:
        BadTime: another form, or a date that does not exist (`2025-02-30`).
    """
    if _LOCAL.fullmatch(text) is None:
        raise BadTime("expected yyyy-MM-dd HH:mm:ss")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=BEIJING)
    except ValueError as error:
        raise BadTime(str(error)) from None


def parse_iso(text: str) -> datetime:
    """Parse an Antom time: ISO 8601 with a zone.

    Raises:
        BadTime: another form, or a date that does not exist.
    """
    if _ISO.fullmatch(text) is None:
        raise BadTime("expected ISO 8601 with a zone")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise BadTime(str(error)) from None


def iso_to_epoch_ms(text: str) -> int:
    """Return the whole milliseconds since 1970 of an Antom time, or of a time that we have written.

    Raises:
        BadTime: as `parse_iso`.
    """
    return to_epoch_ms(parse_iso(text))


def parse_request_time(text: str) -> datetime:
    """Parse Antom's `request-time` header: ISO 8601 with a zone, or thirteen digits of epoch milliseconds.

    Raises:
        BadTime: neither.
    """
    if _EPOCH_MS.fullmatch(text):
        return from_epoch_ms(int(text))
    return parse_iso(text)


@lru_cache(_CACHED_MAX)
def from_epoch_ms(epoch_ms: int) -> datetime:
    """Return the UTC time `epoch_ms` milliseconds after 1970."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def to_epoch_ms(moment: datetime) -> int:
    """Return the whole milliseconds since 1970 of an aware datetime."""
    return (moment - _EPOCH) // _MILLISECOND  # integers, because a float would sometimes be off by one
