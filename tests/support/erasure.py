"""Erasure in an order store in memory."""

from msgspec import structs

from schemas import personal
from tests.support.stores import MemoryStore
from workers.erasure import ErasedOrder, ErasedSome
from workers.settlement.plan import Position


class MemoryErasure:
    """Erases orders; the results of `erase_old` are given by the test."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.steps: list[ErasedSome | Exception] = []
        self.asked: list[int] = []  # the moments before which it was to erase

    async def erase_old(self, *, older_than_ms: int, now_ms: int) -> ErasedSome:
        self.asked.append(older_than_ms)
        step = self.steps.pop(0) if self.steps else ErasedSome(count=0, is_more=False)
        if isinstance(step, Exception):
            raise step
        return step

    async def erase_order(self, scope: str, number: str, *, by: str, why: str, now_ms: int) -> ErasedOrder | None:
        store = self._store
        page = await store.order_page(scope, number)
        if page is None:
            return None
        held = tuple(hold.position for hold in page.holds if not hold.resolution)
        places = {each.position for each in page.deliveries}.difference(held)
        count = sum(self._erase(position, now_ms) for position in sorted(places))
        store.audit.append(("erase", f"{page.account}:{page.number}", by, why))
        return ErasedOrder(count=count, held=held, is_more=False)

    def _erase(self, position: Position, now_ms: int) -> bool:
        store, delivery = self._store, self._store.deliveries[position]
        key = (delivery.account, delivery.notification_id)
        entry, page = store.ledger.get(key), store.pages.get(position)
        is_own = entry is not None and entry.position == position and key not in store.erased_at_ms
        if page is not None and page.erased_at_ms is None:
            row = structs.replace(page.row, record=personal.erased(page.row.record))
            store.pages[position] = structs.replace(page, row=row, erased_at_ms=now_ms)
            is_own |= entry is None
        if entry is not None and is_own:
            store.ledger[key] = structs.replace(entry, record=personal.erased(entry.record))
            store.erased_at_ms[key] = now_ms
        return is_own
