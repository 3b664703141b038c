"""Many rows in an order store, written by the thousand as they are: how they came about does not matter."""

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from sqlite3 import Connection

from msgspec import Struct, structs

from deploy.embedded.store import SqliteOrderStore
from schemas import topics
from schemas.dispositions import Flag
from schemas.money import Money
from schemas.orders import Order, Status
from workers import row_codec
from workers.postgres.database import SqlConnection
from workers.postgres.store import PostgresOrderStore
from workers.row_codec import Row
from workers.settlement import order_view
from workers.settlement.plan import OrderWrite

AT_A_TIME = 5000
HELD = (
    "log_partition log_offset account order_number notification_id disposition reason detail key value headers "
    "first_at_ms attempts due_at_ms waits_for resolved_at_ms resolution"
).split()
ORDERS = (
    "version facts rank status closed_because trade amount_minor currency refunded_minor flags changed_at_ms "
    "order_number account"
).split()
OUTBOX = "id topic key value headers version written_at_ms".split()
COLUMNS = {"held": HELD, "orders": ORDERS, "outbox": OUTBOX}
HEADERS = b"\x90"  # none, as the stores pack them
BODY = b"notify_type=trade_status_sync&trade_status=TRADE_SUCCESS&subject=" + b"Two+tickets+" * 30


class HeldKind(Struct, frozen=True):
    """What some held rows have in common."""

    account: str
    disposition: str
    reason: str
    is_resolved: bool = False


def held_row(offset: int, kind: HeldKind, at_ms: int, *, order: str) -> Row:
    """One held row, first held at this moment; if parked, it is due then too."""
    is_waiting = kind.disposition == "parked" and not kind.is_resolved
    resolved_at_ms, resolution = (at_ms, "applied") if kind.is_resolved else (None, "")
    key = f"{kind.account}:{order}".encode()
    return (
        0, offset, kind.account, order, f"{order}-id", kind.disposition, kind.reason, "", key, BODY, HEADERS, at_ms, 0,
        at_ms if is_waiting else None, f"order:{order}" if is_waiting else "", resolved_at_ms, resolution,
    )  # fmt: skip


def order_row(number: str, account: str, changed_at_ms: int, *, flags: str = "", amount: Money | None = None) -> Row:
    """One order of which nothing has arrived yet, as after a registration; its columns may say otherwise."""
    order = Order(account=account, number=number, registered=True)
    view = order_view.view(order)
    if amount is not None:
        view = structs.replace(view, status=Status.PAID, amount_minor=amount.minor, currency=amount.currency)
    view = structs.replace(view, flags=tuple(Flag(flag) for flag in flags.split()))
    return row_codec.order_row(OrderWrite(order=order, view=view, expected_version=None), changed_at_ms)


def event_row(number: str, account: str, written_at_ms: int) -> Row:
    """One event of such an order that waits to be sent."""
    return f"{account}:{number}:1", topics.ORDER_EVENT, f"{account}:{number}".encode(), BODY, HEADERS, 1, written_at_ms


async def add(store: object, table: str, rows: Iterable[Row]) -> None:
    """Add the rows to one of `COLUMNS` in either store, and let PostgreSQL look at them, as it does by itself."""
    columns = COLUMNS[table]
    if isinstance(store, SqliteOrderStore):
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        for some in _slices(rows):
            await store.database.write(partial(_insert, statement, some))
        return
    assert isinstance(store, PostgresOrderStore)
    names = [column.removesuffix("_ms") for column in columns]
    for some in _slices(rows):
        await store.database.write(partial(_copy, table, names, some))
    await store.database.write(lambda connection: connection.execute(f"ANALYZE {table}"))


def _insert(statement: str, rows: list[Row], connection: Connection) -> None:
    connection.executemany(statement, rows)


async def _copy(table: str, names: list[str], rows: list[Row], connection: SqlConnection) -> None:
    await connection.copy_records_to_table(table, records=rows, columns=names)


def _slices(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while some := list(itertools.islice(left, AT_A_TIME)):
        yield some
