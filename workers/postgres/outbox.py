"""The outbox among several workers: each sends what it wrote itself, one of them sends what was left behind.

What a worker has just written it still has in memory, so the usual way out reads nothing back. Versions of one order
have to go out in their order whoever writes them, and that comes from one rule: whoever sends an event sends, before
it, every older event of the same order that is not acknowledged yet, or knows that there is none. Then a consumer may
see an event twice, and never one before its predecessor.

So an event stays out of memory, and is left behind, where its predecessor is somebody else's and not acknowledged: that
other worker may be about to send it, or dead. What is left behind is in the table. The one worker that leads (see
`workers.postgres.leadership`) sends from there, everything that is unsent, by its number, once the oldest of it has
waited longer than a living worker would have let it. Two leaders at once, for the length of a lease, send twice.

Where two have sent the same event, one of them may have done it late: after the other had sent the next version too.
Who reads the events has seen both before; but in their compacted twin the late one is the last, and the only one that
is kept. So who finds that an event was marked before, and therefore is the last of its senders, sends the newest of its
order once more, and before it what is not known to be sent. The newest is what is committed at that moment; so it is
asked again when that is acknowledged, since one that was committed meanwhile may have been sent before it. All of them
are unsent again in the table too: should this worker die, the one who leads sends them.
"""

from collections.abc import Sequence, Set

from schemas.events import Outgoing
from workers import rows
from workers.pages import Emitted
from workers.postgres import columns
from workers.postgres.database import Connection
from workers.postgres.settling import Settled, previous_id

FRESH_MAX = 2000  # what one worker holds in memory while its topic is away; all of it is in the table too
LEFT_BEHIND_MS = 2000  # a worker sends right after its commit: who has not by now is in trouble, or gone
LOOK_EVERY_MS = 1000  # whoever leads looks for what was left behind, also while it has enough of its own to send
PRUNE_ROWS_MAX = 1000  # per transaction


class Fresh:
    """The events that this process wrote, or took up, and has not sent yet."""

    def __init__(self) -> None:
        self._by_number: dict[int, Outgoing] = {}
        self._ids: set[str] = set()
        self._once_more: set[int] = set()

    def wrote(self, settled: Settled) -> None:
        """Take what the transaction wrote, but for orders whose older events are not ours to send."""
        foreign = settled.unsent_before - self._ids
        behind = {event.key for _, event in settled.numbered if previous_id(event) in foreign} if foreign else set()
        for number, event in settled.numbered:
            if event.key not in behind:
                self._by_number[number] = event
                self._ids.add(event.id)
        if len(self._by_number) > FRESH_MAX:
            self.forget(list(self._by_number))

    def took_up(self, left: Sequence[Emitted]) -> None:
        """Have what another left behind. It stays until we have sent it, whoever has sent it meanwhile: a try of ours
        that failed may have been written, and late."""
        for emitted in left:
            self._by_number[emitted.number] = emitted.event
            self._ids.add(emitted.event.id)

    def send_once_more(self, later: Sequence[Emitted]) -> None:
        """Have what follows an event that was sent late."""
        self.took_up(later)
        self._once_more.update(emitted.number for emitted in later)

    def sent_once_more(self, numbers: Sequence[int]) -> Set[int]:
        """Those of the numbers that are sent for that reason."""
        return self._once_more.intersection(numbers)

    def first(self, limit: int) -> list[tuple[int, Outgoing]]:
        """The oldest so many, by number."""
        return [(number, self._by_number[number]) for number in sorted(self._by_number)[:limit]]

    def forget(self, numbers: Sequence[int]) -> None:
        """They are acknowledged, or left to the one who leads."""
        for number in numbers:
            event = self._by_number.pop(number, None)
            if event is not None:
                self._ids.discard(event.id)
        self._once_more.difference_update(numbers)


async def left_behind(connection: Connection, limit: int, *, now_ms: int) -> Sequence[Emitted]:
    """What nobody has sent for too long, and all that was written since; oldest first."""
    found = await connection.fetch(_LEFT_BEHIND, limit, now_ms - LEFT_BEHIND_MS)
    return [rows.emitted(row) for row in found]


async def mark_sent(
    connection: Connection, numbers: Sequence[int], *, once_more: Set[int] = frozenset(), now_ms: int
) -> Sequence[Emitted]:
    """Remember that these were acknowledged. What has to follow them once more is unsent again, and returned.

    That is the newest event, and any that is unsent, of an order of which another has sent one of these too, or of
    which one was sent `once_more`.
    """
    marked = {number for (number,) in await connection.fetch(_MARK, sorted(numbers), now_ms)}
    late = [number for number in numbers if number not in marked or number in once_more]
    if not late:
        return ()
    return [rows.emitted(row) for row in await connection.fetch(_SEND_LATER_AGAIN, late, numbers)]


async def newest(connection: Connection) -> int:
    """The highest number that can be seen."""
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM outbox")
    return number


async def prune(connection: Connection, *, older_than_ms: int) -> int:
    """Delete events that were acknowledged before that moment, a limited number of them; how many."""
    pruned = await connection.fetch(_PRUNE, older_than_ms, PRUNE_ROWS_MAX)
    return len(pruned)


_LEFT_BEHIND = f"""
    SELECT {columns.EMITTED} FROM outbox
    WHERE sent_at IS NULL
        AND (SELECT written_at FROM outbox WHERE sent_at IS NULL ORDER BY number LIMIT 1) <= $2
    ORDER BY number LIMIT $1
"""  # noqa: S608 - our own list of columns
_MARK = "UPDATE outbox SET sent_at = $2 WHERE number = ANY($1::bigint[]) AND sent_at IS NULL RETURNING number"
# The ids of an order's events lie between `account:order:` and `account:order;`, and of others only some whose order
# begins like that.
_SEND_LATER_AGAIN = f"""
    UPDATE outbox SET sent_at = NULL WHERE number IN (
        SELECT later.number FROM outbox AS late
        JOIN outbox AS later ON later.id > left(late.id, -length(late.version::text))
            AND later.id < left(late.id, -length(late.version::text) - 1) || ';'
            AND later.key = late.key AND later.version > late.version
        WHERE late.number = ANY($1::bigint[]) AND later.number <> ALL($2::bigint[])
            AND (later.sent_at IS NULL OR NOT EXISTS (
                SELECT 1 FROM outbox AS next
                WHERE next.id = left(later.id, -length(later.version::text)) || (later.version + 1)
            ))
    )
    RETURNING {columns.EMITTED}
"""  # noqa: S608 - as above
_PRUNE = """
    DELETE FROM outbox WHERE number IN (
        SELECT old.number FROM outbox AS old
        WHERE old.sent_at < $1 AND (old.version IS NULL OR EXISTS (
            SELECT 1 FROM outbox AS next
            WHERE next.id = left(old.id, -length(old.version::text)) || (old.version + 1)
        ))
        ORDER BY old.number LIMIT $2
    )
    RETURNING number
"""
