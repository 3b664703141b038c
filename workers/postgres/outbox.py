"""The outbox among several workers: which worker sends an event, and which events may have been sent twice.

    COMMIT: the order's new version, and its event as a row of the outbox
      ├─ older unsent events of the order: none, or ours ──► UnsentEvents ──► sent ──► acknowledged ──► sent_at is set
      │                                                      (in memory) ▲    └─ no answer: sent again
      └─ else; or memory is full; or the worker dies                     │
           └─► only in the table ──► orphaned ──► the leader adopts it ──┘

A worker still has in memory the events that it wrote, so usually none is read back. The versions of one order must be
sent in order, whichever worker wrote them. One rule ensures it: before a worker sends an event, it sends every older
event of the same order that is not acknowledged. Consumers may then see an event twice, but never before its
predecessor. So a worker leaves an event in the table if the predecessor is unsent and not in its own memory: another
worker may be about to send that one, or be dead. The leader of the role `sending` (`workers.postgres.leadership`) then
adopts unsent events in the order of their numbers, once a living worker would have sent them
(`workers.postgres.orphans`). If two workers lead at once, for the length of a lease, both send.

An event that its topic refuses is left in the table too, with the later events of its key. So is what
does not fit in memory while its topic is away.

An event that was sent twice may arrive late, after the next version:

    another worker's copy                               our own first try
    A  sends v1, stalls ············► v1 arrives        A  sends v1, no answer ·········► v1 arrives
    B  adopts v1, sends v1 and v2                       A  sends v1 again, then v2

Consumers of the event topic have seen both before. The compacted state topic would keep v1, because it arrived last.
So such an event is `maybe_duplicated`, and its order's state is sent once more later: `workers.postgres.state_resend`.
"""

from collections.abc import Callable, Collection, Container, Mapping, Sequence, Set

from schemas.events import Outgoing
from workers.postgres import state_resend
from workers.postgres.database import SqlConnection
from workers.postgres.settling import SettleResult, previous_id
from workers.queries import Emitted

IN_MEMORY_MAX = 2000  # events that one worker holds while their topic is away; the table has all of them too
PRUNE_ROWS_MAX = 1000  # per transaction


