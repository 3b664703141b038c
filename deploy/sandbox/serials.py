"""The numbers Alipay and its merchants make up, of notifications, trades, refunds, orders; and how moments are written.

Chance is passed in: a seeded `random.Random` makes a corpus repeatable, `random.SystemRandom` two sandboxes different.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from random import Random

# Alipay writes every moment of a form in its own time, whatever the merchant's is; no summer time there since 1991.
BEIJING = timezone(timedelta(hours=8))


def moment(at: datetime) -> str:
    """A moment as a form writes it."""
    return at.astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")


def moment_with_fraction(at: datetime) -> str:
    """A moment as `gmt_refund` writes it: alone among the dates of a form it carries milliseconds."""
    return f"{moment(at)}.{at.microsecond // 1000:03d}"


def iso_moment(at: datetime) -> str:
    """A moment as the body of an Antom message writes it."""
    return at.astimezone(BEIJING).isoformat(timespec="seconds")


def header_moment(at: datetime) -> str:
    """A moment as Antom's `request-time` header writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Serials:
    """Makes numbers of the real lengths; enough of each is random that none repeats within one run."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def notify_id(self, at: datetime) -> str:
        """34 decimal digits, as mapi and openapi have used since about 2018."""
        return f"{at.astimezone(BEIJING):%Y%m%d}00222{at.astimezone(BEIJING):%H%M%S}{self._digits(15)}"

    def trade_no(self, at: datetime) -> str:
        """28 digits."""
        return f"{at.astimezone(BEIJING):%Y%m%d}22001499{self._digits(12)}"

    def payment_id(self, at: datetime) -> str:
        """Antom's number of a payment, a refund or a dispute."""
        return f"{at.astimezone(BEIJING):%Y%m%d}1940108001001889{self._digits(11)}"

    def order(self, prefix: str, at: datetime) -> str:
        """A merchant's order number."""
        return f"{prefix}-{at.astimezone(BEIJING):%Y%m%d}-{self._digits(8)}"

    def _digits(self, count: int) -> str:
        return f"{self._chance.randrange(10**count):0{count}d}"
