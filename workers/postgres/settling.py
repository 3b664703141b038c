"""The order store's one transaction: lock and load what is known (`loading`), decide, write what was decided.

Two workers may be at the same orders, the same notifications, even the same records: a zombie that has not heard of its
successor, copies of one notification in several partitions, a refund that names another partition's order. What keeps
them apart is not a claim but this:

* An order that exists is locked before anything else is read, so what is read after the lock includes all that its
  last holder wrote. Whoever comes second waits, and decides on the order as the first one left it.
* An order, a notification or a record that does *not* exist cannot be locked. Both workers decide that it is new; the
  second one's insert waits for the first one's commit and then finds the key taken. That is `VersionConflict`: its
  whole transaction is undone and decided again, now on what is there.

Everybody takes locks in one order, so nobody waits in a circle: existing orders, existing held rows, then table by
table in the order of `write`, and within a table by key. Versions are compared all the same when orders are written; a
lock that was lost without our knowledge would show there.

One race is left to the schedule of parked notifications: a registration that commits while a notification is being
parked for the first time does not see the parked row, which is tried again after half a minute. From then on there is a
row to lock, and whoever tries it looks once more, behind the lock, whether it has come true (`loading`).
"""

# ruff: noqa: S608 - what is formatted into statements are our own lists of columns; values are always parameters

import operator
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from schemas import topics
from schemas.events import Outgoing
from schemas.orders import Order
from workers import row_codec
from workers.errors import RefundTaken, VersionConflict
from workers.postgres import columns, errors, load
from workers.postgres.columns import arrays
from workers.postgres.database import SqlConnection
from workers.settlement.plan import AccountKey, Decide, Delivery, LoadRequest, OrderWrite, Position, WritePlan


class SettleResult(Struct, frozen=True):
    """What a transaction wrote: the plan, how many parked rows it woke, and its events as the outbox numbered them.

    `unsent_before` are ids of events that come right before one of these and that no topic has acknowledged yet.
    """

    plan: WritePlan
    woken: int
    numbered: list[tuple[int, Outgoing]]
    unsent_before: frozenset[str]


async def settle(connection: SqlConnection, needs: LoadRequest, decide: Decide, *, now_ms: int) -> SettleResult:
    """Load, decide, and write."""
    known = await load.load(connection, needs)
    plan = decide(known)
    try:
        return await write(connection, plan, known.settled, now_ms=now_ms)
    except Exception as error:
        if _is_race(errors.violated_table(error), plan, needs, known.orders.keys()):
            raise VersionConflict("another worker has settled some of this meanwhile") from error
        raise


async def register(
    connection: SqlConnection,
    named: AccountKey,
    refunds: Sequence[str],
    decide: Callable[[Order | None], WritePlan],
    *,
    now_ms: int,
) -> SettleResult:
    """Load the order, decide, write, and link the refunds to it."""
    known = await load.locked_orders(connection, {named})
    plan = decide(known.get(named))
    try:
        settled = await write(connection, plan, frozenset(), now_ms=now_ms)
    except Exception as error:
        if _is_race(errors.violated_table(error), plan, _NOTHING, known.keys()):
            raise VersionConflict("another worker has written this order meanwhile") from error
        raise
    await _link(connection, named, refunds)
    return settled


async def write(
    connection: SqlConnection, plan: WritePlan, settled: frozenset[Position], *, now_ms: int
) -> SettleResult:
    """Write the plan.

    Events come before the orders they announce, which the triggers ask for, and held rows before the wakes: what this
    batch parks may be what this batch makes come true.

    Raises:
        VersionConflict: an order has not the version that the plan expects.
    """
    await _copy(connection, "notifications", _LEDGER, sorted(map(row_codec.ledger_row, plan.ledger), key=_first_two))
    numbered = await _write_events(connection, plan.events, now_ms)
    await _write_orders(connection, plan.orders, now_ms)
    await _write_deliveries(connection, plan.deliveries, settled)
    await _release(connection, plan, now_ms)
    await _insert(connection, _HOLD, sorted(map(row_codec.held_row, plan.held), key=_first_two))
    return SettleResult(
        plan,
        await _wake(connection, plan.wakes, now_ms),
        numbered,
        await _unsent_before(connection, plan.events),
    )


