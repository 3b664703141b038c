"""The deliveries of callbacks (`workers.callbacks.deliveries`), in the database that many workers share.

Each transaction that changes deliveries of an endpoint locks its row first. So a step of the sender, an operator and
the step of a former leader follow each other, and each leaves exactly the earliest pending event of an order with a
due time. If another session, such as a shell, has locked deliveries, a step goes around their orders.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Collection, Sequence
from functools import partial

from msgspec import Struct

from schemas import topics
from workers import row_codec
from workers.callbacks import deliveries, schedule
from workers.callbacks.deliveries import CallbackDelivery, DeliveryQuery, DueDelivery, EndpointPage, Step
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.schedule import FAR_MS, AttemptResult, CallbackOutcome, EndpointState
from workers.errors import RowsLocked
from workers.postgres import audit, callback_lists, columns
from workers.postgres.columns import EMITTED, Columns, arrays
from workers.postgres.database import BRIEFLY, Database, SqlConnection
from workers.postgres.feed import Feed
from workers.processing import ForeignLocks
from workers.queries import Emitted

_ROWS = Columns("endpoint text, number bigint, key bytea, event_id text, type text, created_at timestamptz")
_STATE = "failing_since, disabled_at, disabled_why"
_INSERT = _ROWS.insert("callback_deliveries", after="ON CONFLICT (endpoint, number) DO NOTHING")
_INSERT_AGAIN = _ROWS.insert(
    "callback_deliveries",
    after="""
    ON CONFLICT (endpoint, number) DO UPDATE SET
    state = 'pending', attempts = 0, created_at = excluded.created_at, first_at = NULL, due_at = NULL, done_at = NULL
    """,
)
_CONFIGURE_NEW = """
    INSERT INTO callback_endpoints (name, url, last_number)
    SELECT name, url, (SELECT coalesce(max(number), 0) FROM outbox) FROM unnest($1::text[], $2::text[]) AS g(name, url)
    ON CONFLICT (name) DO NOTHING
"""
_CONFIGURE = """
    UPDATE callback_endpoints AS e SET url = g.url, is_configured = true
    FROM unnest($1::text[], $2::text[]) AS g(name, url)
    WHERE e.name = g.name AND NOT (e.is_configured AND e.url = g.url)
"""
_CONFIGURE_NO_MORE = """
    UPDATE callback_endpoints SET is_configured = false WHERE is_configured AND name <> ALL($1) RETURNING name
"""
_LOOK = f"""
    SELECT last_number, {_STATE}, delivered_at,
        (SELECT count(*) FROM (
            SELECT FROM callback_deliveries WHERE endpoint = $1 AND due_at <= $2 LIMIT {deliveries.DUE_MAX}
        ) AS due),
        (SELECT count(*) FROM (
            SELECT FROM callback_deliveries WHERE endpoint = $1 AND state = 'pending'
            LIMIT {deliveries.PENDING_EVER_MAX}
        ) AS pending),
        EXISTS (SELECT FROM callback_deliveries WHERE endpoint = $1 AND (due_at <= $2 OR due_at > $3))
    FROM callback_endpoints WHERE name = $1
"""
_LOCK = f"SELECT last_number, {_STATE} FROM callback_endpoints WHERE name = $1 FOR UPDATE"
# So written that the rows of an order are found by its key: by the index of pending rows, or if a join begins with all
# rows of the endpoint, which the planner chooses for a table that it knows little of, each order would meet all others.
_PENDING = "state NOT IN ('delivered', 'given_up')"
# The orders among these of which another session has locked a pending delivery.
_LOCKED = f"""
    SELECT given.key FROM unnest($2::bytea[]) AS given(key), LATERAL (
        SELECT count(*) AS count FROM (
            SELECT FROM callback_deliveries
            WHERE endpoint = $1 AND key = given.key AND {_PENDING} FOR UPDATE SKIP LOCKED
        ) AS free
    ) AS free, LATERAL (
        SELECT count(*) AS count FROM callback_deliveries WHERE endpoint = $1 AND key = given.key AND {_PENDING}
    ) AS all_
    WHERE free.count < all_.count
