"""The order store's one transaction: lock and load the snapshot (`load`), decide, write the plan.

Two workers may process the same order, notification or even record at once: a zombie that missed a rebalance and its
successor, copies of one notification in several partitions, a refund that names another partition's order. Idempotency
locks do not keep them apart; this does:

* An existing order is locked before anything else is read, so the later reads see everything that the lock's last
  holder wrote. The second worker waits, and decides on the order as the first one left it.
* An order, notification or record that does *not* exist cannot be locked. Both workers decide that it is new. The
  second one's insert waits for the first one's commit and then finds the key taken. That is a `VersionConflict`: its
  whole transaction is rolled back and decided again, now with the first one's rows in the snapshot.

All transactions take locks in the same order, so none wait for each other in a circle: existing orders, existing held
rows, then table by table in the order of `write`, and by key within a table. Orders are written with a version check
all the same; it would show a lock that was lost without our knowledge.

One race only delays a parked notification: a registration that commits while it is parked for the first time does not
see its row, so the sweeper retries it after half a minute. From then on there is a row to lock, and each retry looks
again, behind the lock, whether its condition has come true (`load`).
"""

# ruff: noqa: S608 - only our own lists of columns are formatted into statements; values are always parameters

import operator
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from schemas import topics
from schemas.events import Outgoing
from schemas.orders import Order
from workers import row_codec
from workers.errors import RefundTaken, VersionConflict
from workers.postgres import audit, columns, errors, load, movements, wakes
from workers.postgres.columns import arrays
from workers.postgres.database import SqlConnection
from workers.settlement.plan import AccountKey, Decide, Delivery, LoadRequest, OrderWrite, Position, WritePlan


class SettleResult(Struct, frozen=True):
    """What a transaction wrote: the plan, the number of parked rows whose wake it began, and its events with their
    numbers in the outbox.

    `unsent_before` holds the ids of unacknowledged events that are the direct predecessors of some of these events.
    """

    plan: WritePlan
    woken: int
    numbered: list[tuple[int, Outgoing]]
    unsent_before: frozenset[str]


async def settle(connection: SqlConnection, needs: LoadRequest, decide: Decide, *, now_ms: int) -> SettleResult:
    """Load the snapshot, decide, and write the plan.

    Raises:
        VersionConflict: another worker wrote some of this meanwhile: run it again.
    """
    snapshot = await load.load(connection, needs)
    plan = decide(snapshot)
    try:
        return await write(connection, plan, snapshot.settled, now_ms=now_ms)
    except Exception as error:
        if _is_race(errors.violated_table(error), plan, needs, snapshot.orders.keys()):
            raise VersionConflict("another worker has processed some of these records meanwhile") from error
        raise


async def register(
    connection: SqlConnection,
    named: AccountKey,
    refunds: Sequence[str],
    decide: Callable[[Order | None], WritePlan],
    *,
    now_ms: int,
) -> SettleResult:
    """Load the order, decide, write the plan, and link the refunds to the order.

    Raises:
        VersionConflict: another worker wrote the order meanwhile: run it again.
        RefundTaken: a refund is linked to another order.
    """
    existing = await load.locked_orders(connection, {named})
    plan = decide(existing.get(named))
    try:
        settled = await write(connection, plan, frozenset(), now_ms=now_ms)
    except Exception as error:
        if _is_race(errors.violated_table(error), plan, _NOTHING, existing.keys()):
            raise VersionConflict("another worker has written this order meanwhile") from error
        raise
    await _link(connection, named, refunds)
    return settled


async def write(
    connection: SqlConnection, plan: WritePlan, settled: frozenset[Position], *, now_ms: int
) -> SettleResult:
    """Write the plan.

    Raises:
        VersionConflict: an order does not have the version that the plan expects.
    """
    # Events before their orders, because the triggers require it. Held rows before the wakes, because this batch may
    # both park a notification and make its condition come true.
    if plan.decisions:
        await audit.decide(connection, plan.decisions)
    await _copy(connection, "notifications", _LEDGER, sorted(map(row_codec.ledger_row, plan.ledger), key=_first_two))
    numbered = await _write_events(connection, plan.events, now_ms)
    await _write_orders(connection, plan.orders, now_ms)
    await movements.write(connection, plan)
    await _check_sole_trades(connection, plan.sole_trades)
    await _write_deliveries(connection, plan.deliveries, settled)
    if plan.numbers:
        await _insert(connection, _INSERT_NUMBERS, sorted(map(row_codec.number_row, plan.numbers)))
    await _release(connection, plan, now_ms)
    await _insert(connection, _HOLD, sorted(map(row_codec.held_row, plan.held), key=_first_two))
    return SettleResult(
        plan,
        await wakes.wake(connection, plan.wakes, now_ms),
        numbered,
        await _unsent_before(connection, plan.events),
    )


