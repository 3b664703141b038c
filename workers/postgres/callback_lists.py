"""What operators read of callbacks: the endpoints, and the log of deliveries."""

# ruff: noqa: S608 - only our own constants are formatted into statements; values are always parameters

from collections.abc import Sequence

from schemas import topics
from workers.callbacks import deliveries
from workers.callbacks.deliveries import DeliveryQuery

ENDPOINTS = f"""
    SELECT e.name, e.url, e.failing_since, e.disabled_at, e.disabled_why, e.is_configured, waiting.count,
        least(
            waiting.oldest,
            (SELECT written_at FROM outbox WHERE number > e.last_number AND topic = '{topics.ORDER_EVENT}'
             ORDER BY number LIMIT 1)
        ), e.delivered_at
    FROM callback_endpoints AS e, LATERAL (
        SELECT count(*) AS count, min(created_at) AS oldest FROM (
            SELECT created_at FROM callback_deliveries
            WHERE endpoint = e.name AND state = 'pending' ORDER BY number LIMIT {deliveries.PENDING_COUNTED_MAX}
        ) AS counted
    ) AS waiting
    WHERE $1::text IS NULL OR e.name = $1 ORDER BY e.name
"""
_LOG = """
    SELECT endpoint, number, event_id, type, state, attempts, created_at, due_at, tried_at, outcome, status, detail,
        took_ms
    FROM callback_deliveries WHERE endpoint = $1 AND number < $2 {and_more} ORDER BY number DESC LIMIT $3
"""
_NUMBER_MAX = 2**63 - 1


def log_of(query: DeliveryQuery) -> tuple[str, Sequence[object]]:
    """Return the statement that lists these deliveries, and its parameters.

    It has only the filters that are given, so that they can be followed in an index.
    """
    more = "" if query.state is None else f"AND state = '{query.state.value}'"
    before = _NUMBER_MAX if query.before is None else query.before
    parameters: list[object] = [query.endpoint, before, query.limit]
    if query.order is not None:
        more += " AND key = $4"
        parameters.append(query.order.encode())
    return _LOG.format(and_more=more), parameters