"""
# A result that is written again, or whose delivery an operator has begun anew, changes nothing. The rows are found one
# by one, and then by their places: a plan that was made while the table was empty would join all rows with all results.
_RESULTS = """
    UPDATE callback_deliveries AS d SET
        state = g.state, attempts = g.attempts, first_at = coalesce(d.first_at, g.tried_at), tried_at = g.tried_at,
        due_at = g.due_at, done_at = CASE WHEN g.state <> 'pending' THEN g.tried_at END,
        outcome = g.outcome, status = g.status, detail = g.detail, took_ms = g.took_ms
    FROM unnest(
        $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::int[], $7::timestamptz[], $8::timestamptz[], $9::text[],
        $10::int[], $11::text[], $12::bigint[]
    ) AS g(number, key, event_id, state, attempts, tried_at, due_at, outcome, status, detail, took_ms)
    CROSS JOIN LATERAL (
        SELECT ctid FROM callback_deliveries AS r
        WHERE r.endpoint = $1 AND r.key = g.key AND r.number = g.number AND r.event_id = g.event_id
            AND r.done_at IS NULL AND r.attempts = g.attempts - 1
        LIMIT 1
    ) AS found
    WHERE d.ctid = found.ctid
"""
# Of the pending deliveries of an order, exactly the earliest has a due time. The others change over.
_HEADS = f"""
    UPDATE callback_deliveries SET due_at = CASE WHEN due_at IS NULL THEN $3::timestamptz END
    WHERE ctid = ANY(ARRAY(
        SELECT of_key.row FROM unnest($2::bytea[]) AS given(key), LATERAL (
            SELECT ctid AS row, number, due_at, min(number) OVER () AS head FROM callback_deliveries
            WHERE endpoint = $1 AND key = given.key AND {_PENDING}
        ) AS of_key
        WHERE (of_key.due_at IS NULL) = (of_key.number = of_key.head)
    ))
"""
_SET_STATE = """
    UPDATE callback_endpoints SET failing_since = $2, disabled_at = $3, disabled_why = $4,
        delivered_at = coalesce($5::timestamptz, delivered_at)
    WHERE name = $1
"""
_ALL_DUE = """
    UPDATE callback_deliveries SET due_at = $2 WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM callback_deliveries
        WHERE endpoint = $1 AND due_at > $2 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ))
"""
_MOVE = "UPDATE callback_endpoints SET last_number = $2 WHERE name = $1"
_THERE = "SELECT number FROM outbox WHERE number = ANY($1::bigint[])"
_DUE = f"""
    SELECT {columns.of("o", EMITTED)}, d.attempts, d.first_at
    FROM callback_deliveries AS d JOIN outbox AS o ON o.number = d.number AND o.id = d.event_id
    WHERE d.endpoint = $1 AND (d.due_at <= $2 OR d.due_at > $3) AND d.key <> ALL($4::bytea[])
    ORDER BY d.due_at, d.number LIMIT $5
"""
_HAS_CONFIGURED = "SELECT EXISTS (SELECT FROM callback_endpoints WHERE is_configured)"
_ENABLE = "UPDATE callback_endpoints SET failing_since = NULL, disabled_at = NULL, disabled_why = '' WHERE name = $1"
_SLICE = """
    SELECT max(number) FROM (
        SELECT number FROM callback_deliveries
        WHERE endpoint = $1 AND state = 'pending' AND number > $2 ORDER BY number LIMIT $3
    ) AS slice
"""
_BEGIN_ANEW = """
    UPDATE callback_deliveries SET
        attempts = 0, first_at = NULL, due_at = CASE WHEN due_at IS NOT NULL THEN $2::timestamptz END
    WHERE endpoint = $1 AND state = 'pending' AND number > $3 AND number <= $4
