"""What a process without endpoints does about those that were configured before."""

import asyncio
from collections.abc import Sequence
from typing import cast

from deploy import callbacks
from tests.support.log_records import NOW_MS
from tests.support.waiting import until
from workers.callbacks.deliveries import DeliveriesPort
from workers.callbacks.endpoints import Endpoint
from workers.errors import ReadTooSlow


class Store:
    """Has an endpoint that is noted as configured, and is too slow at first."""

    def __init__(self, *, failures: int, has_configured: bool) -> None:
        self.failures, self.is_configured = failures, has_configured
        self.asked = 0
        self.noted: list[tuple[Sequence[Endpoint], int]] = []

    async def has_configured(self) -> bool:
        self.asked += 1
        if self.asked <= self.failures:
            raise ReadTooSlow("whether an endpoint is configured")
        return self.is_configured

    async def configure(self, configured: Sequence[Endpoint], *, now_ms: int) -> None:
        self.noted.append((configured, now_ms))
        self.is_configured = False


def noting(store: Store) -> asyncio.Task[None]:
    port = cast(DeliveriesPort, store)
    return asyncio.create_task(callbacks.note_none(port, now_ms=lambda: NOW_MS, again_after_s=0.001))


async def test_endpoints_that_are_left_are_noted_as_soon_as_the_store_answers() -> None:
    store = Store(failures=2, has_configured=True)
    running = noting(store)
    await until(lambda: bool(store.noted))
    await asyncio.sleep(0.01)
    assert (store.asked, store.noted, running.done()) == (3, [([], NOW_MS)], False)
    running.cancel()


async def test_without_any_the_store_is_asked_once() -> None:
    store = Store(failures=0, has_configured=False)
    running = noting(store)
    await asyncio.sleep(0.01)
    assert (store.asked, store.noted, running.done()) == (1, [], False)
    running.cancel()