async def last_settled(connection: SqlConnection, partition: int, below: int) -> int | None:
    """The highest offset of the partition that has a disposition, among those below."""
    offset: int | None = await connection.fetchval(
        "SELECT max(log_offset) FROM deliveries WHERE log_partition = $1 AND log_offset < $2", partition, below
    )
    return offset


async def count_settled(connection: SqlConnection, positions: Sequence[Position]) -> int:
    """How many of the positions have a disposition."""
    count: int = await connection.fetchval(_COUNT_SETTLED, *load.places(positions))
    return count


async def count_same(connection: SqlConnection, positions: Sequence[Position], received_at_ms: Sequence[int]) -> int:
    """How many of the positions have the disposition of a record that was received at that moment."""
    count: int = await connection.fetchval(_COUNT_SAME, *load.places(positions), received_at_ms)
    return count


async def settled_between(connection: SqlConnection, partition: int, first: int, end: int) -> int:
    """How many records of the stretch have a disposition."""
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
_DRAW_NUMBERS = """
    SELECT nextval((SELECT pg_get_serial_sequence('outbox', 'number')::regclass)) FROM generate_series(1, $1::bigint)
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
# A held notification that is settled later keeps the version that it gave its order when it was held.
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
_HOLD = columns.HELD.insert(
    "held",
    after="""
    ON CONFLICT (log_partition, log_offset) DO UPDATE SET
    account = excluded.account, order_number = excluded.order_number, notification_id = excluded.notification_id,
    disposition = excluded.disposition, reason = excluded.reason, detail = excluded.detail,
    attempts = excluded.attempts, due_at = excluded.due_at, waits_for = excluded.waits_for
    """,
)
_RELEASE = """
    UPDATE held SET resolved_at = $4, resolution = place.resolution, due_at = NULL
    FROM unnest($1::integer[], $2::bigint[], $3::text[]) AS place(log_partition, log_offset, resolution)
    WHERE held.log_partition = place.log_partition AND held.log_offset = place.log_offset AND resolved_at IS NULL
"""
_IS_ANY_PARKED = "SELECT EXISTS (SELECT 1 FROM held WHERE disposition = 'parked' AND resolved_at IS NULL)"
_WAKE = """
    UPDATE held SET due_at = least(coalesce(due_at, $3), $3)
    FROM (
        SELECT h.log_partition, h.log_offset FROM unnest($1::text[], $2::text[]) AS come(account, waits_for)
        JOIN held AS h ON h.waits_for = come.waits_for AND h.account = come.account
        WHERE h.disposition = 'parked' AND h.resolved_at IS NULL
        ORDER BY h.log_partition, h.log_offset FOR NO KEY UPDATE OF h
    ) AS woken
    WHERE held.log_partition = woken.log_partition AND held.log_offset = woken.log_offset
"""
_COUNT_SETTLED = """
    SELECT count(*) FROM unnest($1::integer[], $2::bigint[]) AS place(log_partition, log_offset)
    JOIN deliveries AS d ON d.log_partition = place.log_partition AND d.log_offset = place.log_offset
"""
_COUNT_SAME = """
    SELECT count(*) FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[]) AS asked(log_partition, log_offset, at)
    JOIN deliveries AS d ON d.log_partition = asked.log_partition AND d.log_offset = asked.log_offset
        AND d.received_at = asked.at
"""
_UNSENT_AMONG = "SELECT id FROM outbox WHERE id = ANY($1::text[]) AND sent_at IS NULL"

_first_two = operator.itemgetter(0, 1)


async def _insert(connection: SqlConnection, statement: str, given: Sequence[row_codec.Row]) -> int:
    """Run a statement of the rows, if there are any; how many rows it wrote."""
    if not given:
        return 0
    return _count(await connection.execute(statement, *arrays(given)))


async def _copy(connection: SqlConnection, table: str, names: Sequence[str], given: Sequence[row_codec.Row]) -> None:
    """Add the rows, if there are any, to a table that may have none of their keys."""
    if given:
        await connection.copy_records_to_table(table, records=given, columns=names)


def _count(status: str) -> int:
    """The number of rows in the server's word on a statement: `INSERT 0 7`, `UPDATE 7`."""
    return int(status.rpartition(" ")[2])


