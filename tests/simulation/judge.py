"""What must be true at the end of a history, whatever has happened in it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from schemas import topics
from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from tests.simulation import ports
from tests.support import facts, model
from tests.support.world import members
from workers.replays import ReplayState
from workers.settlement.plan import Delivery, Position

if TYPE_CHECKING:
    from tests.simulation.history import World


def wrong(world: "World", *, late: int, behind: set[Position]) -> list[str]:
    """Return what is wrong; nothing if every promise is kept.

    `late` senders are without an answer. `behind` were in the log when the trouble ended, and had no disposition when
    the workers should have caught up.
    """
    return [
        *world.group.untrue,
        *_unquiet(world, late, behind),
        *_log_and_dispositions(world),
    ]


def _unquiet(world: "World", late: int, behind: set[Position]) -> Iterator[str]:
    """After everything is well again, all that was sent is processed, and nothing waits."""
    if behind:
        yield f"long after the trouble, still without a disposition: {_shown(behind)}"
    if late:
        yield f"{late} senders are without `success`"
    for worker in world.workers:
        if trouble := worker.worker.trouble or worker.worker.loops_trouble:
            yield f"{worker.name} stopped by itself: {trouble}"
    if not world.group.is_at_the_end:
        ends = [len(records) for records in world.log.partitions]
        yield f"the workers are at {world.group.committed}, and the log ends at {ends}"
    unsent = len(world.memory.outbox) - len(world.memory.sent_at_ms)
    if unsent:
        yield f"{unsent} events are unsent"
    if world.memory.due_now(now_ms=world.now_ms() - 15_000):
        yield "a parked notification is overdue"
    if any(task.state is ReplayState.RUNNING for task in world.memory.tasks.values()):
        yield "a replay is not finished"


def _log_and_dispositions(world: "World") -> Iterator[str]:
    logged = world.log.positions()
    ids = _ids(world)
    lost = world.acknowledged - {ids[_bytes(record)] for record in logged.values()}
    if lost:
        yield f"acknowledged, and not in the log: {sorted(lost)}"
    deliveries = world.memory.deliveries
    if logged.keys() - deliveries.keys():
        yield f"without a disposition: {_shown(logged.keys() - deliveries.keys())}"
    if deliveries.keys() - logged.keys():
        yield f"a disposition without a record: {_shown(deliveries.keys() - logged.keys())}"
    applied: Counter[tuple[str, str]] = Counter()
    for position, delivery in deliveries.items():
        if delivery.disposition is Disposition.DEAD and not _is_fatal(world, delivery, logged):
            yield f"{position} is dead: {delivery.reason} {delivery.detail}"
        if delivery.disposition is Disposition.APPLIED and position in logged:
            applied[ids[_bytes(logged[position])]] += 1
    if twice := sorted(id_ for id_, count in applied.items() if count > 1):
        yield f"applied more than once: {twice}"


def _is_fatal(world: "World", delivery: Delivery, logged: Mapping[Position, Record]) -> bool:
    """Return whether it is dead because it ends whatever process reads it."""
    fatal = set[bytes]() if world.fatal is None else world.fatal.bodies
    return delivery.reason is Reason.ENDED_PROCESS and logged[delivery.position].value in fatal


def wrong_orders(world: "World") -> list[str]:
    """Return what is wrong with the orders and with what is told of them."""
    return [*_orders(world), *_events(world)]


def _orders(world: "World") -> Iterator[str]:
    for account, sent in world.facts.items():
        registered = {"A": world.registered[account]} if account in world.registered else {}
        truth = model.final(sent, facts.settings(facts.ACCOUNTS[account]), registered)
        seen = {number: page for number in truth if (page := _page(world, account, number))}
        if seen != truth:
            yield f"{account}: the orders are {seen}, and should be {truth}"
        orders = [order for (scope, _), order in world.memory.orders.items() if scope == account and not order.is_note]
        if len(orders) != len(truth):
            yield f"{account}: there are {len(orders)} orders, and should be {len(truth)}"


def _page(world: "World", account: str, number: str) -> dict[str, Any] | None:
    """Return what an order's page shows. Its number may be another one of the same payment's."""
    page = ports.finished(world.memory.order_page(account, number))
    if page is None or page.view is None:
        return None
    return members(page.view)


def _events(world: "World") -> Iterator[str]:
    """Every version of an order is told, all copies of an event are equal, and first copies are in version order."""
    first: dict[str, bytes] = {}
    told: dict[bytes, list[int]] = {}
    for event in world.sent:
        if event.topic != topics.ORDER_EVENT:
            continue
        if event.id not in first:
            first[event.id] = event.value
            told.setdefault(event.key, []).append(msgspec.json.decode(event.value)["version"])
        elif first[event.id] != event.value:
            yield f"two events have the id {event.id}"
    for (scope, number), order in world.memory.orders.items():
        versions = told.pop(f"{scope}:{number}".encode(), [])
        if versions != list(range(1, order.version + 1)):
            yield f"{scope}:{number} has version {order.version}, and its events came as {versions}"
    if told:
        yield f"events of orders that do not exist: {sorted(told)}"


def _ids(world: "World") -> dict[tuple[bytes, bytes], tuple[str, str]]:
    return {_bytes(record): (notice.account, notice.id) for notice in world.notices for record in notice.records}


def _bytes(record: Record) -> tuple[bytes, bytes]:
    return record.key, record.value


def _shown(positions: set[Position]) -> list[str]:
    return [str(position) for position in sorted(positions)]
