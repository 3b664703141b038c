"""The verification phase over a store and a feed that come along slowly, or lie."""

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
    """Shows these pages one after the other, and the last for ever."""

    def __init__(self, *pages: Page) -> None:
        self._pages = list(pages)
        self.asked = 0

    async def order(self, named: OrderKey) -> Page:
        assert named == ORDER
        self.asked += 1
        return self._pages.pop(0) if len(self._pages) > 1 else self._pages[0]


class Feed:
    """Gives these readings one after the other, and then nothing."""

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


async def test_what_is_still_on_its_way_is_waited_for_and_is_no_finding() -> None:
    store = Store(ABSENT, HALF, GOOD)
    result = await verified(store, Feed((FIRST,), (), (LAST,)))
    assert found(result) == []
    assert (result.orders, result.records, result.events) == (1, 2, 2)
    assert store.asked == 3


async def test_what_never_comes_is_lost_when_the_time_is_over() -> None:
    result = await verified(Store(HALF), Feed((FIRST,)), within_s=0.5)
    assert found(result) == [DiscrepancyKind.LOST]
    (finding,) = result.findings
    assert (finding.order, finding.notification_id) == (ORDER[1], "n2")


async def test_an_event_that_never_comes_is_missing_when_the_time_is_over() -> None:
    assert found(await verified(Store(GOOD), Feed((FIRST,)), within_s=0.5)) == [DiscrepancyKind.MISSING_EVENT]


async def test_a_double_effect_is_not_waited_for() -> None:
    third = structs.replace(LAST, version=3)
    began = time.monotonic()
    assert found(await verified(Store(DOUBLED), Feed((FIRST, LAST, third)))) == [DiscrepancyKind.DOUBLE]
    assert time.monotonic() - began < 5


async def test_a_second_effect_after_the_page_was_seen_shows_by_its_event_and_is_found() -> None:
    third = structs.replace(LAST, version=3)
    assert DiscrepancyKind.DOUBLE in found(await verified(Store(GOOD, DOUBLED), Feed((FIRST, LAST), (third,))))


async def test_events_of_other_orders_are_not_ours_to_judge() -> None:
    other = structs.replace(FIRST, order="SHOP-1")
    assert found(await verified(Store(GOOD), Feed((other, FIRST, LAST)))) == []


async def test_an_event_of_this_run_for_an_order_never_sent_is_found() -> None:
    forged = structs.replace(FIRST, order="L1-0-0000009F")
    assert found(await verified(Store(GOOD), Feed((forged, FIRST, LAST)))) == [DiscrepancyKind.STRANGER]


async def test_a_store_that_cannot_be_read_ends_the_verification() -> None:
    class Gone:
        async def order(self, named: OrderKey) -> Page:
            raise UnreadableAnswer("gone")

    with pytest.raises(UnreadableAnswer, match="gone"):
        await asyncio.wait_for(verified(Gone(), Feed()), 5)
