"""The journal as the worker's source of records. The cursor itself lies in the order store, in each transaction."""

import asyncio
from collections.abc import Sequence

from deploy.embedded.journal import Journal
from workers.settlement.plan import LogRecord, Position

POLL_WAIT_S = 0.2  # how long a poll waits for the first record; the loop looks up that often whether to stop
LINGER_S = 0.02  # how long it then waits for more: fuller batches leave the processor, and the disk, to the receiver


class JournalSource:
    """Reads on from the store's cursor. `committed` is the offset up to which every record has its disposition."""

    def __init__(
        self, journal: Journal, *, cursor: int, poll_wait_s: float = POLL_WAIT_S, linger_s: float = LINGER_S
    ) -> None:
        self._journal = journal
        self.committed = cursor
        self._at = cursor
        self._poll_wait_s = poll_wait_s
        self._linger_s = linger_s
        journal.settled(cursor)

    @property
    def lag(self) -> int:
        """How many records were not delivered yet."""
        return self._journal.last - self._at

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        """The next records, at most so many; empty where none came for a while."""
        if self.lag == 0:
            try:
                async with asyncio.timeout(self._poll_wait_s):
                    await self._journal.wait_beyond(self._at)
            except TimeoutError:
                return ()
        if self.lag < max_records and self._linger_s:
            await asyncio.sleep(self._linger_s)
        batch = await self._journal.read(self._at, max_records)
        if batch:
            self._at = batch[-1].position.offset
        return batch

    async def commit(self, upto: Sequence[Position]) -> None:
        """The store has committed these already; here the journal learns what it may forget."""
        for position in upto:
            self.committed = max(self.committed, position.offset)
            self._journal.settled(position.offset)