async def last_settled(connection: SqlConnection, partition: int, below: int) -> int | None:
    """Return the partition's highest offset below `below` that has a disposition; `None` if none has."""
    offset: int | None = await connection.fetchval(
        "SELECT max(log_offset) FROM deliveries WHERE log_partition = $1 AND log_offset < $2", partition, below
    )
    return offset


async def count_settled(connection: SqlConnection, positions: Sequence[Position]) -> int:
    """Count the positions that have a disposition."""
    count: int = await connection.fetchval(_COUNT_SETTLED, *load.places(positions))
    return count


async def count_same(connection: SqlConnection, positions: Sequence[Position], received_at_ms: Sequence[int]) -> int:
    """Count the positions whose disposition belongs to a record with this receive time."""
    count: int = await connection.fetchval(_COUNT_SAME, *load.places(positions), received_at_ms)
    return count


async def settled_between(connection: SqlConnection, partition: int, first: int, end: int) -> int:
    """Count the partition's records from `first` up to, but not including, `end` that have a disposition."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM deliveries WHERE log_partition = $1 AND log_offset >= $2 AND log_offset < $3",
        partition,
        first,
        end,
    )
    return count


_NOTHING = LoadRequest(
    positions=frozenset(), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
)
_LEDGER, _ORDERS, _DELIVERIES = columns.LEDGER.each, columns.ORDERS.each, columns.DELIVERIES.each
_OUTBOX = ("number", *columns.OUTBOX.each)
# One row with an array: the client takes several times as long for many rows.
_DRAW_NUMBERS = """
    SELECT array_agg(nextval((SELECT pg_get_serial_sequence('outbox', 'number')::regclass)))
    FROM generate_series(1, $1::bigint)
"""
_INSERT_NOTICES = columns.OUTBOX.insert("outbox", after="ON CONFLICT DO NOTHING RETURNING number, id")
_WRITTEN = columns.Columns(f"{columns.ORDERS.spec}, expected_version bigint")
_UPDATE_ORDERS = f"""
    UPDATE orders SET
        version = given.version, facts = given.facts, rank = given.rank, status = given.status,
        closed_because = given.closed_because, trade = given.trade, amount_minor = given.amount_minor,
        currency = given.currency, refunded_minor = given.refunded_minor, flags = given.flags,
        changed_at = given.changed_at
    FROM {_WRITTEN.arrays}
    WHERE orders.order_number = given.order_number AND orders.account = given.account
        AND orders.version = given.expected_version
"""
_INSERT_TRADES = columns.TRADES.insert("trades", after="ON CONFLICT DO NOTHING")
_INSERT_NUMBERS = columns.NUMBERS.insert("numbers", after="ON CONFLICT DO NOTHING")
_IS_TAKEN = f"""
    SELECT EXISTS (
        SELECT 1 FROM {columns.TRADES.arrays} JOIN trades AS t ON t.trade = given.trade AND t.account = given.account
        WHERE t.order_number <> given.order_number AND t.trade IN (t.order_number, given.order_number)
    )
