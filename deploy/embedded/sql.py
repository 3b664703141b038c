"""The names of the store's columns, in the order of `workers.row_codec`, and how many go into one parameter. Pure.

Many rows in few steps of SQLite.

Each step of a statement gives up Python's lock and takes it back, and taking it back means waiting for the event loop's
thread, which has other things to do. `executemany` makes a step for every row; so a batch that is cheap by itself
spends its time queueing. A statement with many rows of values is one step.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from sqlite3 import Connection
from typing import Any

import msgspec

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
HELD_PAGE = f"{HELD}, resolved_at_ms, resolution, by_whom, why, replays"
EMITTED = "number, id, topic, key, value, headers, sent_at_ms"

_to_json = msgspec.json.Encoder().encode


def by_account(names: Iterable[AccountKey]) -> Iterator[tuple[str, str]]:
    """(account, its numbers as a JSON array): what `json_each` takes in one parameter, however many there are."""
    numbers: dict[str, list[str]] = {}
    for account, number in names:
        numbers.setdefault(account, []).append(number)
    for account, of_account in numbers.items():
        yield account, as_json(sorted(of_account))


def as_json(values: Sequence[str] | Sequence[int]) -> str:
    return _to_json(values).decode()


CHUNKS = (128, 16, 1)  # few sizes, so that the connection's cache holds every statement ready


def insert(connection: Connection, into: str, rows: Sequence[Sequence[Any]], *, after: str = "") -> int:
    """Insert the rows, in their order, and say how many went in. `into` stands before VALUES, `after` behind."""
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
