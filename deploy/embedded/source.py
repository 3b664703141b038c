"""The journal as the worker's source of records. The order store itself moves the cursor, in each transaction."""

import asyncio
from collections.abc import Sequence

from deploy.embedded.journal import Journal
from workers.settlement.plan import LogRecord, Position

POLL_WAIT_S = 0.2  # how long a poll waits for the first record, and how often the loop checks whether to stop
LINGER_S = 0.02  # from the end of one batch to the next: fuller ones leave more of processor and disk to the receiver


class JournalSource:
    """Reads on from the store's cursor. `committed` is the offset up to which every record has its disposition."""

    def __init__(
        self, journal: Journal, *, cursor: int, poll_wait_s: float = POLL_WAIT_S, linger_s: float = LINGER_S
    ) -> None:
        self._journal = journal
        self.committed = cursor
        self._delivered = cursor
        self._poll_wait_s = poll_wait_s
        self._linger_s = linger_s
        self._is_batch_out = False
        self._not_before_s = float("-inf")
        journal.settled(cursor)

    @property
    def lag(self) -> int:
        """The number of records that no poll has returned yet."""
        return self._journal.last - self._delivered

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        """Return the next records, at most `max_records`; none if none arrives within `poll_wait_s`.

        A record that comes alone, after a pause, waits for no others.
        """
        now_s = asyncio.get_running_loop().time
        if self._is_batch_out:
            self._is_batch_out = False
            self._not_before_s = now_s() + self._linger_s
        if self.lag == 0:
            try:
                async with asyncio.timeout(self._poll_wait_s):
                    await self._journal.wait_beyond(self._delivered)
            except TimeoutError:
                return ()
        if self.lag < max_records and (wait_s := self._not_before_s - now_s()) > 0:
            await asyncio.sleep(wait_s)
        batch = await self._journal.read(self._delivered, max_records)
        if batch:
            self._is_batch_out = True
            self._delivered = batch[-1].position.offset
        return batch

    def rewind(self) -> None:
        """Poll from the committed offset again: the records of a batch that failed are redelivered."""
        self._delivered = self.committed

    async def commit(self, upto: Sequence[Position]) -> None:
        """Let the journal forget the records up to these offsets, whose dispositions the store has committed."""
        for position in upto:
            self.committed = max(self.committed, position.offset)
            self._journal.settled(position.offset)