"""
# A held notification that is applied later keeps the version that it gave its order when it was held.
_DELIVER_AGAIN = columns.DELIVERIES.insert(
    "deliveries",
    after="""
    ON CONFLICT (log_partition, log_offset) DO UPDATE SET
    account = excluded.account, order_number = excluded.order_number, notification_id = excluded.notification_id,
    type = excluded.type, status = excluded.status, news = excluded.news, disposition = excluded.disposition,
    reason = excluded.reason, detail = excluded.detail, version = coalesce(excluded.version, deliveries.version),
    received_at = excluded.received_at, decided_at = excluded.decided_at
    """,
)
# A snooze is for the reason that the operator saw: a row that is held for another one is back in the list.
_HOLD = columns.HELD.insert(
    "held",
    after="""
    ON CONFLICT (log_partition, log_offset) DO UPDATE SET
    account = excluded.account, order_number = excluded.order_number, notification_id = excluded.notification_id,
    disposition = excluded.disposition, reason = excluded.reason, detail = excluded.detail,
    attempts = excluded.attempts, due_at = excluded.due_at, waits_for = excluded.waits_for,
    snoozed_until = CASE WHEN (held.disposition, held.reason) = (excluded.disposition, excluded.reason)
        THEN held.snoozed_until END
    """,
)
_RELEASE = """
    UPDATE held SET resolved_at = $4, resolution = place.resolution, due_at = NULL
    FROM unnest($1::integer[], $2::bigint[], $3::text[]) AS place(log_partition, log_offset, resolution)
    WHERE held.log_partition = place.log_partition AND held.log_offset = place.log_offset AND resolved_at IS NULL
"""
_COUNT_SETTLED = """
    SELECT count(*) FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
    JOIN deliveries AS d ON d.log_partition = place.log_partition AND d.log_offset = place.log_offset
"""
_COUNT_SAME = """
    SELECT count(*) FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[]) AS wanted(log_partition, log_offset, at)
    JOIN deliveries AS d ON d.log_partition = wanted.log_partition AND d.log_offset = wanted.log_offset
        AND d.received_at = wanted.at