class UnsentEvents:
    """The events that this process wrote or adopted, and that are not acknowledged yet."""

    def __init__(self) -> None:
        self._by_number: dict[int, Outgoing] = {}
        self._ids: set[str] = set()
        self._tried: dict[int, str] = {}  # ids of the events that `next_batch` has returned, by number
        self._maybe_duplicated: set[int] = set()
        self._unmarked: set[int] = set()  # acknowledged, but their rows are locked and cannot be marked yet

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: object) -> bool:
        return number in self._by_number

    def is_full(self, only: Set[str]) -> bool:
        """Return whether there is no room for orphans of these topics."""
        return sum(event.topic in only for event in self._by_number.values()) >= IN_MEMORY_MAX

    def has_any(self, is_ready: Callable[[Outgoing], bool]) -> bool:
        """Return whether some event is ready to be sent."""
        return any(is_ready(event) for number, event in self._by_number.items() if number not in self._unmarked)

    def add(self, settled: SettleResult) -> bool:
        """Add the events that a transaction wrote, except for orders with an older event that is not ours to send.

        Return whether all fit in memory. If not, those that were not tried are left to the leader.
        """
        not_ours = settled.unsent_before - self._ids
        left_out = {event.key for _, event in settled.numbered if previous_id(event) in not_ours} if not_ours else set()
        for number, event in settled.numbered:
            if event.key not in left_out:
                self._put(number, event)
        if len(self) <= IN_MEMORY_MAX:
            return True
        self.leave(lambda event: True)
        return False

    def leave(self, leaves: Callable[[Outgoing], bool]) -> None:
        """Leave these events to the leader, if they were not tried."""
        # An event that was tried may still be in flight: its acknowledgement needs the id and `maybe_duplicated`.
        self.forget(
            [number for number, event in self._by_number.items() if number not in self._tried and leaves(event)]
        )

    def adopt(self, orphans: Sequence[Emitted]) -> None:
        """Add events that another worker left unsent. They stay until our own send is acknowledged, even if the other
        worker sends them too, because an earlier try of ours may still arrive late."""
        for orphan in orphans:
            self._put(orphan.number, orphan.event)
            self._maybe_duplicated.add(orphan.number)

    def next_batch(
        self, limit: int, is_ready: Callable[[Outgoing], bool] = lambda event: True
    ) -> list[tuple[int, Outgoing]]:
        """Return the oldest events that are ready, by number, to be sent now. An event that was returned before, and is
        not acknowledged, has been tried with unknown outcome."""
        batch: list[tuple[int, Outgoing]] = []
        for number in sorted(self._by_number):
            event = self._by_number[number]
            if number not in self._unmarked and is_ready(event):
                batch.append((number, event))
                if len(batch) == limit:
                    break
        self._maybe_duplicated |= self._tried.keys() & {number for number, _ in batch}
        self._tried.update([(number, event.id) for number, event in batch])
        return batch

    def set_aside(self, numbers: Collection[int]) -> None:
        """Leave these events to the leader, and with them all of their keys: none may be sent before its predecessor.

        They were tried, and refused, so none is in flight.
        """
        refused = {(event.topic, event.key) for number in numbers if (event := self._by_number.get(number)) is not None}
        self.forget([number for number, event in self._by_number.items() if (event.topic, event.key) in refused])

    @property
    def unmarked(self) -> Sequence[int]:
        """The numbers of events that are acknowledged and still have to be marked as sent."""
        return sorted(self._unmarked)

    def keep_unmarked(self, numbers: Collection[int]) -> None:
        """Send these no more, because they are acknowledged, and keep them until they are marked as sent."""
        self._unmarked.update(number for number in numbers if number in self._by_number)

    def ids(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the ids, by number, of those that `next_batch` returned last under these numbers."""
        return {number: self._tried[number] for number in numbers if number in self._tried}

    def maybe_duplicated(self, numbers: Collection[int]) -> set[int]:
        """Return the numbers whose event may have another copy in flight: another worker's, or our own earlier try."""
        return self._maybe_duplicated.intersection(numbers)

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove events: they are acknowledged as they were tried, or they are left to the leader."""
        for number in numbers:
            event = self._by_number.get(number)
            # The ids differ if the number was given out again while its lost event was sent: the new event stays.
            if event is not None and self._tried.pop(number, event.id) == event.id:
                del self._by_number[number]
                self._ids.discard(event.id)
        self._maybe_duplicated.difference_update(numbers)
        self._unmarked.difference_update(numbers)

    def _put(self, number: int, event: Outgoing) -> None:
        # After a failover that lost commits, the database gives a number out again: its old event no longer exists.
        if (lost := self._by_number.get(number)) is not None:
            self._ids.discard(lost.id)
            if lost.id != event.id:
                self._unmarked.discard(number)
        self._by_number[number] = event
        self._ids.add(event.id)


async def request_resends(
    connection: SqlConnection, orphans: Sequence[Emitted], *, own: Container[int], now_ms: int
) -> None:
    """Request a resend now for each orphan to be adopted that is not in `own`: its writer may send it after all, and
    this worker may die before it can record that there are two copies."""
    if adopted := [orphan.number for orphan in orphans if orphan.number not in own]:
        await state_resend.request(connection, adopted, now_ms=now_ms)


async def mark_sent(
    connection: SqlConnection, sent: Mapping[int, str], *, maybe_duplicated: Collection[int] = (), now_ms: int
) -> None:
    """Mark these events, by number and id, as acknowledged. Request a resend for each that was sent more than once:
    one that another worker has marked before, or that is in `maybe_duplicated`."""
    numbers, ids = await connection.fetchrow(_MARK, sorted(sent), now_ms)
    marked: dict[int, str] = dict(zip(numbers or (), ids or (), strict=True))
    # The number may have been given out again since the event was sent: then another event has it, which is not sent.
    if given_out_again := [number for number, id_ in marked.items() if sent[number] != id_]:
        await connection.execute(_UNMARK, given_out_again)
    if sent_twice := [number for number in sent if number not in marked or number in maybe_duplicated]:
        await state_resend.request(connection, sent_twice, now_ms=now_ms)


async def free_orphans(connection: SqlConnection, orphans: Sequence[Emitted]) -> list[Emitted]:
    """Lock and return the orphans without those of a key of which another session has locked one."""
    numbers = await free(connection, [orphan.number for orphan in orphans])
    busy = {orphan.event.key for orphan in orphans if orphan.number not in numbers}
    return [orphan for orphan in orphans if orphan.event.key not in busy]


async def free(connection: SqlConnection, numbers: Sequence[int]) -> frozenset[int]:
    """Lock those of these events that no other session has locked, and return their numbers."""
    return frozenset(number for (number,) in await connection.fetch(_FREE, numbers))


async def highest_number(connection: SqlConnection) -> int:
    """Return the highest number that is visible; 0 if the outbox is empty."""
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM outbox")
    return number


async def prune(connection: SqlConnection, *, after: int, older_than_ms: int) -> int | None:
    """Delete events that were acknowledged before that moment, among the next `PRUNE_ROWS_MAX` numbers after `after`.
    Return the last of these numbers, or `None` when no older rows are left to examine.

    It walks over the numbers and does not search for rows to delete, because the newest event of each order stays: each
    search would meet millions of such rows again.
    """
    last: int | None = await connection.fetchval(_PRUNE, after, older_than_ms, PRUNE_ROWS_MAX)
    return last


# One row with two arrays: the client takes several times as long for many rows. It has NULLs if none was marked.
_MARK = """
    WITH marked AS (
        UPDATE outbox SET sent_at = $2 WHERE number = ANY($1::bigint[]) AND sent_at IS NULL RETURNING number, id
    )
    SELECT array_agg(number), array_agg(id) FROM marked
"""
_FREE = """
    SELECT number FROM outbox WHERE number = ANY($1::bigint[]) ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
"""
_UNMARK = "UPDATE outbox SET sent_at = NULL WHERE number = ANY($1::bigint[])"
_PRUNE = """
    WITH stretch AS MATERIALIZED (
        SELECT number, id, version, sent_at, again_at, written_at
        FROM outbox WHERE number > $1 ORDER BY number LIMIT $3
    ), pruned AS (
        DELETE FROM outbox WHERE number IN (
            SELECT old.number FROM stretch AS old
            WHERE old.sent_at < $2 AND old.again_at IS NULL AND (old.version IS NULL OR EXISTS (
                SELECT 1 FROM outbox AS next
                WHERE next.id = left(old.id, -length(old.version::text)) || (old.version + 1)
            ))
        )
    )
    SELECT max(number) FROM stretch HAVING min(written_at) < $2
"""
