"""Mark acknowledged events as sent, and complete the resends that they answer; also around rows that are locked.

A stranger may hold rows of the outbox. Events that cannot be marked for that reason are kept in memory as acknowledged
(`UnsentEvents.keep_unmarked`), and marked at a later look. Sent again at each look they would flood the consumers.
"""

from collections.abc import Callable, Sequence

from workers.postgres import outbox, state_resend
from workers.postgres.database import SqlConnection
from workers.postgres.outbox import UnsentEvents
from workers.postgres.state_resend import StateResends


class Marks:
    """The marks of one process, on its unsent events and its resends."""

    def __init__(self, unsent: UnsentEvents, resends: StateResends, *, now_ms: Callable[[], int]) -> None:
        self._unsent = unsent
        self._resends = resends
        self._now_ms = now_ms

    async def mark(
        self, connection: SqlConnection, numbers: Sequence[int], free: frozenset[int] | None = None
    ) -> Sequence[int]:
        """Mark these events, or those of them in `free`; return their numbers."""
        now_ms = self._now_ms()
        marked = numbers if free is None else [number for number in numbers if number in free]
        resent = [each for each in self._resends.acknowledged(numbers) if free is None or each.number in free]
        if sent := self._unsent.ids(marked):
            maybe_duplicated = self._unsent.maybe_duplicated(sent)
            await outbox.mark_sent(connection, sent, maybe_duplicated=maybe_duplicated, now_ms=now_ms)
        if resent:
            await state_resend.complete(connection, resent, now_ms=now_ms)
        return marked

    async def mark_free(self, connection: SqlConnection, numbers: Sequence[int]) -> Sequence[int]:
        """Mark those that no other session has locked; return their numbers."""
        requests = [request.number for request in self._resends.acknowledged(numbers)]
        return await self.mark(connection, numbers, await outbox.free(connection, sorted({*numbers, *requests})))
