"""A publisher over producers in memory, with short times."""

import asyncio

import pytest
from msgspec import structs

from ingest.errors import Unavailable
from ingest.kafka.breaker import BreakerPolicy
from ingest.kafka.in_flight import QuotaLimits
from ingest.kafka.publisher import Publisher
from ingest.kafka.supervisor import SupervisorTiming
from schemas.record_format import Record
from tests.support.fakes import MemoryLogger, ProducerObserver
from tests.support.kafka_clients import FakeProducer, acknowledge
from tests.support.waiting import until

RECORD = Record(b"shop-sg:N1", b"a=1&sign=x", (("account", b"shop-sg"),))
TIMING = SupervisorTiming(
    tick_s=0.005,
    check_every_s=0.2,
    check_in_trouble_s=0.02,
    silent_s=0.15,
    start_within_s=0.1,
    start_pause_max_s=0.02,
    rebuild_pause_max_s=0.05,
    flush_s=0.1,
    stop_within_s=0.3,
)
BREAKER_POLICY = BreakerPolicy(failures_max=3, failing_s=0.01, open_s=0.01, open_max_s=0.05, probe_s=0.1)
DEADLINE_S = 0.05
IN_TIME_S = 1.0  # a generous limit, because the machine may be busy
SOON_S = 5.0


class Kit:
    """A publisher, its producers in the order in which they are built, its observer and its log lines."""

    def __init__(self) -> None:
        self.planned: list[FakeProducer] = []
        self.built: list[FakeProducer] = []
        self.observer = ProducerObserver()
        self.logger = MemoryLogger()
        self.refusal: str | None = None
        self.publisher = Publisher(
            build=self.build,
            observer=self.observer,
            logger=self.logger,
            deadline_s=DEADLINE_S,
            refuse_if=lambda: self.refusal,
            limits=QuotaLimits(records_max=10, bytes_max=1_000_000),
            breaker_policy=BREAKER_POLICY,
            timing=TIMING,
        )

    def build(self) -> FakeProducer:
        self.built.append(self.planned.pop(0) if self.planned else FakeProducer(answer=acknowledge))
        return self.built[-1]

    async def start(self, *planned: FakeProducer) -> None:
        self.planned += planned
        await self.publisher.start()

    async def ready(self, *planned: FakeProducer) -> FakeProducer:
        """Start with these producers and wait until one is in service; return it."""
        await self.start(*planned)
        await until(lambda: self.publisher.trouble is None)
        return self.built[-1]

    async def append(self, number: int = 1) -> None:
        await self.publisher.append(structs.replace(RECORD, key=b"shop-sg:N%d" % number))

    async def refused(self, match: str | None = None) -> None:
        """Assert that an append is refused."""
        with pytest.raises(Unavailable, match=match):
            await self.append()

    async def try_append(self, number: int = 1) -> bool:
        """Return whether an append is acknowledged."""
        try:
            await self.append(number)
        except Unavailable:
            return False
        return True

    async def accepted_again(self) -> None:
        """Append until it succeeds."""
        async with asyncio.timeout(SOON_S):
            while not await self.try_append():  # noqa: ASYNC110 - as Alipay does
                await asyncio.sleep(0.005)
