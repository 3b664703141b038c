"""The deliveries of callbacks (`workers.callbacks.deliveries`), in the engine's order store."""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from sqlite3 import Connection

from deploy.embedded import decisions, lookups, sql
from deploy.embedded.sqlite import SqliteDatabase
from deploy.embedded.sqlite_reader import SqliteReader
from schemas import topics
from workers import row_codec
from workers.callbacks import deliveries, schedule
from workers.callbacks.deliveries import (
    ALL_KEPT_MS,
    DUE_MAX,
    EVENTS_MAX,
    FINISHED_KEPT_MS,
    PENDING_COUNTED_MAX,
    PENDING_EVER_MAX,
    PRUNE_ROWS_MAX,
    CallbackDelivery,
    DeliveryQuery,
    DueDelivery,
    EndpointPage,
    Step,
)
from workers.callbacks.endpoints import Endpoint
from workers.callbacks.schedule import FAR_MS, AttemptResult, CallbackOutcome, DeliveryState, EndpointState

_ROW = (
    "INSERT INTO callback_deliveries (endpoint, number, key, event_id, type, created_at_ms) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT = f"{_ROW} ON CONFLICT DO NOTHING"
_INSERT_AGAIN = f"""
    {_ROW} ON CONFLICT DO UPDATE SET state = 'pending', attempts = 0, created_at_ms = excluded.created_at_ms,
    first_at_ms = NULL, due_at_ms = NULL, done_at_ms = NULL
"""
_CONFIGURE = """
    INSERT INTO callback_endpoints (name, url, last_number)
    VALUES (?, ?, (SELECT coalesce(max(number), 0) FROM outbox))
    ON CONFLICT DO UPDATE SET url = excluded.url, is_configured = 1
"""
_CONFIGURE_NO_MORE = """
    UPDATE callback_endpoints SET is_configured = 0
    WHERE is_configured AND name NOT IN (SELECT value FROM json_each(?)) RETURNING name
"""
_STATE = "SELECT last_number, failing_since_ms, disabled_at_ms, disabled_why FROM callback_endpoints WHERE name = ?"
_ROOM = f"""
    SELECT (SELECT count(*) FROM (
            SELECT 1 FROM callback_deliveries WHERE endpoint = ?1 AND due_at_ms <= ?2 LIMIT {DUE_MAX}
        )), (SELECT count(*) FROM (
            SELECT 1 FROM callback_deliveries INDEXED BY callback_deliveries_pending
            WHERE endpoint = ?1 AND state = 'pending' LIMIT {PENDING_EVER_MAX}
        )), delivered_at_ms
    FROM callback_endpoints WHERE name = ?1
"""
_HAS_DUE = """
    SELECT EXISTS (SELECT 1 FROM callback_deliveries WHERE endpoint = ?1 AND due_at_ms <= ?2)
        OR EXISTS (SELECT 1 FROM callback_deliveries WHERE endpoint = ?1 AND due_at_ms > ?3)
"""
# A result that is written again, or whose delivery an operator has begun anew, changes nothing.
_RESULT = """
    UPDATE callback_deliveries SET state = ?3, attempts = ?4, first_at_ms = coalesce(first_at_ms, ?5), tried_at_ms = ?5,
        due_at_ms = ?6, done_at_ms = CASE WHEN ?3 <> 'pending' THEN ?5 END, outcome = ?7, status = ?8, detail = ?9,
        took_ms = ?10
    WHERE endpoint = ?1 AND number = ?2 AND event_id = ?11 AND state = 'pending' AND attempts = ?4 - 1
"""
# Of the pending events of an order, exactly the earliest has a due time. Without statistics SQLite would read every row
# of the endpoint for each order: finished ones are kept for a week.
_HEADS = """
    WITH head AS MATERIALIZED (
        SELECT min(number) AS number FROM callback_deliveries INDEXED BY callback_deliveries_of_key
        WHERE endpoint = ?1 AND key = ?2 AND state = 'pending'
    )
    UPDATE callback_deliveries INDEXED BY callback_deliveries_of_key
    SET due_at_ms = CASE WHEN number = (SELECT number FROM head) THEN ?3 END
    WHERE endpoint = ?1 AND key = ?2 AND state = 'pending'
        AND (due_at_ms IS NULL) = (number = (SELECT number FROM head))
"""
_SET_STATE = """
    UPDATE callback_endpoints SET failing_since_ms = ?2, disabled_at_ms = ?3, disabled_why = ?4,
        delivered_at_ms = coalesce(?5, delivered_at_ms)
    WHERE name = ?1
"""
_ALL_DUE = """
    UPDATE callback_deliveries SET due_at_ms = ?2 WHERE endpoint = ?1 AND number IN (
        SELECT number FROM callback_deliveries WHERE endpoint = ?1 AND due_at_ms > ?2 ORDER BY due_at_ms LIMIT ?3
    )
"""
_ENDPOINTS = f"""
    SELECT e.name, e.url, e.failing_since_ms, e.disabled_at_ms, e.disabled_why, e.is_configured,
        (SELECT count(*) FROM (
            SELECT 1 FROM callback_deliveries AS d INDEXED BY callback_deliveries_pending
            WHERE d.endpoint = e.name AND d.state = 'pending' LIMIT ?2
        )),
        (SELECT min(at_ms) FROM (
            SELECT * FROM (
                SELECT created_at_ms AS at_ms FROM callback_deliveries AS d INDEXED BY callback_deliveries_pending
                WHERE d.endpoint = e.name AND d.state = 'pending' ORDER BY number LIMIT ?2
            )
            UNION ALL
            SELECT * FROM (
                SELECT written_at_ms FROM outbox WHERE number > e.last_number AND topic = '{topics.ORDER_EVENT}'
                ORDER BY number LIMIT 1
            )
        )), e.delivered_at_ms
    FROM callback_endpoints AS e WHERE ?1 IS NULL OR e.name = ?1 ORDER BY e.name
"""
_LOG = """
    SELECT endpoint, number, event_id, type, state, attempts, created_at_ms, due_at_ms, tried_at_ms, outcome, status,
        detail, took_ms
    FROM callback_deliveries {indexed} WHERE endpoint = ?1 AND number < ?2 {and_more} ORDER BY number DESC LIMIT ?3
"""
_HAS_CONFIGURED = "SELECT EXISTS (SELECT 1 FROM callback_endpoints WHERE is_configured)"
_SLICE = """
    SELECT max(number) FROM (
        SELECT number FROM callback_deliveries INDEXED BY callback_deliveries_pending
        WHERE endpoint = ? AND state = 'pending' AND number > ? ORDER BY number LIMIT ?
    )
"""
_BEGIN_ANEW = """
    UPDATE callback_deliveries INDEXED BY callback_deliveries_pending SET
        attempts = 0, first_at_ms = NULL, due_at_ms = CASE WHEN due_at_ms IS NOT NULL THEN ?2 END
    WHERE endpoint = ?1 AND state = 'pending' AND number > ?3 AND number <= ?4
"""
_PRUNE = """
    DELETE FROM callback_deliveries WHERE (endpoint, number) IN (
        SELECT endpoint, number FROM callback_deliveries WHERE done_at_ms < ? ORDER BY done_at_ms LIMIT ?
    )
"""
_OLD_PENDING = """
    SELECT endpoint, number, key FROM callback_deliveries WHERE state = 'pending' AND created_at_ms < ? LIMIT ?
"""
# Most rows of a log are delivered.
_INDEXED = {
    DeliveryState.PENDING: "INDEXED BY callback_deliveries_pending",
    DeliveryState.GIVEN_UP: "INDEXED BY callback_deliveries_given_up",
}
_NUMBER_MAX = 2**63 - 1


class SqliteCallbacks:
    """The deliveries. Reads for operators have a connection of their own."""

    def __init__(self, database: SqliteDatabase, reader: SqliteReader) -> None:
        self._database = database
        self._reader = reader

    async def configure(self, configured: Sequence[Endpoint], *, now_ms: int) -> Sequence[str]:
        def work(connection: Connection) -> list[str]:
            connection.executemany(_CONFIGURE, [(endpoint.name, endpoint.url) for endpoint in configured])
            names = sql.as_json([endpoint.name for endpoint in configured])
            return [name for (name,) in connection.execute(_CONFIGURE_NO_MORE, (names,)).fetchall()]

        return await self._database.write(work)

    async def has_configured(self) -> bool:
        found = await self._database.read(lambda connection: connection.execute(_HAS_CONFIGURED).fetchone())
        return bool(found[0])

    async def step(
        self, endpoint: Endpoint, results: Sequence[AttemptResult], *, busy: Collection[bytes], limit: int, now_ms: int,
        is_recovering: bool = False,
    ) -> Step:  # fmt: skip
        def look(connection: Connection) -> Step | None:
            return None if results or is_recovering else _nothing_to_do(connection, endpoint.name, limit, now_ms)

        if (idle := await self._database.read(look)) is not None:
            return idle
        return await self._database.write(
            lambda connection: _advance(connection, endpoint, results, busy, limit, now_ms, is_recovering)
        )

    async def prune(self, *, now_ms: int) -> int:
        def work(connection: Connection) -> int:
            done = connection.execute(_PRUNE, (now_ms - FINISHED_KEPT_MS, PRUNE_ROWS_MAX)).rowcount
            old = connection.execute(_OLD_PENDING, (now_ms - ALL_KEPT_MS, PRUNE_ROWS_MAX)).fetchall()
            connection.executemany(
                "DELETE FROM callback_deliveries WHERE endpoint = ? AND number = ?", [row[:2] for row in old]
            )
            for name in {name for name, _, _ in old}:
                _set_heads(connection, name, {key for of, _, key in old if of == name}, now_ms)
            return done + len(old)

        return await self._database.write(work)

    # workers.callbacks.deliveries.CallbacksPort

    async def endpoints(self) -> Sequence[EndpointPage]:
        found = await self._reader.read(
            lambda connection: connection.execute(_ENDPOINTS, (None, PENDING_COUNTED_MAX)).fetchall()
        )
        return [deliveries.page(row) for row in found]

    async def endpoint(self, name: str) -> EndpointPage | None:
        row = await self._reader.read(
            lambda connection: connection.execute(_ENDPOINTS, (name, PENDING_COUNTED_MAX)).fetchone()
        )
        return None if row is None else deliveries.page(row)

    async def deliveries(self, query: DeliveryQuery) -> Sequence[CallbackDelivery]:
        statement, parameters = log_of(query)
        found = await self._reader.read(lambda connection: connection.execute(statement, parameters).fetchall())
        return [deliveries.delivery(row) for row in found]

    async def enable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        def work(connection: Connection) -> bool:
            if _endpoint(connection, endpoint) is None:
                return False
            connection.execute(_SET_STATE, (endpoint, None, None, "", None))
            decisions.audit(connection, now_ms, "callback_enable", [endpoint], by, why)
            return True

        upto: int | None = 0
        while upto is not None:
            upto = await self._database.write(partial(_begin_anew, name=endpoint, after=upto, now_ms=now_ms))
        return await self._database.write(work)

    async def disable(self, endpoint: str, *, by: str, why: str, now_ms: int) -> bool:
        def work(connection: Connection) -> bool:
            found = _endpoint(connection, endpoint)
            if found is None or found[1].is_disabled:
                return False
            of_state = (found[1].failing_since_ms, now_ms, f"{by}: {why}")
            connection.execute(_SET_STATE, (endpoint, *of_state, None))
            decisions.audit(connection, now_ms, "callback_disable", [endpoint], by, why)
            return True

        return await self._database.write(work)

    async def resend(
        self, endpoint: str, *, number: int | None, scope: str, order: str, version: int | None, by: str, why: str,
        now_ms: int,
    ) -> int | None:  # fmt: skip
        def work(connection: Connection) -> int | None:
            if _endpoint(connection, endpoint) is None:
                return None
            wanted: list[int] | list[str]
            if number is not None:
                wanted = [number]
            else:
                newest = _newest(connection, scope, order)
                wanted = deliveries.ids_of(scope, order, version=version, newest=newest)
            column = "id" if number is None else "number"
            found = connection.execute(
                f"SELECT {sql.EMITTED} FROM outbox WHERE {column} IN (SELECT value FROM json_each(?)) AND topic = ?",
                (sql.as_json(wanted), topics.ORDER_EVENT),
            )
            emitted = [row_codec.emitted(row) for row in found]
            connection.executemany(_INSERT_AGAIN, [deliveries.row_of(endpoint, each, now_ms) for each in emitted])
            _set_heads(connection, endpoint, {each.event.key for each in emitted}, now_ms)
            subjects = deliveries.orders_of(emitted)
            decisions.audit(connection, now_ms, "callback_resend", subjects, by, f"{endpoint}: {why}")
            return len(emitted)

        return await self._database.write(work)


def log_of(query: DeliveryQuery) -> tuple[str, Sequence[str | int | bytes]]:
    """Return the statement that lists these deliveries, and its parameters; the rows are found by an index."""
    more = "" if query.state is None else f"AND state = '{query.state.value}'"
    before = _NUMBER_MAX if query.before is None else query.before
    parameters: list[str | int | bytes] = [query.endpoint, before, query.limit]
    indexed = ""
    if query.order is not None:
        indexed, more = "INDEXED BY callback_deliveries_of_key", f"{more} AND key = ?4"
        parameters.append(query.order.encode())
    elif query.state is not None:
        indexed = _INDEXED.get(query.state, "")
    return _LOG.format(indexed=indexed, and_more=more), parameters


def _nothing_to_do(connection: Connection, name: str, limit: int, now_ms: int) -> Step | None:
    """Return an empty step if there is nothing to send or to take, so that an idle endpoint costs no transaction."""
    found = _endpoint(connection, name)
    if found is None:
        return Step()
    last_number, state = found
    if state.is_disabled:
        return Step(state=state)
    if limit and connection.execute(_HAS_DUE, (name, now_ms, now_ms + FAR_MS)).fetchone()[0]:
        return None
    newest: int = connection.execute("SELECT coalesce(max(number), 0) FROM outbox").fetchone()[0]
    if newest > last_number and _has_room(connection, name, now_ms):
        return None
    return Step(state=state)


def _advance(
    connection: Connection,
    endpoint: Endpoint,
    results: Sequence[AttemptResult],
    busy: Collection[bytes],
    limit: int,
    now_ms: int,
    is_recovering: bool = False,
) -> Step:
    found = _endpoint(connection, endpoint.name)
    if found is None:
        return Step()
    last_number, before = found
    state, keys = before, {result.key for result in results}
    if results:
        state, has_recovered = _write_results(connection, endpoint, before, results)
        is_recovering |= has_recovered
    changed = 0
    if is_recovering:
        changed = connection.execute(_ALL_DUE, (endpoint.name, now_ms, deliveries.ALL_DUE_MAX)).rowcount
    taken = 0
    if not state.is_disabled and _has_room(connection, endpoint.name, now_ms):
        new = lookups.events_after(connection, last_number, EVENTS_MAX)
        taken = len(new)
        rows = deliveries.new_rows(endpoint, new, now_ms=now_ms)
        connection.executemany(_INSERT, rows)
        keys.update(row[2] for row in rows)
        if new:
            connection.execute(
                "UPDATE callback_endpoints SET last_number = ? WHERE name = ?", (new[-1].number, endpoint.name)
            )
    _set_heads(connection, endpoint.name, keys, now_ms)
    return Step(
        due=[] if state.is_disabled else _due(connection, endpoint.name, busy, limit, now_ms),
        state=state,
        is_disabled_now=state.is_disabled and not before.is_disabled,
        is_more=taken == EVENTS_MAX,
        is_recovering=changed == deliveries.ALL_DUE_MAX,
    )


def _begin_anew(connection: Connection, *, name: str, after: int, now_ms: int) -> int | None:
    """Count the attempts of some pending events anew; return the number of the last one, `None` if none is left."""
    upto: int | None = connection.execute(_SLICE, (name, after, deliveries.BEGIN_ANEW_MAX)).fetchone()[0]
    if upto is not None:
        connection.execute(_BEGIN_ANEW, (name, now_ms, after, upto))
    return upto


def _write_results(
    connection: Connection, endpoint: Endpoint, before: EndpointState, results: Sequence[AttemptResult]
) -> tuple[EndpointState, bool]:
    """Return the state of the endpoint after them, and whether an outage has ended."""
    given = [
        (endpoint.name, each.number, each.state.value, each.attempts, each.at_ms, each.due_ms or None,
         each.outcome.value, each.status, each.detail, each.took_ms, each.event_id)
        for each in results
    ]  # fmt: skip
    connection.executemany(_RESULT, given)
    state, has_recovered = schedule.after(before, results, disable_after_ms=endpoint.disable_after_ms)
    delivered = [each.at_ms for each in results if each.outcome is CallbackOutcome.DELIVERED]
    if state != before or delivered:
        of_state = (state.failing_since_ms, state.disabled_at_ms, state.disabled_why)
        connection.execute(_SET_STATE, (endpoint.name, *of_state, max(delivered, default=None)))
    return state, has_recovered


def _due(connection: Connection, name: str, busy: Collection[bytes], limit: int, now_ms: int) -> list[DueDelivery]:
    found = connection.execute(
        f"""
        SELECT o.number, o.id, o.topic, o.key, o.value, o.headers, o.sent_at_ms, d.attempts, d.first_at_ms
        FROM callback_deliveries AS d INDEXED BY callback_deliveries_due
        CROSS JOIN outbox AS o ON o.number = d.number AND o.id = d.event_id
        WHERE d.endpoint = ? AND d.due_at_ms IS NOT NULL AND (d.due_at_ms <= ? OR d.due_at_ms > ?)
            AND d.key NOT IN ({", ".join("?" * len(busy))})
        ORDER BY d.due_at_ms, d.number LIMIT ?
        """,
        (name, now_ms, now_ms + FAR_MS, *busy, limit),
    )
    return [deliveries.due(row) for row in found]


def _set_heads(connection: Connection, name: str, keys: Iterable[bytes], now_ms: int) -> None:
    connection.executemany(_HEADS, [(name, key, now_ms) for key in keys])


def _has_room(connection: Connection, name: str, now_ms: int) -> bool:
    due, pending, delivered_ms = connection.execute(_ROOM, (name, now_ms)).fetchone()
    return deliveries.has_room(due=due, pending=pending, delivered_ms=delivered_ms, now_ms=now_ms)


def _newest(connection: Connection, scope: str, order: str) -> int:
    """Return the newest version of an order; 0 if it is not known."""
    statement = "SELECT version FROM orders WHERE account = ? AND order_number = ?"
    row = connection.execute(statement, (scope, order)).fetchone()
    return 0 if row is None else row[0]


def _endpoint(connection: Connection, name: str) -> tuple[int, EndpointState] | None:
    row = connection.execute(_STATE, (name,)).fetchone()
    if row is None:
        return None
    return row[0], deliveries.state(row[1:])
