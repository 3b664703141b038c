"""The tables' columns with their types, in the order of `workers.row_codec`, and statements built from them. Pure.

A statement takes one array for each column, so its text and its plan are the same for every batch, and a batch of any
size is one round trip. If rows are only added, `COPY` takes them as they are, in a third of the client's time.
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

# The partitions of `deliveries`, and NULL after the last. Each is found by a step into the index; DISTINCT would read
# all of it.
PARTITIONS = """
    WITH RECURSIVE partitions(number) AS (
        SELECT min(log_partition) FROM deliveries
        UNION ALL
        SELECT (SELECT min(log_partition) FROM deliveries WHERE log_partition > number)
        FROM partitions WHERE number IS NOT NULL
    )
"""
EACH_PARTITION = f"{PARTITIONS} SELECT number FROM partitions WHERE number IS NOT NULL"


class Columns(Struct, frozen=True):
    """Names and types of columns, from a text of the form `name type, name type`."""

    spec: str

    @property
    def names(self) -> str:
        return ", ".join(self.each)

    @property
    def each(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._pairs())

    @property
    def arrays(self) -> str:
        """A table expression: `unnest` of one parameter for each column."""
        types = (f"${number}::{type_}[]" for number, (_, type_) in enumerate(self._pairs(), 1))
        return f"unnest({', '.join(types)}) AS given({self.names})"

    def insert(self, table: str, *, after: str = "") -> str:
        """Return the statement that inserts rows in the given order. `after` is appended to it."""
        return f"INSERT INTO {table} ({self.names}) SELECT {self.names} FROM {self.arrays} {after}"

    def _pairs(self) -> list[tuple[str, str]]:
        pairs = (column.split() for column in self.spec.split(","))
        return [(name, type_) for name, type_ in pairs]


def arrays(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Transpose rows to columns: the parameters of a statement."""
    return list(zip(*rows, strict=True))


def of(table: str, names: str) -> str:
    """Qualify the columns with the table's name or alias."""
    return ", ".join([f"{table}.{name}" for name in names.split(", ")])


ORDER = "facts, status, closed_because, trade, amount_minor, currency, refunded_minor, flags"
EMITTED = "number, id, topic, key, value, headers, sent_at"

ORDERS = Columns(
    "version bigint, facts bytea, rank smallint, status text, closed_because text, trade text, amount_minor bigint, "
    "currency text, refunded_minor bigint, flags text, changed_at timestamptz, order_number text, account text"
)
TRADES = Columns("trade text, account text, order_number text")
LEDGER = Columns(
    "notification_id text, account text, order_number text, digest bytea, log_partition integer, log_offset bigint, "
    "key bytea, value bytea, headers bytea"
)
NUMBERS = Columns("number text, account text, kind text, log_partition integer, log_offset bigint")
DELIVERIES = Columns(
    "log_partition integer, log_offset bigint, account text, order_number text, notification_id text, type text, "
    "status text, news text, disposition text, reason text, detail text, version bigint, received_at timestamptz, "
    "decided_at timestamptz"
)
HELD = Columns(
    "log_partition integer, log_offset bigint, account text, order_number text, notification_id text, "
    "disposition text, reason text, detail text, key bytea, value bytea, headers bytea, first_at timestamptz, "
    "attempts integer, due_at timestamptz, waits_for text"
)
SNOOZE = "snoozed_until, snoozed_by, snoozed_why"
HELD_PAGE = f"{HELD.names}, resolved_at, resolution, by_whom, why, replays, erased_at, {SNOOZE}"
MOVEMENT = "m.kind, m.id, m.trade, m.currency, m.amount_minor"
MOVEMENTS = Columns(
    "order_number text, account text, named bigint, stated bigint, kind text, id text, trade text, currency text, "
    "amount_minor bigint"
)
DECISIONS = Columns(
    "log_partition integer, log_offset bigint, account text, order_number text, notification_id text, version bigint, "
    "action text, by_whom text, why text, at timestamptz, amount_minor bigint, currency text"
)
OUTBOX = Columns("id text, topic text, key bytea, value bytea, headers bytea, version bigint, written_at timestamptz")
KEY_USES = Columns("account text, key_id text, slot timestamptz, messages bigint, last_at timestamptz")
