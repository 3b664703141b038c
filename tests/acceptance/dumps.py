"""Dumps of a run as plain rows: their shape, and how they are read from the embedded engine's files.

Only SQL reads here, nothing of the product: a dump that shared code with the accused would share its mistakes. The
statements are the same for both engines' stores, whose tables have the same columns.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Place = tuple[int, int]  # partition, offset
Row = Mapping[str, Any]

EVENTS, STATES, HELD = "payments.order.event.v1", "payments.order.state.v1", "payments.notification.held.v1"
NOTED = "payments.notification.noted.v1"

STATEMENTS = {
    "deliveries": "SELECT log_partition, log_offset, account, order_number, notification_id, disposition, reason, "
    "version FROM deliveries",
    "ledger": "SELECT notification_id, account, log_partition, log_offset, value FROM notifications",
    "orders": "SELECT order_number, account, version, status, closed_because, trade, amount_minor, currency, "
    "refunded_minor, flags FROM orders",
    "held": "SELECT log_partition, log_offset, account, notification_id, disposition, value, resolution FROM held",
    "outbox": "SELECT number, id, topic, key, value, version FROM outbox ORDER BY number",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """One message as a topic has it."""

    place: Place
    id: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dumps:
    """Everything for the judge. `committed` has the first offset of each partition that is not committed, `published`
    the records that consumers can read, by topic, each topic's partitions in their order."""

    bodies: Mapping[Place, bytes]
    deliveries: Sequence[Row]
    ledger: Sequence[Row]
    orders: Sequence[Row]
    held: Sequence[Row]
    outbox: Sequence[Row]
    unsent: int
    committed: Mapping[int, int]
    published: Mapping[str, Sequence[Copy]]
    damage: Sequence[str] = field(default=())


def of_files(data_dir: Path) -> Dumps:
    """Dumps of a stopped embedded engine. Its topics are the sent part of its outbox."""
    with (
        closing(_opened(data_dir / "journal.sqlite3")) as journal,
        closing(_opened(data_dir / "orders.sqlite3")) as store,
    ):
        rows = {name: [dict(row) for row in store.execute(statement)] for name, statement in STATEMENTS.items()}
        sent = {number for (number,) in store.execute("SELECT number FROM outbox WHERE sent_at_ms IS NOT NULL")}
        cursors = store.execute("SELECT log_partition, log_offset FROM cursors")
        checks = {"journal": _check(journal), "store": _check(store)}
        return Dumps(
            bodies={(0, offset): body for offset, body in journal.execute("SELECT log_offset, value FROM records")},
            deliveries=rows["deliveries"],
            ledger=rows["ledger"],
            orders=rows["orders"],
            held=rows["held"],
            outbox=rows["outbox"],
            unsent=len(rows["outbox"]) - len(sent),
            committed={partition: offset + 1 for partition, offset in cursors},
            published={topic: _sent(rows["outbox"], sent, topic) for topic in (EVENTS, HELD, NOTED)},
            damage=[f"{name}: {said}" for name, said in checks.items() if said != "ok"],
        )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _check(file: sqlite3.Connection) -> str:
    return str(file.execute("PRAGMA quick_check").fetchone()[0])


def _sent(outbox: Sequence[Row], sent: set[int], topic: str) -> list[Copy]:
    return [
        Copy(place=(0, row["number"]), id=row["id"], key=row["key"], value=row["value"])
        for row in outbox
        if row["topic"] == topic and row["number"] in sent
    ]