"""
_DISABLE = "UPDATE callback_endpoints SET disabled_at = $2, disabled_why = $3 WHERE name = $1"
_VERSION = "SELECT version FROM orders WHERE account = $1 AND order_number = $2"
_EVENTS_BY_ID = f"SELECT {EMITTED} FROM outbox WHERE id = ANY($1::text[]) AND topic = '{topics.ORDER_EVENT}'"
_EVENT_BY_NUMBER = f"SELECT {EMITTED} FROM outbox WHERE number = $1 AND topic = '{topics.ORDER_EVENT}'"
_PRUNE = """
    DELETE FROM callback_deliveries WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM callback_deliveries WHERE done_at < $1 ORDER BY done_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ))
"""
_HAS_OLD = "SELECT EXISTS (SELECT FROM callback_deliveries WHERE state = 'pending' AND created_at < $1)"
_LOCK_ALL = "SELECT name FROM callback_endpoints ORDER BY name FOR UPDATE"
_PRUNE_PENDING = """
    DELETE FROM callback_deliveries WHERE (endpoint, number) IN (
        SELECT endpoint, number FROM callback_deliveries WHERE state = 'pending' AND created_at < $1 LIMIT $2
    ) RETURNING endpoint, key
"""


class _Look(Struct, frozen=True):
    """An endpoint before a step. `events` are those that can be taken; all have a number above `last_number`."""

    last_number: int
    state: EndpointState
    has_due: bool
    events: Sequence[Emitted]


class PostgresCallbacks:
    """The deliveries. `reads` are the connections for operators' reads."""

    def __init__(self, database: Database, reads: Database) -> None:
        self._database = database
        self._reads = reads
        self._feed = Feed()
        self._foreign_locks: dict[str, ForeignLocks] = {}  # by endpoint

    async def configure(self, configured: Sequence[Endpoint], *, now_ms: int) -> Sequence[str]:
        given = sorted((endpoint.name, endpoint.url) for endpoint in configured)
        names, urls = [name for name, _ in given], [url for _, url in given]

        async def add(connection: SqlConnection) -> None:
            await connection.execute(_CONFIGURE_NEW, names, urls)

        async def change(connection: SqlConnection) -> list[str]:
            await connection.execute(_CONFIGURE, names, urls)
            return [name for (name,) in await connection.fetch(_CONFIGURE_NO_MORE, names)]

        await self._database.write(add, first=BRIEFLY)
        return await self._database.write(change, first=BRIEFLY)

    async def has_configured(self) -> bool:
        found: bool = await self._database.read(lambda connection: connection.fetchval(_HAS_CONFIGURED))
        return found

    async def step(
        self, endpoint: Endpoint, results: Sequence[AttemptResult], *, busy: Collection[bytes], limit: int, now_ms: int,
        is_recovering: bool = False,
    ) -> Step:  # fmt: skip
        # The feed is complete only up to the oldest running transaction, so it is read outside our own.
        seen = await self._database.read(partial(self._look, name=endpoint.name, now_ms=now_ms))
        if seen is None:
            return Step()
        if not (results or seen.events or (seen.has_due and limit) or is_recovering):
            return Step(state=seen.state)
        locks = self._foreign_locks.setdefault(endpoint.name, ForeignLocks())
        work = partial(
            _advance,
            endpoint=endpoint,
            seen=seen,
            results=results,
            busy=busy,
            limit=limit,
            now_ms=now_ms,
            around_locks=locks.met_lately,
            is_recovering=is_recovering,
        )
        try:
            return await self._database.write(work, first=BRIEFLY)
        except RowsLocked:
            locks.meet()
            raise

    async def _look(self, connection: SqlConnection, *, name: str, now_ms: int) -> _Look | None:
        row = await connection.fetchrow(_LOOK, name, now_ms, now_ms + FAR_MS)
        if row is None:
            return None
        last_number, *of_state, delivered_ms, due, pending, has_due = row
        state = deliveries.state(of_state)
        events: Sequence[Emitted] = ()
        has_room = deliveries.has_room(due=due, pending=pending, delivered_ms=delivered_ms, now_ms=now_ms)
        if has_room and not state.is_disabled:
            events = await self._feed.after(connection, last_number, deliveries.EVENTS_MAX)
        return _Look(last_number, state, has_due and not state.is_disabled, events)

    async def prune(self, *, now_ms: int) -> int:
        async def work(connection: SqlConnection) -> int:
            status = await connection.execute(_PRUNE, now_ms - deliveries.FINISHED_KEPT_MS, deliveries.PRUNE_ROWS_MAX)
            if not await connection.fetchval(_HAS_OLD, now_ms - deliveries.ALL_KEPT_MS):
                return int(status.rpartition(" ")[2])
            await connection.fetch(_LOCK_ALL)
            pending = await connection.fetch(_PRUNE_PENDING, now_ms - deliveries.ALL_KEPT_MS, deliveries.PRUNE_ROWS_MAX)
            for name in sorted({name for name, _ in pending}):
                await connection.execute(_HEADS, name, [key for of, key in pending if of == name], now_ms)
            return int(status.rpartition(" ")[2]) + len(pending)

        return await self._database.write(work)

    # workers.callbacks.deliveries.CallbacksPort

    async def endpoints(self) -> Sequence[EndpointPage]:
        found = await self._reads.read(lambda connection: connection.fetch(callback_lists.ENDPOINTS, None))
        return [deliveries.page(row) for row in found]

    async def endpoint(self, name: str) -> EndpointPage | None:
        row = await self._reads.read(lambda connection: connection.fetchrow(callback_lists.ENDPOINTS, name))
        return None if row is None else deliveries.page(row)

    async def deliveries(self, query: DeliveryQuery) -> Sequence[CallbackDelivery]:
        statement, arguments = callback_lists.log_of(query)
        found = await self._reads.read(lambda connection: connection.fetch(statement, *arguments))
        return [deliveries.delivery(row) for row in found]

    async def enable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        async def work(connection: SqlConnection) -> bool:
            if await connection.fetchrow(_LOCK, endpoint) is None:
                return False
            await connection.execute(_ENABLE, endpoint)
            await audit.note(connection, "callback_enable", [endpoint], by=by, why=why, now_ms=now_ms)
            return True

        upto: int | None = 0
        while upto is not None:
            upto = await self._database.write(partial(_begin_anew, name=endpoint, after=upto, now_ms=now_ms))
        return await self._database.write(work)

    async def disable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        async def work(connection: SqlConnection) -> bool:
            row = await connection.fetchrow(_LOCK, endpoint)
            if row is None or deliveries.state(row[1:]).is_disabled:
                return False
            await connection.execute(_DISABLE, endpoint, now_ms, f"{by}: {why}")
            await audit.note(connection, "callback_disable", [endpoint], by=by, why=why, now_ms=now_ms)
            return True

        return await self._database.write(work)

    async def resend(
        self, endpoint: str, *, number: int | None, scope: str, order: str, version: int | None, by: str, why: str,
        now_ms: int,
    ) -> int | None:  # fmt: skip
        async def work(connection: SqlConnection) -> int | None:
            if await connection.fetchrow(_LOCK, endpoint) is None:
                return None
            if number is not None:
                found = await connection.fetch(_EVENT_BY_NUMBER, number)
            else:
                newest: int = await connection.fetchval(_VERSION, scope, order) or 0
                ids = deliveries.ids_of(scope, order, version=version, newest=newest)
                found = await connection.fetch(_EVENTS_BY_ID, ids)
            emitted = [row_codec.emitted(row) for row in found]
            if emitted:
                rows = [deliveries.row_of(endpoint, each, now_ms) for each in emitted]
                await connection.execute(_INSERT_AGAIN, *arrays(rows))
                await connection.execute(_HEADS, endpoint, [each.event.key for each in emitted], now_ms)
                subjects = deliveries.orders_of(emitted)
                noted = f"{endpoint}: {why}"
                await audit.note(connection, "callback_resend", subjects, by=by, why=noted, now_ms=now_ms)
            return len(emitted)

        return await self._database.write(work)


