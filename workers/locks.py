"""Idempotency locks on orders. They are an optimisation: the order store guarantees that nothing is applied twice.

Two workers then seldom process the same order at the same time, or wait for each other's row locks. If the locks are
unreachable, full or restarted, the consumer continues without them. If another worker holds an order's lock, the
consumer waits a moment and then processes the order anyway.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workers.settlement.plan import Position


class LockResult(NamedTuple):
    """The keys that are `ours` now, and the done-markers found on them: `done`, the last processed offset of a key.

    A done-marker saves work when a batch is redelivered although its worker lived: its commit failed, or the group had
    rebalanced. A killed worker leaves no markers, only locks that expire. A marker is only a
    hint that the store is worth asking whether those records have their dispositions. If they have, the consumer skips
    them. The marker alone proves nothing, because the locks may remember records that a restored store has lost.
    """

    ours: set[bytes]
    done: Mapping[bytes, Position]


class IdempotencyLocks(Protocol):
    """Leases on keys, which are the keys of log records: `account:order`.

    A token names one holder and one of its batches, and does not begin with `=`.

    No lease can prevent this race: worker A locks an order and stops for a minute (a long pause of the machine), so its
    lock expires. Worker B locks the order, applies its records and continues. A wakes up, believes in its lock and
    writes. The store prevents it: A's transaction locks the order's row and decides on what B left there. If it had
    decided before, the order's version would have changed, and the whole transaction would be decided again. Two
    deliveries of one record cannot both be applied either, because the record's offset and the notification's id are
    unique in the store.
    """

    async def acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        """Lock the keys that no other token holds. Safe to repeat: keys that this token holds already are ours."""

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        """Release the keys that the token holds, and no others. A key in `done` gets that offset as its done-marker."""
