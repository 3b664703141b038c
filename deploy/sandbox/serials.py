"""Ids of notifications, trades, refunds and orders, and the formats of times.

The random source is an argument: a seeded `random.Random` makes a corpus repeatable, `random.SystemRandom` gives each
sandbox its own ids.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from random import Random

# All times in a form are Beijing time, whatever the merchant's zone. There has been no summer time since 1991.
BEIJING = timezone(timedelta(hours=8))


def moment(at: datetime) -> str:
    """Format a time as in a form."""
    return at.astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")


def moment_with_fraction(at: datetime) -> str:
    """Format a time as in `gmt_refund`, the only field of a form with milliseconds."""
    return f"{moment(at)}.{at.microsecond // 1000:03d}"


def iso_moment(at: datetime) -> str:
    """Format a time as in the body of an Antom message."""
    return at.astimezone(BEIJING).isoformat(timespec="seconds")


def header_moment(at: datetime) -> str:
    """Format a time as in Antom's `request-time` header."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Serials:
    """Makes ids of the real lengths, with enough random digits that none repeats within a run."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def notify_id(self, at: datetime) -> str:
        """Return 34 decimal digits, the length in mapi and openapi since about 2018."""
        return f"{at.astimezone(BEIJING):%Y%m%d}00222{at.astimezone(BEIJING):%H%M%S}{self._digits(15)}"

    def trade_no(self, at: datetime) -> str:
        """Return 28 digits."""
        return f"{at.astimezone(BEIJING):%Y%m%d}22001499{self._digits(12)}"

    def payment_id(self, at: datetime) -> str:
        """Return Antom's id of a payment, a refund or a dispute."""
        return f"{at.astimezone(BEIJING):%Y%m%d}1940108001001889{self._digits(11)}"

    def order(self, prefix: str, at: datetime) -> str:
        """Return a merchant's order number."""
        return f"{prefix}-{at.astimezone(BEIJING):%Y%m%d}-{self._digits(8)}"

    def _digits(self, count: int) -> str:
        return f"{self._chance.randrange(10**count):0{count}d}"