async def _advance(
    connection: SqlConnection,
    *,
    endpoint: Endpoint,
    seen: _Look,
    results: Sequence[AttemptResult],
    busy: Collection[bytes],
    limit: int,
    now_ms: int,
    around_locks: bool = False,
    is_recovering: bool = False,
) -> Step:
    row = await connection.fetchrow(_LOCK, endpoint.name)
    if row is None:
        return Step()
    last_number, before = row[0], deliveries.state(row[1:])
    state, keys = before, {result.key for result in results}
    locked: set[bytes] = set()
    if around_locks:
        given = keys | {each.event.key for each in seen.events}
        locked = {key for (key,) in await connection.fetch(_LOCKED, endpoint.name, list(given))}
    if written := [result for result in results if result.key not in locked]:
        state, has_recovered = await _write_results(connection, endpoint, before, written)
        is_recovering |= has_recovered
    changed = 0
    if is_recovering:
        status = await connection.execute(_ALL_DUE, endpoint.name, now_ms, deliveries.ALL_DUE_MAX)
        changed = int(status.rpartition(" ")[2])
    is_taken = bool(seen.events) and not state.is_disabled and last_number == seen.last_number
    if is_taken:
        # An event that was published again since it was read has another number now, further on.
        there = {number for (number,) in await connection.fetch(_THERE, [each.number for each in seen.events])}
        new = [each for each in seen.events if each.number in there]
        if rows := deliveries.new_rows(endpoint, new, now_ms=now_ms):
            await connection.execute(_INSERT, *arrays(rows))
            keys.update(row[2] for row in rows)
        await connection.execute(_MOVE, endpoint.name, seen.events[-1].number)
    if keys := keys - locked:  # a new event of a locked order is not its earliest
        await connection.execute(_HEADS, endpoint.name, list(keys), now_ms)
    due = [] if state.is_disabled else await _due(connection, endpoint.name, {*busy, *locked}, limit, now_ms)
    return Step(
        due=due,
        state=state,
        is_disabled_now=state.is_disabled and not before.is_disabled,
        is_more=is_taken and len(seen.events) == deliveries.EVENTS_MAX,
        unwritten=[result for result in results if result.key in locked],
        is_recovering=changed == deliveries.ALL_DUE_MAX,
    )


