"""The shadow's own file: the notifications with their verdicts, and the merchant's orders.

Authentic records have an offset, from 1 and without gaps, by which the decided store knows them. A line that is
imported again is recognised. A mirrored copy, the balancer's log line and the line of the old handler's own log of one
request are one delivery (`joining`).

Several processes may write to it: `shadow run` and an import beside it.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from msgspec import Struct

from deploy.embedded.migrations import Schema
from deploy.embedded.sqlite import SqliteDatabase
from deploy.shadow import joining, private_files, pruning
from deploy.shadow.pruning import Pruned
from deploy.shadow.shapes import Judged, OldOrder
from schemas.money import Money
from schemas.record_format import Record
from workers.record_reader import storable
from workers.settlement.plan import LogRecord, Position

NAME = "shadow.sqlite3"
APPLICATION_ID = 0x414E5348

_TABLES = """
CREATE TABLE seen (
    number INTEGER PRIMARY KEY,
    log_offset INTEGER UNIQUE,
    account TEXT NOT NULL,
    order_number TEXT NOT NULL,
    notification_id TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    is_mirrored INTEGER NOT NULL,
    request TEXT NOT NULL,
    digest BLOB NOT NULL,
    refusal TEXT NOT NULL,
    detail TEXT NOT NULL,
    key BLOB,
    value BLOB,
    headers TEXT,
    old_answer TEXT,
    old_did TEXT,
    old_status INTEGER
) STRICT;
CREATE INDEX seen_to_join ON seen (digest) WHERE is_mirrored AND old_answer IS NULL AND old_did IS NULL;
CREATE TABLE lines (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE old_orders (
    order_number TEXT NOT NULL,
    account TEXT NOT NULL,
    as_of_ms INTEGER NOT NULL,
    state TEXT,
    amount_minor INTEGER,
    currency TEXT,
    refunded_minor INTEGER,
    is_exported INTEGER NOT NULL,
    PRIMARY KEY (order_number, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE generation (number INTEGER NOT NULL) STRICT;
INSERT INTO generation VALUES (1)
"""
_INSERT = """
INSERT INTO seen (log_offset, account, order_number, notification_id, refusal, detail, key, value, headers,
    received_at_ms, is_mirrored, request, digest, old_answer, old_did, old_status)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_STAGE = """
CREATE TEMP TABLE staged (
    order_number TEXT NOT NULL, account TEXT NOT NULL, as_of_ms INTEGER NOT NULL, state TEXT, amount_minor INTEGER,
    currency TEXT, refunded_minor INTEGER,
    PRIMARY KEY (order_number, account)
) STRICT, WITHOUT ROWID
"""
_PUT_STAGED = """
INSERT INTO old_orders SELECT *, 1 FROM temp.staged WHERE true
ON CONFLICT DO UPDATE SET as_of_ms = excluded.as_of_ms, state = excluded.state, amount_minor = excluded.amount_minor,
    currency = excluded.currency, refunded_minor = excluded.refunded_minor, is_exported = 1
"""
_PUT_STATE = """
INSERT INTO old_orders VALUES (?, ?, ?, ?, NULL, NULL, NULL, 0)
ON CONFLICT DO UPDATE SET as_of_ms = excluded.as_of_ms, state = excluded.state
WHERE excluded.as_of_ms >= as_of_ms
"""


class Added(Struct, frozen=True, kw_only=True):
    """What became of notifications: new in the book, joined to ones that it had, or known from an earlier import."""

    new: int = 0
    joined: int = 0
    known: int = 0


class Book:
    """The open file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.path = database.path

    @classmethod
    async def open(cls, directory: Path) -> "Book":
        """Open the file in this directory, and create it if it is missing.

        Raises:
            FileNotUsable, Damaged, InfrastructureDown: as for `SqliteDatabase.open`.
        """
        private_files.make(directory / NAME)
        schema = Schema(application_id=APPLICATION_ID, scripts=(_TABLES, joining.INDEXES))
        return cls(await SqliteDatabase.open(directory / NAME, schema, create=True))

    async def close(self) -> None:
        await self._database.close()

    async def add(self, items: Sequence[Judged]) -> Added:
        """Write the notifications, in one transaction."""
        return await self._database.write(lambda connection: _add(connection, items))

    async def put_orders(self, orders: Iterable[OldOrder]) -> int:
        """Write the merchant's orders as one whole, and begin a new generation of decisions; return their number.

        The orders are first taken into a temporary table, on the file's thread: they may be more than memory holds, and
        come slowly from a query, while other processes write.
        """
        count = await self._database.read(lambda connection: _stage(connection, orders))
        if count:
            await self._database.write(_put_staged)
        return count

    async def prune(self, before_ms: int) -> Pruned:
        """Delete rows that are older than this moment, overwrite them, and begin a new generation of decisions.

        Without such rows nothing happens.
        """

        def overwriting(connection: Connection) -> None:
            connection.execute("PRAGMA secure_delete = ON")

        await self._database.read(overwriting)
        done = await self._database.write(lambda connection: pruning.prune(connection, before_ms))
        await self._database.truncate_log()
        return done

    async def generation(self) -> int:
        """Return the number of the present decisions: new amounts, and deleted notifications, begin new ones."""
        return await self._database.read(_generation)

    async def authentic_after(self, offset: int, limit: int) -> Sequence[LogRecord]:
        """Return the next authentic records, in order."""
        return await self._database.read(lambda connection: _authentic_after(connection, offset, limit))

    async def last_offset(self) -> int:
        """Return the offset of the last authentic record, 0 if there is none."""
        return await self._database.read(_last_offset)

    async def amounts_after(self, place: tuple[str, str], limit: int) -> Sequence[OldOrder]:
        """Return the next exported orders, by number and account."""
        return await self._database.read(lambda connection: _amounts_after(connection, place, limit))


def _add(connection: Connection, items: Sequence[Judged]) -> Added:
    new = joined = known = 0
    offset = _last_offset(connection)
    for item in items:
        request, digest = item.request, blake2b(item.request.body, digest_size=16).digest()
        if (
            request.line_digest
            and not connection.execute("INSERT OR IGNORE INTO lines VALUES (?)", (request.line_digest,)).rowcount
        ):
            known += 1
            continue
        if request.old is not None and request.old.state is not None and item.order:
            named = storable(item.order), storable(item.scope)
            connection.execute(_PUT_STATE, (*named, request.received_at_ms, request.old.state.value))
        if (number := joining.find(connection, item, digest)) is not None:
            offset += joining.join(connection, number, item, offset=offset + 1)
            joined += 1
            continue
        offset += item.record is not None
        own = None if item.record is None else offset
        arrived = (request.received_at_ms, request.is_mirrored, storable(request.request), digest)
        connection.execute(_INSERT, (own, *joining.verdict(item), *arrived, *joining.reaction(item)))
        new += 1
    return Added(new=new, joined=joined, known=known)


def _stage(connection: Connection, orders: Iterable[OldOrder]) -> int:
    """Write the orders to a temporary table, whose transaction takes no lock on the file; return their number."""
    connection.execute("DROP TABLE IF EXISTS temp.staged")
    connection.execute("BEGIN")
    try:
        connection.execute(_STAGE)
        count = 0
        for order in orders:
            connection.execute("INSERT OR REPLACE INTO temp.staged VALUES (?, ?, ?, ?, ?, ?, ?)", _order_row(order))
            count += 1
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return count


def _put_staged(connection: Connection) -> None:
    connection.execute(_PUT_STAGED)
    connection.execute("UPDATE generation SET number = number + 1")
    connection.execute("DROP TABLE temp.staged")


def _order_row(order: OldOrder) -> tuple[Any, ...]:
    amount = order.amount
    return (
        order.number,
        order.account,
        order.as_of_ms,
        None if order.state is None else order.state.value,
        None if amount is None else amount.minor,
        None if amount is None else amount.currency,
        order.refunded_minor,
    )


def _generation(connection: Connection) -> int:
    return int(connection.execute("SELECT number FROM generation").fetchone()[0])


def _last_offset(connection: Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(log_offset), 0) FROM seen").fetchone()[0])


def _authentic_after(connection: Connection, offset: int, limit: int) -> Sequence[LogRecord]:
    rows = connection.execute(
        "SELECT log_offset, key, value, headers FROM seen WHERE log_offset > ? ORDER BY log_offset LIMIT ?",
        (offset, limit),
    )
    return [LogRecord(Position(0, place), Record(key, value, _headers(text))) for place, key, value, text in rows]


def _headers(text: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, bytes.fromhex(value)) for name, value in json.loads(text))


def _amounts_after(connection: Connection, place: tuple[str, str], limit: int) -> Sequence[OldOrder]:
    rows = connection.execute(
        """
        SELECT order_number, account, as_of_ms, amount_minor, currency FROM old_orders
        WHERE (order_number, account) > (?, ?) AND is_exported ORDER BY order_number, account LIMIT ?
        """,
        (*place, limit),
    )
    return [
        OldOrder(
            account=account, number=number, as_of_ms=as_of_ms, amount=None if minor is None else Money(minor, currency)
        )
        for number, account, as_of_ms, minor, currency in rows
    ]
