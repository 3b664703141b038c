"""The state of an order, sent once more to the compacted topic, where an older one may have come there last.

That topic keeps the last copy of each order that it was sent. A copy can be late: a worker that stood still sends what
another has sent for it meanwhile; a request that was given up still lies before a broker. No lease keeps a copy from
being late, and no reader of a compacted topic sees what was there before it. So whoever has acknowledged an event that
was sent more than once asks, in the table, for a repeat after `DOUBT_MS`, when no other copy can be on its way. Asked
for in the same transaction that marks the event as sent, or takes it up from another, a repeat outlives everybody who
knows of it.

The worker that leads sends it: the newest event of the order, to the compacted topic alone, since who reads the events
has seen it. Only one that is sent already counts, for another is about to be; and if a newer one is there when the
repeat is acknowledged, the repeat may have come after it, and stays to be done.

A repeat can be late like anything else. So it is put off by `DOUBT_MS` before it is sent: one that fails, or whose
sender dies, is sent anew when no copy of it can be on its way, by whoever leads then. And who finds, when his own is
acknowledged, that it was put off once more or done meanwhile, may have come last, and asks again.

What remains: a worker that stands still for longer than `DOUBT_MS`, sends late when it goes on, and dies before it can
say so; and workers whose clocks are so far apart that the doubt is over before it begins. The next change of that order
mends it.
"""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct, structs

from schemas import topics
from schemas.events import Outgoing
from workers import row_codec
from workers.postgres import columns
from workers.postgres.database import SqlConnection

DOUBT_MS = 30_000  # a living worker has given up every try, with its connections, long before


class ResendRequest(Struct, frozen=True, kw_only=True, gc=False):
    """One event for whose order a repeat is ours to send until that moment, and what is to be sent for it."""

    number: int
    until_ms: int
    newest: int
    state: Outgoing


class StateResends:
    """Those that this process is sending."""

    def __init__(self) -> None:
        self._under_way: dict[int, list[ResendRequest]] = {}  # by the number of what is sent for them

    def offer(self, taken: Sequence[ResendRequest]) -> list[tuple[int, Outgoing]]:
        """What is to be sent now. What was offered before and is not done is put off already, and comes again."""
        self._under_way = {}
        for asked in taken:
            self._under_way.setdefault(asked.newest, []).append(asked)
        return [(newest, of_one[0].state) for newest, of_one in self._under_way.items()]

    def done(self, numbers: Collection[int]) -> list[ResendRequest]:
        """What is acknowledged with these numbers."""
        return [each for number in numbers for each in self._under_way.get(number, ())]

    def forget(self, numbers: Collection[int]) -> None:
        """They are acknowledged, and that is written down."""
        for number in numbers:
            self._under_way.pop(number, None)


async def ask_for(connection: SqlConnection, numbers: Sequence[int], *, now_ms: int) -> None:
    """Have the orders of these events repeated, in a while. Notices have no order, and are not repeated."""
    await connection.execute(_ASK, numbers, now_ms + DOUBT_MS)


async def take(connection: SqlConnection, limit: int, *, now_ms: int) -> list[ResendRequest]:
    """What can be sent now of so many that are due, the longest due. Nobody else takes them for `DOUBT_MS`."""
    return [_asked(*row) for row in await connection.fetch(_TAKE, limit, now_ms, now_ms + DOUBT_MS)]


async def settle(connection: SqlConnection, done: Sequence[ResendRequest], *, now_ms: int) -> None:
    """Remember what was repeated. It is due again at once where a newer event is there, which may have been sent before
    the repeat; and after a while where the repeat may have come late."""
    numbers, taken_until, newest = zip(*[(one.number, one.until_ms, one.newest) for one in done], strict=True)
    await connection.execute(_SETTLE, numbers, taken_until, newest, now_ms, now_ms + DOUBT_MS)


def _asked(number: int, until_ms: int, *emitted: Any) -> ResendRequest:
    newest = row_codec.emitted(emitted)
    state = structs.replace(newest.event, topic=topics.ORDER_STATE)
    return ResendRequest(number=number, until_ms=until_ms, newest=newest.number, state=state)


# Moments are whole milliseconds. Who asks again moves it in any case: so `_SETTLE` sees what it must not take for done.
_ASK = """
    UPDATE outbox SET again_at = greatest($2, again_at + interval '1 millisecond')
    WHERE number = ANY($1::bigint[]) AND version IS NOT NULL
"""
_NEXT = """
    SELECT 1 FROM outbox AS next
    WHERE next.id = left(newest.id, -length(newest.version::text)) || (newest.version + 1)
"""
# The ids of an order's events lie between `account:order:` and `account:order;`, and of others only some whose order
# begins like that.
# What cannot be sent yet is put off like the rest: as the longest due, it would be met again by every search.
_TAKE = f"""
    WITH asked AS (
        UPDATE outbox SET again_at = $3
        WHERE number IN (SELECT number FROM outbox WHERE again_at <= $2 ORDER BY again_at LIMIT $1 FOR UPDATE)
        RETURNING number, again_at, id, key, version
    )
    SELECT asked.number, asked.again_at, {columns.of("newest", columns.EMITTED)}
    FROM asked
    JOIN outbox AS newest ON newest.id > left(asked.id, -length(asked.version::text))
        AND newest.id < left(asked.id, -length(asked.version::text) - 1) || ';' AND newest.key = asked.key
    WHERE newest.sent_at IS NOT NULL AND NOT EXISTS ({_NEXT})
"""  # noqa: S608 - our own list of columns
_SETTLE = f"""
    UPDATE outbox AS asked SET again_at = CASE
        WHEN asked.again_at = done.taken_until THEN CASE WHEN EXISTS ({_NEXT}) THEN $4::timestamptz END
        ELSE greatest($5, asked.again_at + interval '1 millisecond')
    END
    FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) AS done (number, taken_until, newest)
    JOIN outbox AS newest ON newest.number = done.newest
    WHERE asked.number = done.number
"""  # noqa: S608 - as above
