"""Columns of the store's tables, in the order of `workers.row_codec`, and many rows in one statement. Pure.

Each step of an SQLite statement releases Python's lock and takes it again, and that means a wait for the event loop's
thread. `executemany` makes one step for each row, so a cheap batch would spend its time waiting. One statement with the
values of many rows is one step. Likewise, many numbers go into one parameter, as a JSON array for `json_each`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from sqlite3 import Connection
from typing import Any

import msgspec

from schemas.notification import NamedNumber
from workers.settlement.plan import AccountKey

ORDER = "facts, status, closed_because, trade, amount_minor, currency, refunded_minor, flags"
DELIVERY = (
    "log_partition, log_offset, account, order_number, notification_id, type, status, news, disposition, reason, "
    "detail, version, received_at_ms, decided_at_ms"
)
HELD = (
    "log_partition, log_offset, account, order_number, notification_id, disposition, reason, detail, key, value, "
    "headers, first_at_ms, attempts, due_at_ms, waits_for"
)
MOVEMENT = "m.kind, m.id, m.trade, m.currency, m.amount_minor"
MOVEMENT_ROW = "order_number, account, named, stated, kind, id, trade, currency, amount_minor"
SNOOZE = "snoozed_until_ms, snoozed_by, snoozed_why"
HELD_PAGE = f"{HELD}, resolved_at_ms, resolution, by_whom, why, replays, erased_at_ms, {SNOOZE}"
EMITTED = "number, id, topic, key, value, headers, sent_at_ms"

_to_json = msgspec.json.Encoder().encode


def by_account(names: Iterable[AccountKey]) -> Iterator[tuple[str, str]]:
    """Yield each account with its numbers as a JSON array, for `json_each` in one parameter."""
    numbers: dict[str, list[str]] = {}
    for account, number in names:
        numbers.setdefault(account, []).append(number)
    for account, of_account in numbers.items():
        yield account, as_json(sorted(of_account))


def as_json(values: Sequence[str] | Sequence[int] | Sequence[list[int]]) -> str:
    """Return the values as a JSON array."""
    return _to_json(values).decode()


def pairs(numbers: Iterable[NamedNumber]) -> str:
    """Return the numbers as a JSON array of pairs: the number, then its kind."""
    return _to_json([(named.number, named.kind.value) for named in numbers]).decode()


def of(table: str, names: str) -> str:
    """Qualify the columns with the table's name or alias."""
    return ", ".join([f"{table}.{name}" for name in names.split(", ")])


CHUNKS = (128, 16, 1)  # few sizes, so that the connection's statement cache holds them all


def insert(connection: Connection, into: str, rows: Sequence[Sequence[Any]], *, after: str = "") -> int:
    """Insert the rows in order, and return how many were inserted. `into` precedes VALUES, `after` follows."""
    inserted = done = 0
    for chunk in CHUNKS:
        while len(rows) - done >= chunk:
            part = rows[done : done + chunk]
            statement = _statement(into, len(part[0]), chunk, after)
            inserted += connection.execute(statement, list(chain.from_iterable(part))).rowcount
            done += chunk
    return inserted


@lru_cache(maxsize=64)
def _statement(into: str, width: int, count: int, after: str) -> str:
    row = f"({', '.join('?' * width)})"
    return f"{into} VALUES {', '.join([row] * count)} {after}"