async def _begin_anew(connection: SqlConnection, *, name: str, after: int, now_ms: int) -> int | None:
    """Count the attempts of some pending events anew; return the number of the last one, `None` if none is left."""
    await connection.fetchrow(_LOCK, name)
    upto: int | None = await connection.fetchval(_SLICE, name, after, deliveries.BEGIN_ANEW_MAX)
    if upto is not None:
        await connection.execute(_BEGIN_ANEW, name, now_ms, after, upto)
    return upto


async def _write_results(
    connection: SqlConnection, endpoint: Endpoint, before: EndpointState, results: Sequence[AttemptResult]
) -> tuple[EndpointState, bool]:
    """Return the state of the endpoint after them, and whether an outage has ended."""
    given = [
        (each.number, each.key, each.event_id, each.state.value, each.attempts, each.at_ms, each.due_ms or None,
         each.outcome.value, each.status, each.detail, each.took_ms)
        for each in results
    ]  # fmt: skip
    await connection.execute(_RESULTS, endpoint.name, *arrays(given))
    state, has_recovered = schedule.after(before, results, disable_after_ms=endpoint.disable_after_ms)
    delivered = [each.at_ms for each in results if each.outcome is CallbackOutcome.DELIVERED]
    if state != before or delivered:
        of_state = (state.failing_since_ms, state.disabled_at_ms, state.disabled_why)
        await connection.execute(_SET_STATE, endpoint.name, *of_state, max(delivered, default=None))
    return state, has_recovered


async def _due(
    connection: SqlConnection, name: str, busy: Collection[bytes], limit: int, now_ms: int
) -> list[DueDelivery]:
    found = await connection.fetch(_DUE, name, now_ms, now_ms + FAR_MS, list(busy), limit)
    return [deliveries.due(row) for row in found]
