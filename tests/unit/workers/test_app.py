"""The worker as a whole: its three loops, and which trouble stops which of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from deploy.embedded.locks import LocalLocks
from schemas.record_format import Record
from tests.support import log_records
from tests.support.fakes import MemoryLogger, MemoryTopics
from tests.support.stores import MemoryStore
from tests.support.waiting import until
from workers import metrics
from workers.app import Worker, working
from workers.errors import InfrastructureDown
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.settlement.plan import LogRecord, Position


class Source:
    """A log of these records, which keeps the committed positions."""

    def __init__(self, *records: Record) -> None:
        self.coming = log_records.logged(records)
        self.committed: list[Position] = []

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        await asyncio.sleep(0.001)
        batch, self.coming = self.coming[:1], self.coming[1:]
        return batch

    async def commit(self, upto: Sequence[Position]) -> None:
        self.committed += upto


@asynccontextmanager
async def worker(source: Source, topics: MemoryTopics, store: MemoryStore, log: MemoryLogger) -> AsyncIterator[Worker]:
    time = log_records.Time()
    counted = metrics.WorkerMetrics(CollectorRegistry(), log_records.ACCOUNTS, now_ms=time)
    async with working(
        accounts=log_records.ACCOUNTS,
        authenticate=log_records.anybody_signed_this,
        source=source,
        store=store,
        locks=LocalLocks(),
        events=topics,
        woken=asyncio.Event(),
        observer=Observers(metrics=counted, log=WorkerLog(log, sample=1), changes=OrderChanges()),
        logger=log,
        token=b"w",
        now_ms=time,
    ) as running:
        yield running


async def test_orders_change_while_the_event_topic_is_away_and_events_follow() -> None:
    source = Source(*(log_records.record(f"N{number}") for number in range(5)))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    topics.down = True
    async with worker(source, topics, store, log):
        await until(lambda: len(source.committed) == 5)
        assert topics.events == []
        topics.down = False
        await until(lambda: len(topics.events) == 5)


async def test_stop_does_not_wait_for_the_event_topic() -> None:
    source = Source(log_records.record("N1"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    topics.down = True
    async with asyncio.timeout(5), worker(source, topics, store, log):
        await until(lambda: source.committed)
    assert len(await store.unsent(10)) == 1


async def test_stop_sends_the_events_of_the_last_batch() -> None:
    source = Source(log_records.record("N1"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(source, topics, store, log):
        await until(lambda: source.committed)
    assert len(topics.events) == 1


async def test_stopped_worker_reports_the_reason_and_still_sends_its_events() -> None:
    bad = Record(b"x", b"x", ())
    source = Source(log_records.record("N1"), *[bad] * 20, log_records.record("N2"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    topics.down = True
    async with worker(source, topics, store, log) as running:
        await until(lambda: running.trouble)
        topics.down = False
        await until(lambda: len([event for event in topics.events if event.topic.startswith("payments.order")]) == 1)
        assert "held list" in running.trouble
        assert log.of("worker stopped") == [{"error": running.trouble}]
        assert source.coming, "the rest of the log is left alone"


async def test_bug_in_one_loop_stops_the_worker() -> None:
    class Failing(Source):
        async def poll(self, max_records: int) -> Sequence[LogRecord]:
            raise KeyError("ours")

    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(Failing(), topics, store, log) as running:
        await until(lambda: running.trouble)
    assert running.trouble == "failed: KeyError"


async def test_unavailable_log_is_retried() -> None:
    class Away(Source):
        fails = 2

        async def poll(self, max_records: int) -> Sequence[LogRecord]:
            if self.fails:
                self.fails -= 1
                raise InfrastructureDown("no broker")
            return await super().poll(max_records)

    source = Away(log_records.record("N1"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(source, topics, store, log) as running:
        await until(lambda: source.committed)
        assert running.trouble == ""