"""
_UNSENT_AMONG = "SELECT id FROM outbox WHERE id = ANY($1::text[]) AND sent_at IS NULL"

_first_two = operator.itemgetter(0, 1)


async def _insert(connection: SqlConnection, statement: str, given: Sequence[row_codec.Row]) -> int:
    """Run the statement on the rows, if there are any; return how many rows it wrote."""
    if not given:
        return 0
    return _count(await connection.execute(statement, *arrays(given)))


async def _copy(connection: SqlConnection, table: str, names: Sequence[str], given: Sequence[row_codec.Row]) -> None:
    """Copy the rows, if there are any, to a table. It fails if the table has one of their keys."""
    if given:
        await connection.copy_records_to_table(table, records=given, columns=names)


def _count(status: str) -> int:
    """The number of rows in a command tag of the server: `INSERT 0 7`, `UPDATE 7`."""
    return int(status.rpartition(" ")[2])


async def _write_events(
    connection: SqlConnection, outgoing: Sequence[Outgoing], now_ms: int
) -> list[tuple[int, Outgoing]]:
    """Return the written events with their numbers. A second order event of an id fails, a second notice is skipped."""
    # Sorting by key is stable, so the versions of each order stay in their order.
    in_order = sorted(outgoing, key=operator.attrgetter("key"))
    order_events = [event for event in in_order if event.topic == topics.ORDER_EVENT]
    numbered = await _write_order_events(connection, order_events, now_ms)
    notices = [event for event in in_order if event.topic != topics.ORDER_EVENT]
    if not notices:
        return numbered
    given = arrays(row_codec.outbox_row(event, now_ms) for event in notices)
    by_id = {id_: number for number, id_ in await connection.fetch(_INSERT_NOTICES, *given)}
    return numbered + [(by_id[event.id], event) for event in notices if event.id in by_id]


async def _write_order_events(
    connection: SqlConnection, order_events: Sequence[Outgoing], now_ms: int
) -> list[tuple[int, Outgoing]]:
    """Write the order events. Their numbers are drawn first, because `COPY` does not return them."""
    if not order_events:
        return []
    drawn = sorted(await connection.fetchval(_DRAW_NUMBERS, len(order_events)))
    numbered = list(zip(drawn, order_events, strict=True))
    await _copy(
        connection, "outbox", _OUTBOX, [(number, *row_codec.outbox_row(event, now_ms)) for number, event in numbered]
    )
    return numbered


async def _write_orders(connection: SqlConnection, writes: Sequence[OrderWrite], now_ms: int) -> None:
    in_order = sorted(writes, key=lambda each: (each.order.number, each.order.account))
    new = [row_codec.order_row(each, now_ms) for each in in_order if each.expected_version is None]
    changed = [
        (*row_codec.order_row(each, now_ms), each.expected_version)
        for each in in_order
        if each.expected_version is not None
    ]
    await _copy(connection, "orders", _ORDERS, new)
    if await _insert(connection, _UPDATE_ORDERS, changed) != len(changed):
        raise VersionConflict("an order has another version than the decision was based on")
    trades = {
        (claim.trade, each.order.account, each.order.number)
        for each in writes
        for claim in each.order.claims
        if claim.trade
    }
    await _insert(connection, _INSERT_TRADES, sorted(trades))


async def _check_sole_trades(connection: SqlConnection, trades: set[tuple[str, str, str]]) -> None:
    """Check that no other worker gave one of these payments to an order of another number meanwhile.

    Antom names a subscription's payment in two ways, so two workers may each create an order for it: one with the
    payment's own number. Neither sees the other's order, but the second one's insert into `trades` has waited for the
    first one's commit.

    Raises:
        VersionConflict: one has.
    """
    if trades and await connection.fetchval(_IS_TAKEN, *arrays(sorted(trades))):
        raise VersionConflict("another worker has given a payment to an order of another number")


async def _write_deliveries(
    connection: SqlConnection, deliveries: Sequence[Delivery], settled: frozenset[Position]
) -> None:
    first: list[row_codec.Row] = []
    again: list[row_codec.Row] = []
    for delivery in deliveries:
        (again if delivery.position in settled else first).append(row_codec.delivery_row(delivery))
    await _copy(connection, "deliveries", _DELIVERIES, sorted(first, key=_first_two))
    await _insert(connection, _DELIVER_AGAIN, sorted(again, key=_first_two))


async def _release(connection: SqlConnection, plan: WritePlan, now_ms: int) -> None:
    if not plan.released:
        return
    ends = {each.position: each.disposition.value for each in plan.deliveries}
    released = sorted(plan.released)
    await connection.execute(_RELEASE, *load.places(released), [ends[position] for position in released], now_ms)


async def _unsent_before(connection: SqlConnection, outgoing: Sequence[Outgoing]) -> frozenset[str]:
    """The ids of unacknowledged events of earlier plans that are the direct predecessors of events of this plan."""
    own = {event.id for event in outgoing}
    previous = [id_ for event in outgoing if (id_ := previous_id(event)) is not None and id_ not in own]
    if not previous:
        return frozenset()
    return frozenset(id_ for (id_,) in await connection.fetch(_UNSENT_AMONG, previous))


def previous_id(event: Outgoing) -> str | None:
    """Return the id of the event before this one of the same order; `None` for the first, and for notices."""
    if event.topic != topics.ORDER_EVENT:
        return None
    order, colon, version = event.id.rpartition(":")
    return f"{order}{colon}{int(version) - 1}" if int(version) > 1 else None


async def _link(connection: SqlConnection, named: AccountKey, refunds: Sequence[str]) -> None:
    if not refunds:
        return
    account, number = named
    wanted = sorted(set(refunds))
    await connection.execute(
        "INSERT INTO refund_links (refund, account, order_number) SELECT refund, $2, $3 FROM unnest($1::text[]) "
        "AS given(refund) ON CONFLICT DO NOTHING",
        wanted,
        account,
        number,
    )
    linked = await connection.fetch(load.ORDER_BY_REFUND, wanted, [account] * len(wanted))
    for _, refund, order in linked:
        if order != number:
            raise RefundTaken(refund, order)


def _is_race(table: str | None, plan: WritePlan, needs: LoadRequest, orders: Iterable[AccountKey]) -> bool:
    """Return whether another worker has taken a key since the snapshot: then the plan is sound, only too late.

    If the plan writes a key twice, or one that it never loaded, the fault is the plan's own. Deciding again would not
    help then.
    """
    match table:
        case "notifications":
            ids = [(entry.account, entry.notification_id) for entry in plan.ledger]
            return len(set(ids)) == len(ids) and needs.ids.issuperset(ids)
        case "deliveries":
            positions = [delivery.position for delivery in plan.deliveries]
            return len(set(positions)) == len(positions) and needs.positions.issuperset(positions)
        case "outbox":
            events = [event.id for event in plan.events if event.topic == topics.ORDER_EVENT]
            new = {(write.order.account, write.order.number) for write in plan.orders}.difference(orders)
            return len(set(events)) == len(events) and bool(new)
        case "orders":
            added = [(each.order.account, each.order.number) for each in plan.orders if each.expected_version is None]
            return len(set(added)) == len(added)
        case _:
            return False
