"""The limit of dead letters in a row by our own fault: so many point at a broken program, not at broken records.

The worker then stops, and its service manager, or the embedded engine, restarts it. A restarted worker counts the
recent dead letters of earlier ones, so that it stops at the next one. Otherwise each restart would make the limit's
number of dead letters again, and a broken program would go through the whole log like this.
"""

from collections.abc import Sequence
from typing import Protocol

from schemas.dispositions import Disposition, Reason
from workers.errors import TooManyDeadLetters
from workers.queries import HeldGroup, HeldQuery
from workers.settlement.plan import ParsedRecord, WritePlan

IN_A_ROW_MAX = 20
OUR_FAULTS = frozenset({Reason.OUR_FAULT, Reason.ENDED_PROCESS, Reason.BAD_RECORD})
RECENT_S = 600  # longer than a service manager waits between two starts


class HeldGroups(Protocol):
    """The store's counts of held rows, as in `workers.queries.HeldPort`."""

    async def held_groups(self, query: HeldQuery) -> Sequence[HeldGroup]: ...


async def recent(store: HeldGroups, *, now_ms: int) -> int:
    """Return how many unresolved dead letters by our own fault the last `RECENT_S` seconds have brought.

    Raises:
        InfrastructureDown: the store does not answer.
    """
    query = HeldQuery(disposition=Disposition.DEAD, since_ms=now_ms - RECENT_S * 1000)
    return sum(group.count for group in await store.held_groups(query) if group.reason in OUR_FAULTS)


class DeadLetters:
    """The count of one worker."""

    def __init__(self, in_a_row_max: int = IN_A_ROW_MAX) -> None:
        self._in_a_row = 0
        self._in_a_row_max = in_a_row_max

    def count_earlier(self, dead_letters: int) -> None:
        """Count those of earlier workers, but at most so many that the next one reaches the limit."""
        self._in_a_row = min(dead_letters, self._in_a_row_max - 1)

    def count(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        """Count the plan's dead letters by our own fault, among records from the log.

        A message that its sender wrote wrongly does not count, because then any sender could stop the worker. A retried
        record was counted when it first came.

        Raises:
            TooManyDeadLetters: the limit is reached.
        """
        retried = {parsed.position for parsed in parsed_records if parsed.held is not None}
        for delivery in plan.deliveries:
            if delivery.position in retried:
                continue
            is_our_fault = delivery.reason in OUR_FAULTS and delivery.disposition is Disposition.DEAD
            self._in_a_row = self._in_a_row + 1 if is_our_fault else 0
            if self._in_a_row >= self._in_a_row_max:
                raise TooManyDeadLetters(
                    f"{self._in_a_row} dead letters in a row, the last for {delivery.reason.value}"
                )
