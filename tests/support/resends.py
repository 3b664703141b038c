"""Publishing again from an order store in memory."""

from schemas import topics
from tests.support.stores import MemoryStore
from workers import resends
from workers.resends import ResendRefusal, SentEvent


class MemoryResends:
    """Moves events to the end of the outbox, by the rules of `workers.resends`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def resend(
        self, scope: str, number: str, version: int | None, *, by: str, why: str, now_ms: int
    ) -> tuple[int, ...] | ResendRefusal:
        store, order = self._store, f"{scope}:{number}"
        if (scope, number) not in store.orders:
            return ResendRefusal.UNKNOWN_ORDER
        events = [
            SentEvent(index, int(event.id.rpartition(":")[2]), index in store.sent_at_ms)
            for index, event in enumerate(store.outbox, 1)
            if event.topic == topics.ORDER_EVENT and event.id.rpartition(":")[0] == order
        ]
        found = resends.chosen(events, version)
        if isinstance(found, ResendRefusal):
            return found
        moved = {event.number for event in found}
        stay = [
            (event, store.sent_at_ms.get(index)) for index, event in enumerate(store.outbox, 1) if index not in moved
        ]
        again = [(store.outbox[event.number - 1], None) for event in found]
        store.outbox = [event for event, _ in (*stay, *again)]
        store.sent_at_ms = {index: at_ms for index, (_, at_ms) in enumerate(stay, 1) if at_ms is not None}
        store.audit += [("resend", f"{order}:{event.version}", by, why) for event in found]
        return tuple(event.version for event in found)
