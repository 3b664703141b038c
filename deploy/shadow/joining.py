"""One request has up to three sources: the mirrored copy, the balancer's log line, and the old handler's own log line.

They come in any order and are one delivery. The number of the request joins them; where one of them lacks it, the
nearest time joins a copy and a line. Two sources may differ about the answer: a balancer that logs status 200 does not
know the text, and a handler does not know that its answer never left the balancer. So the worse answer counts.
"""

import json
from sqlite3 import Connection
from typing import Any

from deploy.shadow.shapes import HandlerAnswer, Judged
from workers.record_reader import storable

APART_MS_MAX = 120_000  # between a mirrored notification and its log line, if no request number joins them

INDEXES = """
DROP INDEX seen_to_join;
CREATE INDEX seen_by_request ON seen (digest, request) WHERE request <> '';
CREATE INDEX copies_by_time ON seen (digest, received_at_ms)
    WHERE is_mirrored AND (old_answer IS NULL OR old_did IS NULL);
CREATE INDEX lines_by_time ON seen (digest, received_at_ms) WHERE NOT is_mirrored
"""
# An action that is known already is another action: the balancer gave the request to the handler twice.
_SAME_REQUEST = """
SELECT number FROM seen WHERE digest = ? AND request = ? AND request <> '' AND NOT (? AND old_did IS NOT NULL)
ORDER BY number LIMIT 1
"""
_NEAREST_COPY = """
SELECT number FROM seen
WHERE digest = :digest AND is_mirrored AND (old_answer IS NULL OR old_did IS NULL)
    AND received_at_ms BETWEEN :at_ms - :apart_ms AND :at_ms + :apart_ms AND (request = '' OR :request = '')
    AND CASE WHEN :has_action THEN old_did IS NULL ELSE old_answer IS NULL END
ORDER BY abs(received_at_ms - :at_ms), number LIMIT 1
"""
_NEAREST_LINE = """
SELECT number FROM seen
WHERE digest = :digest AND NOT is_mirrored AND (old_answer IS NOT NULL OR old_did IS NOT NULL)
    AND received_at_ms BETWEEN :at_ms - :apart_ms AND :at_ms + :apart_ms AND (request = '' OR :request = '')
ORDER BY abs(received_at_ms - :at_ms), number LIMIT 1
"""
_JOIN = """
UPDATE seen SET old_answer = ?, old_did = coalesce(old_did, ?), old_status = ?, is_mirrored = is_mirrored OR ?,
    request = CASE request WHEN '' THEN ? ELSE request END
WHERE number = ?
"""
_ACCEPT = """
UPDATE seen SET log_offset = ?, account = ?, order_number = ?, notification_id = ?, refusal = ?, detail = ?, key = ?,
    value = ?, headers = ?
WHERE number = ? AND log_offset IS NULL
"""
_FROM_GOOD_TO_BAD = (None, HandlerAnswer.ACKNOWLEDGED, HandlerAnswer.REFUSED, HandlerAnswer.NOT_ACKNOWLEDGED)

Reaction = tuple[str | None, str | None, int | None]


def find(connection: Connection, item: Judged, digest: bytes) -> int | None:
    """Return the number of the delivery that the item is about, if the book has it."""
    request, (answer, action, _) = item.request, reaction(item)
    has_action = action is not None
    row = connection.execute(_SAME_REQUEST, (digest, storable(request.request), has_action)).fetchone()
    if row is None and (request.is_mirrored or has_action or answer is not None):
        near = {
            "digest": digest,
            "request": storable(request.request),
            "at_ms": request.received_at_ms,
            "apart_ms": APART_MS_MAX,
            "has_action": has_action,
        }
        row = connection.execute(_NEAREST_LINE if request.is_mirrored else _NEAREST_COPY, near).fetchone()
    return None if row is None else int(row[0])


def join(connection: Connection, number: int, item: Judged, *, offset: int) -> bool:
    """Add the item to a delivery; return whether the record there is now this one, with this offset.

    A line may lack signed headers, and so be refused where the copy is authentic. Then the copy's verdict counts.
    """
    known, status = connection.execute("SELECT old_answer, old_status FROM seen WHERE number = ?", (number,)).fetchone()
    answer, action, own_status = reaction(item)
    if _badness(answer) > _badness(known):
        known, status = answer, own_status
    elif status is None:
        status = own_status
    request = item.request
    connection.execute(_JOIN, (known, action, status, request.is_mirrored, storable(request.request), number))
    if item.record is None:
        return False
    return connection.execute(_ACCEPT, (offset, *verdict(item), number)).rowcount > 0


def reaction(item: Judged) -> Reaction:
    """Return the old handler's answer, action and status, as the book has them."""
    old = item.request.old
    if old is None:
        return None, None, None
    answer = None if item.answer is None else item.answer.value
    return answer, None if old.action is None else old.action.value, old.status


def verdict(item: Judged) -> tuple[Any, ...]:
    """Return account, order, notification, refusal, detail, and the record's key, value and headers, as the book has
    them.
    """
    record = item.record
    headers = None
    if record is not None:
        headers = json.dumps([(name, value.hex()) for name, value in record.headers])
    return (
        storable(item.scope),
        storable(item.order),
        storable(item.notification_id),
        item.refusal,
        storable(item.detail),
        None if record is None else record.key,
        None if record is None else record.value,
        headers,
    )


def _badness(answer: str | None) -> int:
    return _FROM_GOOD_TO_BAD.index(None if answer is None else HandlerAnswer(answer))
