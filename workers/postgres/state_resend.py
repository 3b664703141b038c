"""Send the state of an order once more to the compacted state topic, if an older copy may have arrived there last.

The compacted topic keeps the copy that arrived last. A copy can be late: `workers.postgres.outbox` draws the two ways.
No lease prevents it, and a reader of a compacted topic does not see the earlier copies. So a resend is requested for
each event that was sent more than once: `again_at` is set to a moment after which no other copy can be in flight. That
happens in the transaction that marks the event as sent or adopts it, so the request outlives every worker.

The leader of the role `sending` resends the newest event of the order to the compacted topic only, because consumers of
the event topic have it. An order whose newest event is unsent needs no resend yet: that event is about to be sent. If
there is a newer event when the resend is acknowledged, the resend may have arrived after it, and is due again.

A resend can arrive late too. So `again_at` moves forward by `RESEND_AFTER_MS` *before* the resend is sent: if it fails,
or its worker dies, the leader of that time sends it again, when no copy can be in flight. If `again_at` has another
value when the acknowledgement arrives, another worker has requested or finished a resend meanwhile, and ours may have
arrived last: request one more.

Not covered: a worker that stalls for longer than `RESEND_AFTER_MS`, sends late and dies before it can record that; and
a jump of the database's clock by more than that. The order's next change repairs the topic.
"""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct, structs

from schemas import topics
from schemas.events import Outgoing
from workers import row_codec
from workers.postgres import columns
from workers.postgres.database import SqlConnection

RESEND_AFTER_MS = 30_000  # a living worker has given up every try, with its connections, long before


class ResendRequest(Struct, frozen=True, kw_only=True, gc=False):
    """A request, by the number of its event, that is ours until `reserved_until_ms`; and the state to be sent for it.

    `newest` is the number of the order's newest event, which holds that state.
    """

    number: int
    reserved_until_ms: int
    newest: int
    state: Outgoing


class StateResends:
    """The requests that this process is sending."""

    def __init__(self) -> None:
        self._in_flight: dict[int, list[ResendRequest]] = {}  # by the number of the event that is sent for them

    def start(self, requests: Sequence[ResendRequest]) -> list[tuple[int, Outgoing]]:
        """Return the states to be sent now. Earlier requests without acknowledgement are dropped here: the table has
        them, with a later due time."""
        self._in_flight = {}
        for request in requests:
            self._in_flight.setdefault(request.newest, []).append(request)
        return [(newest, of_one[0].state) for newest, of_one in self._in_flight.items()]

    def acknowledged(self, numbers: Collection[int]) -> list[ResendRequest]:
        """Return the requests that are answered by the acknowledgement of these numbers."""
        return [request for number in numbers for request in self._in_flight.get(number, ())]

    def forget(self, numbers: Collection[int]) -> None:
        """Remove the requests that these numbers answered, after `complete` is committed."""
        for number in numbers:
            self._in_flight.pop(number, None)


async def request(connection: SqlConnection, numbers: Sequence[int], *, now_ms: int) -> None:
    """Request a resend for the orders of these events, in `RESEND_AFTER_MS`. Notices belong to no order: skip them."""
    await connection.execute(_REQUEST, numbers, now_ms + RESEND_AFTER_MS)


async def take_due(connection: SqlConnection, limit: int, *, now_ms: int) -> list[ResendRequest]:
    """Reserve the requests that are due longest for `RESEND_AFTER_MS`; return those that can be sent now."""
    return [_request(*row) for row in await connection.fetch(_TAKE_DUE, limit, now_ms, now_ms + RESEND_AFTER_MS)]


async def complete(connection: SqlConnection, done: Sequence[ResendRequest], *, now_ms: int) -> None:
    """Record that these were resent. A request is due again at once if the order has a newer event, which may have been
    sent before the resend; and after `RESEND_AFTER_MS` if the resend may have arrived late."""
    numbers, reserved, newest = zip(*[(one.number, one.reserved_until_ms, one.newest) for one in done], strict=True)
    await connection.execute(_COMPLETE, numbers, reserved, newest, now_ms, now_ms + RESEND_AFTER_MS)


def _request(number: int, reserved_until_ms: int, *emitted: Any) -> ResendRequest:
    newest = row_codec.emitted(emitted)
    state = structs.replace(newest.event, topic=topics.ORDER_STATE)
    return ResendRequest(number=number, reserved_until_ms=reserved_until_ms, newest=newest.number, state=state)


# Moments are whole milliseconds. A new request changes the moment in any case, by 1 ms at least: so `_COMPLETE` sees
# that there is a request which this resend does not answer.
_REQUEST = """
    UPDATE outbox SET again_at = greatest($2, again_at + interval '1 millisecond')
    WHERE number = ANY($1::bigint[]) AND version IS NOT NULL
"""
_NEXT = """
    SELECT 1 FROM outbox AS next
    WHERE next.id = left(newest.id, -length(newest.version::text)) || (newest.version + 1)
"""
# The ids of an order's events lie between `account:order:` and `account:order;`. Of other orders, only some whose
# number begins like that lie there too; `key` tells them apart.
# A request that another session has locked stays due. One that cannot be sent yet is postponed like the others: as the
# one that is due longest, every search would find it again.
_TAKE_DUE = f"""
    WITH requested AS (
        UPDATE outbox SET again_at = $3
        WHERE number IN (
            SELECT number FROM outbox WHERE again_at <= $2 ORDER BY again_at LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        RETURNING number, again_at, id, key, version
    )
    SELECT requested.number, requested.again_at, {columns.of("newest", columns.EMITTED)}
    FROM requested
    JOIN outbox AS newest ON newest.id > left(requested.id, -length(requested.version::text))
        AND newest.id < left(requested.id, -length(requested.version::text) - 1) || ';' AND newest.key = requested.key
    WHERE newest.sent_at IS NOT NULL AND NOT EXISTS ({_NEXT})
"""  # noqa: S608 - our own list of columns
_COMPLETE = f"""
    UPDATE outbox AS requested SET again_at = CASE
        WHEN requested.again_at = done.reserved_until THEN CASE WHEN EXISTS ({_NEXT}) THEN $4::timestamptz END
        ELSE greatest($5, requested.again_at + interval '1 millisecond')
    END
    FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) AS done (number, reserved_until, newest)
    JOIN outbox AS newest ON newest.number = done.newest
    WHERE requested.number = done.number
"""  # noqa: S608 - as above
