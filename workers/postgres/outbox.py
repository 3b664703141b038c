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
adopts all unsent events in the order of their numbers, once the oldest is older than a living worker would leave it. If
two workers lead at once, for the length of a lease, both send.

An event that was sent twice may arrive late, after the next version:

    another worker's copy                               our own first try
    A  sends v1, stalls ············► v1 arrives        A  sends v1, no answer ·········► v1 arrives
    B  adopts v1, sends v1 and v2                       A  sends v1 again, then v2

Consumers of the event topic have seen both before. The compacted state topic would keep v1, because it arrived last.
So such an event is `maybe_duplicated`, and its order's state is sent once more later: `workers.postgres.state_resend`.
"""

from collections.abc import Collection, Container, Mapping, Sequence

from schemas.events import Outgoing
from workers import row_codec
from workers.postgres import columns, state_resend
from workers.postgres.database import SqlConnection
from workers.postgres.settling import SettleResult, previous_id
from workers.queries import Emitted

IN_MEMORY_MAX = 2000  # events that one worker holds while their topic is away; the table has all of them too
ORPHANED_AFTER_MS = 2000  # a living worker sends right after its commit
CHECK_EVERY_MS = 1000  # how often the leader looks for orphans and due resends, even if it has events of its own
PRUNE_ROWS_MAX = 1000  # per transaction


class UnsentEvents:
    """The events that this process wrote or adopted, and that are not acknowledged yet."""

    def __init__(self) -> None:
        self._by_number: dict[int, Outgoing] = {}
        self._ids: set[str] = set()
        self._tried: dict[int, str] = {}  # ids of the events that `next_batch` has returned, by number
        self._maybe_duplicated: set[int] = set()

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: object) -> bool:
        return number in self._by_number

    def add(self, settled: SettleResult) -> None:
        """Add the events that a transaction wrote, except for orders with an older event that is not ours to send."""
        not_ours = settled.unsent_before - self._ids
        left_out = {event.key for _, event in settled.numbered if previous_id(event) in not_ours} if not_ours else set()
        for number, event in settled.numbered:
            if event.key not in left_out:
                self._put(number, event)
        if len(self._by_number) > IN_MEMORY_MAX:
            # An event that was tried may still be in flight: its acknowledgement needs the id and `maybe_duplicated`.
            self.forget([number for number in self._by_number if number not in self._tried])

    def adopt(self, orphans: Sequence[Emitted]) -> None:
        """Add events that another worker left unsent. They stay until our own send is acknowledged, even if the other
        worker sends them too, because an earlier try of ours may still arrive late."""
        for orphan in orphans:
            self._put(orphan.number, orphan.event)
            self._maybe_duplicated.add(orphan.number)

    def next_batch(self, limit: int) -> list[tuple[int, Outgoing]]:
        """Return the oldest events, by number, to be sent now. An event that was returned before, and is not
        acknowledged, has been tried with unknown outcome."""
        numbers = sorted(self._by_number)[:limit]
        self._maybe_duplicated |= self._tried.keys() & numbers
        batch = [(number, self._by_number[number]) for number in numbers]
        self._tried.update([(number, event.id) for number, event in batch])
        return batch

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

    def _put(self, number: int, event: Outgoing) -> None:
        # After a failover that lost commits, the database gives a number out again: its old event no longer exists.
        if (lost := self._by_number.get(number)) is not None:
            self._ids.discard(lost.id)
        self._by_number[number] = event
        self._ids.add(event.id)


async def adopt_orphans(
    connection: SqlConnection, limit: int, *, own: Container[int], now_ms: int
) -> Sequence[Emitted]:
    """Return the oldest unsent events, if the very oldest is orphaned; else none.

    A resend is requested now for each that is not in `own`: its writer may send it after all, and this worker may die
    before it can record that there are two copies.
    """
    found = await connection.fetch(_ORPHANS, limit, now_ms - ORPHANED_AFTER_MS)
    orphans = [row_codec.emitted(row) for row in found]
    if adopted := [orphan.number for orphan in orphans if orphan.number not in own]:
        await state_resend.request(connection, adopted, now_ms=now_ms)
    return orphans


async def mark_sent(
    connection: SqlConnection, sent: Mapping[int, str], *, maybe_duplicated: Collection[int] = (), now_ms: int
) -> None:
    """Mark these events, by number and id, as acknowledged. Request a resend for each that was sent more than once:
    one that another worker has marked before, or that is in `maybe_duplicated`."""
    marked: dict[int, str] = dict(await connection.fetch(_MARK, sorted(sent), now_ms))
    # The number may have been given out again since the event was sent: then another event has it, which is not sent.
    if given_out_again := [number for number, id_ in marked.items() if sent[number] != id_]:
        await connection.execute(_UNMARK, given_out_again)
    if sent_twice := [number for number in sent if number not in marked or number in maybe_duplicated]:
        await state_resend.request(connection, sent_twice, now_ms=now_ms)


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


_ORPHANS = f"""
    SELECT {columns.EMITTED} FROM outbox
    WHERE sent_at IS NULL
        AND (SELECT written_at FROM outbox WHERE sent_at IS NULL ORDER BY number LIMIT 1) <= $2
    ORDER BY number LIMIT $1
"""  # noqa: S608 - our own list of columns
_MARK = "UPDATE outbox SET sent_at = $2 WHERE number = ANY($1::bigint[]) AND sent_at IS NULL RETURNING number, id"
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
