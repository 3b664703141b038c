"""Many rows in few steps of SQLite.

Each step of a statement gives up Python's lock and takes it back, and taking it back means waiting for the event loop's
thread, which has other things to do. `executemany` makes a step for every row; so a batch that is cheap by itself
spends its time queueing. A statement with many rows of values is one step.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from sqlite3 import Connection
from typing import Any

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
