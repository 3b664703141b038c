"""Operators' decisions and replays, the audit rows of all their actions, and an order's history for a decision."""

from collections.abc import Iterable, Sequence
from sqlite3 import Connection

from deploy.embedded import sql
from workers import row_codec
from workers.settlement.plan import AccountKey, DecisionRow, Position, PriorNotification

_INSERT = """
    INSERT INTO decisions
    (log_partition, log_offset, account, order_number, notification_id, version, action, by_whom, why, at_ms,
     amount_minor, currency)
"""
_RESOLVE = """
    UPDATE held SET resolved_at_ms = ?, resolution = ?, due_at_ms = NULL, by_whom = ?, why = ?,
        replay = coalesce(?, replay)
    WHERE log_partition = ? AND log_offset = ? AND resolved_at_ms IS NULL
"""
_HISTORY = """
    SELECT d.log_partition, d.log_offset, d.disposition, d.reason, h.log_offset IS NOT NULL, n.key, n.value, n.headers
    FROM deliveries AS d
    CROSS JOIN notifications AS n ON n.notification_id = d.notification_id AND n.account = d.account
        AND n.log_partition = d.log_partition AND n.log_offset = d.log_offset
    LEFT JOIN held AS h
        ON h.log_partition = d.log_partition AND h.log_offset = d.log_offset AND h.resolved_at_ms IS NULL
    WHERE d.order_number = ? AND d.account = ?
    ORDER BY d.log_partition, d.log_offset
"""


def histories(connection: Connection, names: Iterable[AccountKey]) -> dict[AccountKey, tuple[PriorNotification, ...]]:
    """Return the notifications of each order, each by its first record."""
    return {
        (account, number): tuple(map(row_codec.prior_notification, connection.execute(_HISTORY, (number, account))))
        for account, number in names
    }


def decide(connection: Connection, decisions: Sequence[DecisionRow]) -> None:
    """Write the decisions with their audit rows, and resolve their held rows. Call it before the orders are written."""
    sql.insert(connection, _INSERT, [row_codec.decision_row(each) for each in decisions])
    for position, decision in {each.position: each for each in decisions}.items():
        by, why, at_ms = decision.by, decision.why, decision.at_ms
        place = (position.partition, position.offset)
        connection.execute(_RESOLVE, (at_ms, decision.resolution, by, why, decision.task, *place))
        audit(connection, at_ms, decision.action, [str(position)], by, decision.audited)


def note_replay(
    connection: Connection, positions: Sequence[Position], *, by: str, why: str, now_ms: int, replay: int | None
) -> None:
    """Count a replay of these held rows, and write their audit rows. `replay` is the task that it belongs to."""
    connection.executemany(
        "UPDATE held SET replays = replays + 1, by_whom = ?, why = ?, replay = ? "
        "WHERE log_partition = ? AND log_offset = ?",
        [(by, why, replay, position.partition, position.offset) for position in positions],
    )
    audit(connection, now_ms, "replay", [str(position) for position in positions], by, why)


def audit(connection: Connection, now_ms: int, action: str, subjects: Sequence[str], by: str, why: str) -> None:
    """Write an audit row for each subject of the action. `by` is the operator, `why` the reason given."""
    connection.executemany(
        "INSERT INTO audit (at_ms, action, subject, by_whom, why) VALUES (?, ?, ?, ?, ?)",
        [(now_ms, action, subject, by, why) for subject in subjects],
    )
