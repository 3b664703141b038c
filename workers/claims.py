"""Claims: who is at work on which orders just now. An optimisation; the store is the guarantee.

The race that claims are *not* there to win: worker A claims an order, stops for a minute (a long pause of the machine),
and its claim expires. B claims the order, applies its news and goes on. A wakes up, believes in its claim and writes.
No lease can prevent that. What does is the order's version: A decided on version 4, the store holds version 5, A's
whole transaction is turned away as `Fenced` and decided again. Likewise two deliveries of one record: the record's
position, and the notification's id, are unique in the store.

What claims are there for: that two workers seldom do the same work, or wait for each other's row locks. So a worker
that cannot claim (unreachable, full, restarted) goes on without, and one that finds an order claimed waits a moment and
then goes on too.
"""

from collections.abc import Sequence
from typing import Protocol


class Claims(Protocol):
    """Leases on keys. A token names one holder and one batch of it; keys are those of log records: `account:order`."""

    async def claim(self, keys: Sequence[bytes], token: bytes) -> set[bytes]:
        """Those of the keys that are ours now. Safe to repeat: what the token holds already counts as ours."""

    async def release(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give back what the token holds of these; another's stays his."""
