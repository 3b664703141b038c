"""The differences over the whole book: read from the shadow's two files by one connection, which writes to neither.

Differences of one notification are one: eight refused deliveries are one row with a count. They are gathered in a
temporary table, so that a wrong key, by which every notification differs, does not need the memory for all of them.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from deploy.shadow import book, deciding, differences
from deploy.shadow.differences import DecidedOrder, Difference, MismatchKind, SeenNotification
from deploy.shadow.shapes import HandlerAnswer, OldAction, OldState
from schemas.dispositions import Disposition, Reason
from schemas.orders import ClosedBecause, Status
from workers.errors import InfrastructureDown

_FOUND = """
CREATE TEMP TABLE found (
    kind_order INTEGER NOT NULL, account TEXT NOT NULL, order_number TEXT NOT NULL, notification TEXT NOT NULL,
    kind TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, advice TEXT NOT NULL, times INTEGER NOT NULL,
    first_at_ms INTEGER, notification_id TEXT NOT NULL,
    PRIMARY KEY (order_number, account, kind_order, notification)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET times = times + 1
"""
_SEEN = """
SELECT s.number, coalesce(d.account, s.account), coalesce(nullif(d.order_number, ''), s.order_number),
    coalesce(nullif(d.notification_id, ''), s.notification_id), hex(s.digest), s.received_at_ms,
    s.refusal, coalesce(nullif(d.detail, ''), s.detail), d.disposition, d.reason, s.old_answer, s.old_did, s.old_status,
    s.is_mirrored,
    coalesce(d.disposition = 'duplicate' AND s.old_did = 'applied' AND EXISTS (
        SELECT 1 FROM decided.deliveries AS e JOIN seen AS t ON t.log_offset = e.log_offset
        WHERE e.order_number = d.order_number AND e.account = d.account AND e.log_offset < d.log_offset
            AND t.old_did = 'applied' AND (e.notification_id = d.notification_id
                OR (d.reason = 'same_fact' AND e.type = d.type AND e.status = d.status AND e.news = d.news))
    ), 0)
FROM seen AS s LEFT JOIN decided.deliveries AS d ON d.log_partition = 0 AND d.log_offset = s.log_offset
ORDER BY s.number
"""
_LOGGED = """
SELECT account, min(received_at_ms), max(received_at_ms) FROM seen
WHERE old_answer IS NOT NULL OR old_did IS NOT NULL GROUP BY account
"""
_EXPORTED = "SELECT account, max(as_of_ms) FROM old_orders WHERE is_exported GROUP BY account"
_ORDERS = """
SELECT o.account, o.order_number, o.state, o.refunded_minor, d.status, d.closed_because, d.amount_minor, d.currency,
    coalesce(d.refunded_minor, 0), o.as_of_ms,
    (SELECT max(received_at_ms) FROM decided.deliveries AS x
     WHERE x.order_number = o.order_number AND x.account = o.account)
FROM old_orders AS o LEFT JOIN decided.orders AS d ON d.order_number = o.order_number AND d.account = o.account
"""
_NOT_IN_BOOKS = """
SELECT d.account, d.order_number, d.status, d.closed_because, d.amount_minor, d.currency, d.refunded_minor,
    (SELECT max(received_at_ms) FROM decided.deliveries AS x
     WHERE x.order_number = d.order_number AND x.account = d.account)
FROM decided.orders AS d
WHERE d.status IN ('PAID', 'FINISHED') AND NOT EXISTS (
    SELECT 1 FROM old_orders AS o WHERE o.order_number = d.order_number AND o.account = d.account)
"""
_ADD_STATES = """
UPDATE found SET detail = CASE detail WHEN '' THEN ?1 ELSE detail || '; ' || ?1 END
WHERE account = ?2 AND order_number = ?3
"""
_KINDS = [*MismatchKind]


class ReportedDifference(Struct, frozen=True, kw_only=True):
    """A difference with the order and notification that it is about; `times` are its deliveries."""

    kind: MismatchKind
    account: str
    order: str
    notification_id: str
    reason: str
    detail: str
    advice: str
    times: int
    first_at_ms: int | None


class ShadowReport(Struct, frozen=True, kw_only=True):
    """The whole comparison. `shown` are the first differences, the gravest kind first; `counts` counts all by kind.

    `undecided` wait here for something older than the shadow; `without_reaction` have no known reaction of the old
    handler, so that nothing could be compared.
    """

    notifications: int
    authentic: int
    refused: int
    repeated: int
    undecided: int
    without_reaction: int
    orders_compared: int
    differences: int
    counts: dict[str, int]
    shown: tuple[ReportedDifference, ...]


def read(directory: Path, generation: int, *, limit: int, progressed: Callable[[int], None]) -> ShadowReport:
    """Return the report with at most `limit` differences; `progressed` is called with numbers of notifications.

    Raises:
        InfrastructureDown: the files do not answer, or `shadow run` has just begun new decisions.
    """
    try:
        with closing(sqlite3.connect(_uri(directory / book.NAME), uri=True)) as connection:
            connection.execute("ATTACH ? AS decided", (_uri(deciding.store_path(directory, generation)),))
            connection.execute(_FOUND)
            return _Comparison(connection).report(limit, progressed)
    except sqlite3.Error as error:
        raise InfrastructureDown(f"{directory}: {error}; ask for the report again") from error


def count(directory: Path) -> int:
    """Return the number of notifications in the book."""
    with closing(sqlite3.connect(_uri(directory / book.NAME), uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM seen").fetchone()[0])


def decided_upto(directory: Path, generation: int) -> int:
    """Return the offset up to which records are decided; -1 if there is no file of decisions yet."""
    path = deciding.store_path(directory, generation)
    if not path.exists():
        return -1
    try:
        with closing(sqlite3.connect(_uri(path), uri=True)) as connection:
            row = connection.execute("SELECT log_offset FROM cursors WHERE log_partition = 0").fetchone()
    except sqlite3.OperationalError:  # it is just being made
        return -1
    return row[0] if row else 0


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=rw"  # a WAL file cannot be shared by a connection that may not write


class _Comparison:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._logged = {account: (first, last) for account, first, last in connection.execute(_LOGGED)}
        self._exported: dict[str, int] = dict(connection.execute(_EXPORTED).fetchall())
        self._counted: Counter[str] = Counter()

    def report(self, limit: int, progressed: Callable[[int], None]) -> ShadowReport:
        for row in self._connection.execute(_SEEN):
            self._compare(row)
            progressed(1)
        compared = self._compare_orders()
        counts: dict[str, int] = dict(
            self._connection.execute("SELECT kind, count(*) FROM found GROUP BY kind ORDER BY kind_order").fetchall()
        )
        return ShadowReport(
            notifications=self._counted["all"],
            authentic=self._counted["all"] - self._counted["refused"],
            refused=self._counted["refused"],
            repeated=self._counted["repeated"],
            undecided=self._counted["undecided"],
            without_reaction=self._counted["unknown"],
            orders_compared=compared,
            differences=sum(counts.values()),
            counts=counts,
            shown=tuple(self._shown(limit)),
        )

    def _compare(self, row: tuple[Any, ...]) -> None:
        (_, account, order, id_, digest, at_ms, refusal, detail, disposition, reason, answer, action, status,
         is_mirrored, was_applied) = row  # fmt: skip
        seen = SeenNotification(
            refusal=str(refusal),
            detail=str(detail),
            disposition=None if disposition is None else Disposition(disposition),
            reason=None if reason is None else Reason(reason),
            answer=None if answer is None else HandlerAnswer(answer),
            action=None if action is None else OldAction(action),
            status=status if isinstance(status, int) else None,
            was_applied_before=bool(was_applied),
            is_exported=str(account) in self._exported,
        )
        self._counted["all"] += 1
        self._counted["refused"] += bool(seen.refusal)
        self._counted["repeated"] += seen.disposition is Disposition.DUPLICATE
        self._counted["undecided"] += differences.is_undecided(seen)
        found = differences.of_notification(seen)
        if seen.answer is None and seen.action is None:
            self._counted["unknown"] += 1
            first, last = self._logged.get(str(account), (None, None))
            if is_mirrored and not seen.refusal and first is not None and first <= at_ms <= last:
                found = differences.never_seen()
        if found is not None:
            self._add(str(account), str(order), found, str(id_ or digest), at_ms, str(id_))

    def _compare_orders(self) -> int:
        """Compare states, of orders without notifications after the merchant's books were written; return how many.

        An order that a difference of its notifications names is not named again, because the state mostly follows from
        it. That difference then has both states in its detail.
        """
        compared = 0
        for row in self._connection.execute(_ORDERS):
            account, number, state, refunded, status, because, minor, currency, back, as_of, last = row
            if last is None or last > as_of:
                continue
            compared += 1
            ours = _order(status, because, minor, currency, back)
            old = None if state is None else OldState(state)
            self._add_order(account, number, differences.of_order(old, refunded, ours), last)
        for account, number, status, because, minor, currency, back, last in self._connection.execute(_NOT_IN_BOOKS):
            if account in self._exported and last is not None and last <= self._exported[account]:
                compared += 1
                ours = _order(status, because, minor, currency, back)
                self._add_order(account, number, differences.of_order(None, None, ours, is_missing=True), last)
        return compared

    def _add_order(self, account: str, number: str, found: Difference | None, at_ms: int) -> None:
        if found is not None and not self._connection.execute(_ADD_STATES, (found.detail, account, number)).rowcount:
            self._add(account, number, found, "", at_ms, "")

    def _add(self, account: str, order: str, found: Difference, key: str, at_ms: int, id_: str) -> None:
        place = _KINDS.index(found.kind)
        texts = (found.kind.value, found.reason, found.detail, found.advice)
        self._connection.execute(_ADD, (place, account, order, key, *texts, at_ms, id_))

    def _shown(self, limit: int) -> Iterator[ReportedDifference]:
        rows = self._connection.execute(
            """
            SELECT kind, account, order_number, notification_id, reason, detail, advice, times, first_at_ms FROM found
            ORDER BY kind_order, first_at_ms, order_number LIMIT ?
            """,
            (limit if limit else -1,),
        )
        names = ("kind", "account", "order", "notification_id", "reason", "detail", "advice", "times", "first_at_ms")
        for row in rows:
            yield msgspec.convert(dict(zip(names, row, strict=True)), ReportedDifference)


def _order(status: str | None, because: str | None, minor: int | None, currency: str | None, back: int) -> DecidedOrder:
    return DecidedOrder(
        status=Status.WAITING if status is None else Status(status),
        closed_because=ClosedBecause(because) if because else None,
        amount_minor=minor,
        currency=currency,
        refunded_minor=back,
    )
