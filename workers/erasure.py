"""Erase the buyer's data from the stored bytes of settled notifications: after a time, or for one order at once.

The bytes stay as far as they decide (`schemas.personal`), so a later decision on the order still counts their
amounts. Ids, positions and digests stay too, so copies are recognised as before. The signature cannot be verified any
more, and `erased_at` says why. A held notification keeps its bytes until it is resolved, because they decide how.

Old notifications are found by walking the dispositions of each partition from the oldest on; how far is kept in the
store. Those that are held, or were, are passed over there, and found by the time at which they were resolved.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, Protocol

from msgspec import Struct
from prometheus_client import Counter

from schemas import personal
from schemas.times import DAY_MS
from workers import row_codec
from workers.errors import InfrastructureDown
from workers.settlement.plan import Position

ROWS_MAX = 200  # of one transaction, because batches wait meanwhile
EVERY_S = 600.0
BETWEEN_S = 0.2

Row = Sequence[Any]


class ErasedSome(Struct, frozen=True, kw_only=True):
    """One step: the notifications that were erased, and whether others may be left."""

    count: int
    is_more: bool


class ErasedOrder(Struct, frozen=True, kw_only=True):
    """A step of one order. `held` are the positions of those that are held, and keep their bytes until resolved."""

    count: int
    held: tuple[Position, ...]
    is_more: bool


class ErasurePort(Protocol):
    """Erasure in the order store."""

    async def erase_old(self, *, older_than_ms: int, now_ms: int) -> ErasedSome:
        """Erase some notifications that were settled before that moment."""

    async def erase_order(self, scope: str, number: str, *, by: str, why: str, now_ms: int) -> ErasedOrder | None:
        """Erase notifications of this order with an audit row; `None` if there is no such order."""


class Walked(Struct, frozen=True):
    """A part of a partition's dispositions: the rows to erase, the last offset, and how many were looked at."""

    rows: tuple[Row, ...]
    upto: int
    looked_at: int


def walked(found: Sequence[Row], older_than_ms: int) -> Walked | None:
    """Return the part that is old enough; `None` if nothing is.

    A row has the offset, the time of the decision, whether it is held or was, and the ledger's columns: notification
    id, account, key, value and headers, which are null if the bytes are another record's, or erased.
    """
    old = list(takewhile(lambda row: row[2] or row[1] < older_than_ms, found))
    if not old:
        return None
    return Walked(tuple(row[3:] for row in old if not row[2] and row[5] is not None), old[-1][0], len(old))


def erased(key: bytes, value: bytes, headers: bytes) -> tuple[bytes, bytes]:
    """Return value and headers of a record without personal data, as columns."""
    record = personal.erased(row_codec.record(key, value, headers))
    return record.value, row_codec.headers(record)


async def erase_for_ever(
    port: ErasurePort,
    *,
    days: int,
    now_ms: Callable[[], int],
    is_clock_trusted: Callable[[], bool],
    leads: Callable[[], Awaitable[bool]],
    counter: Counter,
    every_s: float = EVERY_S,
) -> None:
    """Erase notifications settled more than `days` ago, in small steps, while this process leads; none if `days` is 0.

    Nothing is erased for a day after the clock has jumped.
    """
    while True:
        with suppress(InfrastructureDown):  # the loops that need the store report it
            while days and is_clock_trusted() and await leads():
                done = await port.erase_old(older_than_ms=now_ms() - days * DAY_MS, now_ms=now_ms())
                counter.inc(done.count)
                if not done.is_more:
                    break
                await asyncio.sleep(BETWEEN_S)
        await asyncio.sleep(every_s)
