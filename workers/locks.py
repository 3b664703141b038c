"""Claims: who is at work on which orders just now. An optimisation; the store is the guarantee.

The race that claims are *not* there to win: worker A claims an order, stops for a minute (a long pause of the machine),
and its claim expires. B claims the order, applies its news and goes on. A wakes up, believes in its claim and writes.
No lease can prevent that. What does is the order's version: A decided on version 4, the store holds version 5, A's
whole transaction is turned away as `Fenced` and decided again. Likewise two deliveries of one record: the record's
position, and the notification's id, are unique in the store.

What claims are there for: that two workers seldom do the same work, or wait for each other's row locks. So a worker
that cannot claim (unreachable, full, restarted) goes on without, and one that finds an order claimed waits a moment and
then goes on too.

Who gives an order back after its records are settled leaves a mark of how far they are. It saves work where a batch is
delivered again, as after every worker that died before its commit: the next one sees that it is worth a question to the
store whether those records have their dispositions, and passes over them where they have. The mark answers nothing
itself: claims may remember what a store has lost.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from workers.settlement.plan import Position


class LockResult(NamedTuple):
    """What came of a call: keys that are `ours` now, and `done`, how far some of them are settled, as somebody said."""

    ours: set[bytes]
    done: Mapping[bytes, Position]


class IdempotencyLocks(Protocol):
    """Leases on keys. A token names one holder and one batch of it, and does not begin with `=`; keys are those of log
    records: `account:order`."""

    async def acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        """Safe to repeat: what the token holds already counts as ours."""

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        """Give back what the token holds of these; another's stays his. `done`: the last that is settled of a key."""
