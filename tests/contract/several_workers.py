"""Several workers on one cluster store: shortcuts for the suites that need more than one."""

from collections.abc import Awaitable, Callable, Sequence

from schemas import topics
from schemas.events import Outgoing
from schemas.record_format import Record
from workers.postgres import orphans
from workers.postgres.store import PostgresOrderStore
from workers.settlement.plan import LogRecord, Position

ORPHANED_AFTER_MS = round(1000 * orphans.ORPHANED_AFTER_S)
LOOK_EVERY_MS = round(1000 * orphans.LOOK_EVERY_S)
WALK_AGAIN_MS = round(1000 * orphans.WALK_AGAIN_S)

Opener = Callable[[int], Awaitable[list[PostgresOrderStore]]]


def at(partition: int, offset: int, record: Record) -> LogRecord:
    return LogRecord(Position(partition, offset), record)


async def sent(store: PostgresOrderStore) -> list[str]:
    """Send what this worker would send now, and mark it as sent; return the names."""
    waiting = await store.unsent(100)
    await store.mark_sent([number for number, _ in waiting])
    return names(waiting)


def names(waiting: Sequence[tuple[int, Outgoing]]) -> list[str]:
    """Name the order events by their ids, and the states that go to the compacted topic only; leave out notices."""
    states = [f"state of {event.id}" for _, event in waiting if event.topic == topics.ORDER_STATE]
    return [event.id for _, event in waiting if event.topic == topics.ORDER_EVENT] + states
