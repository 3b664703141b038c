"""The outbox among several workers: each sends what it wrote itself, one of them sends what was left behind.

What a worker has just written it still has in memory, so the usual way out reads nothing back. Versions of one order
have to go out in their order whoever writes them, and that comes from one rule: whoever sends an event sends, before
it, every older event of the same order that is not acknowledged yet, or knows that there is none. Then a consumer may
see an event twice, and never one before its predecessor.

So an event stays out of memory, and is left behind, where its predecessor is somebody else's and not acknowledged: that
other worker may be about to send it, or dead. What is left behind is in the table. The one worker that leads (see
`workers.postgres.leadership`) sends from there, everything that is unsent, by its number, once the oldest of it has
waited longer than a living worker would have let it. Two leaders at once, for the length of a lease, send twice.

What was sent twice, by two workers or in two tries of one, may arrive late: after the next version. Who reads the
events has seen both before; but in their compacted twin the late one is the last, and the only one that is kept. So an
event of which that may be true is marked, and the state of its order is sent once more: see
`workers.postgres.state_resend`.
"""

from collections.abc import Collection, Container, Mapping, Sequence

from schemas.events import Outgoing
from workers import row_codec
from workers.postgres import columns, state_resend
from workers.postgres.database import SqlConnection
from workers.postgres.settling import SettleResult, previous_id
from workers.queries import Emitted

FRESH_MAX = 2000  # what one worker holds in memory while its topic is away; all of it is in the table too
LEFT_BEHIND_MS = 2000  # a worker sends right after its commit: who has not by now is in trouble, or gone
LOOK_EVERY_MS = 1000  # whoever leads looks for what was left behind, also while it has enough of its own to send
PRUNE_ROWS_MAX = 1000  # per transaction


class UnsentEvents:
    """The events that this process wrote, or took up, and has not sent yet."""

    def __init__(self) -> None:
        self._by_number: dict[int, Outgoing] = {}
        self._ids: set[str] = set()
        self._offered: dict[int, str] = {}  # their ids
        self._doubtful: set[int] = set()

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: object) -> bool:
        return number in self._by_number

    def wrote(self, settled: SettleResult) -> None:
        """Take what the transaction wrote, but for orders whose older events are not ours to send."""
        foreign = settled.unsent_before - self._ids
        behind = {event.key for _, event in settled.numbered if previous_id(event) in foreign} if foreign else set()
        for number, event in settled.numbered:
            if event.key not in behind:
                self._have(number, event)
        if len(self._by_number) > FRESH_MAX:
            # What was offered may be on its way, and to be acknowledged: what we know of it is still needed then.
            self.forget([number for number in self._by_number if number not in self._offered])

    def took_up(self, left: Sequence[Emitted]) -> None:
        """Have what another left behind. It stays until we have sent it, whoever has sent it meanwhile: a try of ours
        that failed may have been written, and late."""
        for emitted in left:
            self._have(emitted.number, emitted.event)
            self._doubtful.add(emitted.number)

    def offer(self, limit: int) -> list[tuple[int, Outgoing]]:
        """The oldest so many, by number, to be sent now. One that was offered before, and is not acknowledged, was
        tried, and nobody knows what became of it."""
        numbers = sorted(self._by_number)[:limit]
        self._doubtful |= self._offered.keys() & numbers
        offered = [(number, self._by_number[number]) for number in numbers]
        self._offered.update([(number, event.id) for number, event in offered])
        return offered

    def ids(self, numbers: Collection[int]) -> dict[int, str]:
        """What was offered with these numbers."""
        return {number: self._offered[number] for number in numbers if number in self._offered}

    def doubtful(self, numbers: Collection[int]) -> set[int]:
        """Those of the numbers of which an earlier copy may be on its way: another's, or our own."""
        return self._doubtful.intersection(numbers)

    def forget(self, numbers: Sequence[int]) -> None:
        """They are acknowledged, as they were offered, or left to the one who leads."""
        for number in numbers:
            event = self._by_number.get(number)
            if event is not None and self._offered.pop(number, event.id) == event.id:
                del self._by_number[number]
                self._ids.discard(event.id)
        self._doubtful.difference_update(numbers)

    def _have(self, number: int, event: Outgoing) -> None:
        """Its number may be one that was given out before: what had it then is no longer there."""
        if (lost := self._by_number.get(number)) is not None:
            self._ids.discard(lost.id)
        self._by_number[number] = event
        self._ids.add(event.id)


async def take_up(connection: SqlConnection, limit: int, *, ours: Container[int], now_ms: int) -> Sequence[Emitted]:
    """What nobody has sent for too long, and all that was written since; oldest first.

    Its orders are to be repeated from now on, but for those in `ours`: who takes up what another is sending after all
    may die before he can say that there are two copies.
    """
    found = await connection.fetch(_LEFT_BEHIND, limit, now_ms - LEFT_BEHIND_MS)
    left = [row_codec.emitted(row) for row in found]
    if others := [emitted.number for emitted in left if emitted.number not in ours]:
        await state_resend.ask_for(connection, others, now_ms=now_ms)
    return left


async def mark_sent(
    connection: SqlConnection, sent: Mapping[int, str], *, doubtful: Collection[int] = (), now_ms: int
) -> None:
    """Remember that these were acknowledged, by number and id; and that the orders are to be repeated of those that
    were sent more than once, since another has marked one before, or one is `doubtful`."""
    marked: dict[int, str] = dict(await connection.fetch(_MARK, sorted(sent), now_ms))
    if others := [number for number, id_ in marked.items() if sent[number] != id_]:
        await connection.execute(_UNMARK, others)
    if repeated := [number for number in sent if number not in marked or number in doubtful]:
        await state_resend.ask_for(connection, repeated, now_ms=now_ms)


async def newest(connection: SqlConnection) -> int:
    """The highest number that can be seen."""
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM outbox")
    return number


async def prune(connection: SqlConnection, *, after: int, older_than_ms: int) -> int | None:
    """Delete events that were acknowledged before that moment, among a stretch of the numbers behind `after`; the last
    number of the stretch, or `None` where all that is older has been looked at.

    Looked at by stretches and not by what there is to delete: the newest event of each order stays, and so do millions
    that a search for the next one to delete would meet again each time.
    """
    last: int | None = await connection.fetchval(_PRUNE, after, older_than_ms, PRUNE_ROWS_MAX)
    return last


_LEFT_BEHIND = f"""
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
