"""Times as Alipay writes them, read into aware datetimes.

Forms write Beijing time without saying so (`2025-03-18 14:30:12`, China has had no daylight saving since 1991, so a
fixed offset is exact for every trade there can be); refunds add a fraction of a second. Antom writes ISO 8601 with an
offset. No time read here ever puts two notifications in an order: `notify_time` is the moment of one delivery and
changes with every retry.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

BEIJING = timezone(timedelta(hours=8), "UTC+08:00")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# The hours are spelled out because newer Pythons take 24:00 for the next day's midnight.
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d (?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)", re.ASCII)
_EPOCH_MS = re.compile(r"\d{13}", re.ASCII)


# How many are remembered: what comes together was mostly paid, sent and received within the same few seconds.
_REMEMBERED_MAX = 1024


class BadTime(ValueError):
    """The text is not a time of the form that this kind of message uses, or no such day exists."""


@lru_cache(_REMEMBERED_MAX)
def parse_local(text: str) -> datetime:
    """A form's `yyyy-MM-dd HH:mm:ss`, with an optional fraction, as an aware datetime at UTC+8.

    Raises:
        BadTime: another form, or a moment that does not exist (`2025-02-30`).
    """
    if _LOCAL.fullmatch(text) is None:
        raise BadTime("expected yyyy-MM-dd HH:mm:ss")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=BEIJING)
    except ValueError as error:
        raise BadTime(str(error)) from None


def parse_iso(text: str) -> datetime:
    """An Antom time: ISO 8601 with a zone.

    Raises:
        BadTime: another form, or a moment that does not exist.
    """
    if _ISO.fullmatch(text) is None:
        raise BadTime("expected ISO 8601 with a zone")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise BadTime(str(error)) from None


def parse_request_time(text: str) -> datetime:
    """Antom's `request-time` header: ISO 8601 with a zone, or thirteen digits of epoch milliseconds.

    Raises:
        BadTime: neither.
    """
    if _EPOCH_MS.fullmatch(text):
        return from_epoch_ms(int(text))
    return parse_iso(text)


@lru_cache(_REMEMBERED_MAX)
def from_epoch_ms(epoch_ms: int) -> datetime:
    """The UTC moment `epoch_ms` milliseconds after 1970."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def to_epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970 of an aware moment."""
    return (moment - _EPOCH) // _MILLISECOND  # in integers: a float would lose one now and then
