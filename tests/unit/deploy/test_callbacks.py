"""What a process without endpoints does about those that were configured before."""

import asyncio
from collections.abc import Sequence
from typing import cast

from deploy import callbacks
from tests.support.fakes import MemoryLogger
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

    async def configure(self, configured: Sequence[Endpoint], *, now_ms: int) -> Sequence[str]:
        self.noted.append((configured, now_ms))
        self.is_configured = False
        return ["shop"]


class Place:
    """One process without endpoints; `is_leading` if no other one sends."""

    def __init__(self, store: Store) -> None:
        self.log = MemoryLogger()
        self.is_leading, self.asked = True, 0
        self.running = asyncio.create_task(
            callbacks.note_none(
                cast(DeliveriesPort, store),
                logger=self.log,
                now_ms=lambda: NOW_MS,
                leads=self.leads,
                look_every_s=0.001,
            )
        )

    async def leads(self) -> bool:
        self.asked += 1
        return self.is_leading


async def test_endpoints_that_are_left_are_noted_and_logged_as_soon_as_the_store_answers() -> None:
    store = Store(failures=2, has_configured=True)
    place = Place(store)
    await until(lambda: store.asked > 5)
    assert (store.noted, place.running.done()) == ([([], NOW_MS)], False)
    assert place.log.lines == [("callback_removed", {"endpoint": "shop"})]
    place.running.cancel()


async def test_endpoints_of_a_process_that_sends_are_left_alone_until_it_is_gone() -> None:
    store = Store(failures=0, has_configured=True)
    place = Place(store)
    place.is_leading = False
    await until(lambda: place.asked > 5)
    assert store.noted == []
    place.is_leading = True
    await until(lambda: bool(store.noted))
    place.running.cancel()


async def test_without_any_the_lease_is_not_asked_for() -> None:
    store = Store(failures=0, has_configured=False)
    place = Place(store)
    await until(lambda: store.asked > 5)
    assert (place.asked, store.noted, place.log.lines) == (0, [], [])
    place.running.cancel()