async def _write_events(
    connection: SqlConnection, outgoing: Sequence[Outgoing], now_ms: int
) -> list[tuple[int, Outgoing]]:
    """What was written, with its numbers. A second order event with the same id is a fault; a second notice says
    nothing new, and is left out."""
    # Sorting the events by key leaves the versions of each order in their order.
    in_order = sorted(outgoing, key=operator.attrgetter("key"))
    numbered = await _announce(connection, [event for event in in_order if event.topic == topics.ORDER_EVENT], now_ms)
    notices = [event for event in in_order if event.topic != topics.ORDER_EVENT]
    if not notices:
        return numbered
    given = arrays(row_codec.outbox_row(event, now_ms) for event in notices)
    by_id = {id_: number for number, id_ in await connection.fetch(_INSERT_NOTICES, *given)}
    return numbered + [(by_id[event.id], event) for event in notices if event.id in by_id]


async def _announce(
    connection: SqlConnection, announced: Sequence[Outgoing], now_ms: int
) -> list[tuple[int, Outgoing]]:
    """Write the order events. Their numbers are drawn before: what is copied does not tell which it got."""
    if not announced:
        return []
    drawn = sorted(number for (number,) in await connection.fetch(_DRAW_NUMBERS, len(announced)))
    numbered = list(zip(drawn, announced, strict=True))
    await _copy(
        connection, "outbox", _OUTBOX, [(number, *row_codec.outbox_row(event, now_ms)) for number, event in numbered]
    )
    return numbered


async def _write_orders(connection: SqlConnection, writes: Sequence[OrderWrite], now_ms: int) -> None:
    in_order = sorted(writes, key=lambda each: (each.order.number, each.order.account))
    fresh = [row_codec.order_row(each, now_ms) for each in in_order if each.expected_version is None]
    known = [
        (*row_codec.order_row(each, now_ms), each.expected_version)
        for each in in_order
        if each.expected_version is not None
    ]
    await _copy(connection, "orders", _ORDERS, fresh)
    if await _insert(connection, _UPDATE_ORDERS, known) != len(known):
        raise VersionConflict("an order has another version than the one that was decided on")
    trades = {
        (claim.trade, each.order.account, each.order.number)
        for each in writes
        for claim in each.order.claims
        if claim.trade
    }
    await _insert(connection, _INSERT_TRADES, sorted(trades))


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


async def _wake(connection: SqlConnection, wakes: set[tuple[str, str]], now_ms: int) -> int:
    """How many parked rows are due now because what they waited for has come true. Usually nothing is parked at all:
    then it is not even said what has come true, which is twice as many names as there are orders."""
    if not wakes or not await connection.fetchval(_IS_ANY_PARKED):
        return 0
    accounts, waits = zip(*wakes, strict=True)
    return _count(await connection.execute(_WAKE, accounts, waits, now_ms))


async def _unsent_before(connection: SqlConnection, outgoing: Sequence[Outgoing]) -> frozenset[str]:
    """Ids of events, not of this plan, that come right before one of the plan and are not acknowledged yet."""
    own = {event.id for event in outgoing}
    previous = [id_ for event in outgoing if (id_ := previous_id(event)) is not None and id_ not in own]
    if not previous:
        return frozenset()
    return frozenset(id_ for (id_,) in await connection.fetch(_UNSENT_AMONG, previous))


def previous_id(event: Outgoing) -> str | None:
    """The id of the event that comes before this one of the same order, if there is one."""
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
    """Whether a key was taken by another worker since we looked: then the plan is sound, and only too late.

    A key that the plan writes twice, or that it never asked about, is the plan's own fault, and deciding again would
    not mend it.
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
            fresh = {(write.order.account, write.order.number) for write in plan.orders}.difference(orders)
            return len(set(events)) == len(events) and bool(fresh)
        case "orders":
            added = [(each.order.account, each.order.number) for each in plan.orders if each.expected_version is None]
            return len(set(added)) == len(added)
        case _:
            return False
