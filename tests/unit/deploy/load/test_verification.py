"""The verification over a store and a feed that are slow or wrong."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest
from msgspec import structs

from deploy.load import verification
from deploy.load.api import UnreadableAnswer
from deploy.load.judge import ABSENT, DiscrepancyKind, OrderKey, Page, SeenEvent, SentOrder
from deploy.load.progress import NoProgress
from deploy.load.verification import Verified
from deploy.sandbox.notifications import MessageKind
from tests.unit.deploy.load.samples import ORDER, entry, event, notification, order, page

WAIT, PAID = notification("n1", MessageKind.WAITING), notification("n2")
SENT = order((WAIT, "ok", 200), (PAID, "ok", 200))
HALF = page(entry("n1", "applied", version=1), of=(WAIT,))
GOOD = page(entry("n1", "applied", version=1), entry("n2", "applied", version=2), of=(WAIT, PAID))
DOUBLED = page(
    entry("n1", "applied", version=1), entry("n2", "applied", version=2), entry("n2", "applied", version=3),
    of=(WAIT, PAID),
)  # fmt: skip
FIRST, LAST = event(1, HALF), event(2, GOOD)


class Store:
    """Gives these pages one after the other, then the last one for ever."""

    def __init__(self, *pages: Page) -> None:
        self._pages = list(pages)
        self.asked = 0

    async def order(self, named: OrderKey) -> Page:
        assert named == ORDER
        self.asked += 1
        return self._pages.pop(0) if len(self._pages) > 1 else self._pages[0]


class Feed:
    """Gives these events one read after the other, then none."""

    def __init__(self, *readings: Sequence[SeenEvent]) -> None:
        self._readings = list(readings)

    async def read(self) -> list[tuple[SeenEvent, bytes]]:
        reading = self._readings.pop(0) if self._readings else ()
        return [(each, msgspec.json.encode(each)) for each in reading]


async def verified(store: verification.Pages, feed: Feed, *, within_s: float = 10.0) -> Verified:
    orders: dict[OrderKey, SentOrder] = {ORDER: SENT}
    return await verification.verify(
        orders,
        prefix="L1-",
        pages=store,
        feed=feed,
        until=time.monotonic() + within_s,
        stage=NoProgress(),
        quiet_s=0.15,
    )


def found(result: Verified) -> list[DiscrepancyKind]:
    return [finding.kind for finding in result.findings]


async def test_records_still_in_the_log_are_waited_for_and_no_finding() -> None:
    store = Store(ABSENT, HALF, GOOD)
    result = await verified(store, Feed((FIRST,), (), (LAST,)))
    assert found(result) == []
    assert (result.orders, result.records, result.events) == (1, 2, 2)
    assert store.asked == 3


async def test_record_missing_at_the_deadline_is_lost() -> None:
    result = await verified(Store(HALF), Feed((FIRST,)), within_s=0.5)
    assert found(result) == [DiscrepancyKind.LOST]
    (finding,) = result.findings
    assert (finding.order, finding.notification_id) == (ORDER[1], "n2")


async def test_event_missing_at_the_deadline_is_a_finding() -> None:
    assert found(await verified(Store(GOOD), Feed((FIRST,)), within_s=0.5)) == [DiscrepancyKind.MISSING_EVENT]


async def test_double_effect_ends_the_wait() -> None:
    third = structs.replace(LAST, version=3)
    began = time.monotonic()
    assert found(await verified(Store(DOUBLED), Feed((FIRST, LAST, third)))) == [DiscrepancyKind.DOUBLE]
    assert time.monotonic() - began < 5


async def test_second_effect_after_the_page_was_read_is_found_by_its_event() -> None:
    third = structs.replace(LAST, version=3)
    assert DiscrepancyKind.DOUBLE in found(await verified(Store(GOOD, DOUBLED), Feed((FIRST, LAST), (third,))))


async def test_events_of_orders_outside_the_run_are_ignored() -> None:
    other = structs.replace(FIRST, order="SHOP-1")
    assert found(await verified(Store(GOOD), Feed((other, FIRST, LAST)))) == []


async def test_event_of_this_run_for_an_order_never_sent_is_found() -> None:
    forged = structs.replace(FIRST, order="L1-0-0000009F")
    assert found(await verified(Store(GOOD), Feed((forged, FIRST, LAST)))) == [DiscrepancyKind.STRANGER]


async def test_unreadable_store_ends_the_verification() -> None:
    class Gone:
        async def order(self, named: OrderKey) -> Page:
            raise UnreadableAnswer("gone")

    with pytest.raises(UnreadableAnswer, match="gone"):
        await asyncio.wait_for(verified(Gone(), Feed()), 5)
