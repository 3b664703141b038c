"""The worker as a whole: its four loops, and which trouble stops which of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.embedded.locks import LocalLocks
from schemas.record_format import Record
from tests.support import log_records
from tests.support.begun import NoNotes
from tests.support.fakes import MemoryLogger, MemoryTopics
from tests.support.stores import MemoryStore
from tests.support.waiting import until
from workers import metrics
from workers.app import Worker, working
from workers.errors import InfrastructureDown
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.outbox_relay import Relay
from workers.replays import Replayer
from workers.restarts import LoopName, RestartedLoop
from workers.settlement.plan import LogRecord, Position
from workers.sweeper import Sweeper


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = RestartedLoop.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "first_wait_s", 0.01)


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


async def keep(loop: LoopName) -> None:
    """Let go of nothing."""


@asynccontextmanager
async def worker(
    source: Source,
    topics: MemoryTopics,
    store: MemoryStore,
    log: MemoryLogger,
    *,
    let_go: Callable[[LoopName], Awaitable[None]] = keep,
    is_consumer_restarted: bool = False,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Worker]:
    time = log_records.Time()
    counted = metrics.WorkerMetrics(registry or CollectorRegistry(), log_records.ACCOUNTS, now_ms=time)
    async with working(
        accounts=log_records.ACCOUNTS,
        authenticate=log_records.anybody_signed_this,
        source=source,
        store=store,
        locks=LocalLocks(),
        events=topics,
        woken=asyncio.Event(),
        observer=Observers(metrics=counted, log=WorkerLog(log, sample=1), changes=OrderChanges()),
        token=b"w",
        now_ms=time,
        let_go=let_go,
        is_consumer_restarted=is_consumer_restarted,
        begun=NoNotes(),
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


async def test_event_of_a_record_after_a_pause_waits_for_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    for loop in (Relay, Sweeper, Replayer):
        defaults = loop.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "look_every_s", 3600)
    source, topics, store = Source(), MemoryTopics(), MemoryStore()
    async with worker(source, topics, store, MemoryLogger()):
        for number in range(3):
            await asyncio.sleep(0.02)
            source.coming = log_records.logged([log_records.record(f"N{number}")], first=number + 1)
            await until(lambda count=number + 1: len(topics.events) == count)  # type: ignore[misc]


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


BAD = Record(b"x", b"x", ())


async def test_stopped_worker_reports_the_reason_and_still_sends_its_events() -> None:
    source = Source(log_records.record("N1"), *[BAD] * 20, log_records.record("N2"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    registry = CollectorRegistry()
    topics.down = True
    async with worker(source, topics, store, log, registry=registry) as running:
        await running.has_stopped.wait()
        topics.down = False
        await until(lambda: len([event for event in topics.events if event.topic.startswith("payments.order")]) == 1)
        assert "held list" in running.trouble
        line = {"error": running.trouble, "loop": "consumer", "reason": "dead_letters"}
        assert log.of("worker stopped") == [line]
        assert source.coming, "the rest of the log is left alone"
    labels = {"loop": "consumer", "reason": "dead_letters"}
    assert registry.get_sample_value("alipay_notify_worker_loop_failures_total", labels) == 1


async def test_worker_that_is_restarted_after_dead_letters_stops_at_the_next_one() -> None:
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(Source(*[BAD] * 20), topics, store, log) as running:
        await running.has_stopped.wait()
    later = Source(*[BAD] * 3)
    later.coming = log_records.logged([BAD] * 3, first=21)
    async with worker(later, topics, store, log) as running:
        await running.has_stopped.wait()
        assert len(later.coming) == 2


class FailingSource(Source):
    """A log whose poll fails by our own bug so many times."""

    fails = 1

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        if self.fails:
            self.fails -= 1
            raise KeyError("ours")
        return await super().poll(max_records)


async def test_bug_in_the_consumer_stops_the_worker_which_lets_go_of_its_partitions() -> None:
    let_go: list[LoopName] = []

    async def note(loop: LoopName) -> None:
        let_go.append(loop)

    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(FailingSource(), topics, store, log, let_go=note) as running:
        await running.has_stopped.wait()
        assert let_go == [LoopName.CONSUMER]
    assert running.trouble == "failed: KeyError"
    assert running.loops_trouble == ""


async def test_restarted_consumer_polls_again_when_it_has_let_go() -> None:
    source = FailingSource(log_records.record("N1"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(source, topics, store, log, is_consumer_restarted=True) as running:
        await until(lambda: source.committed)
        assert running.trouble == "failed: KeyError", "until it has run for a while"
        assert not running.has_stopped.is_set()


async def test_bad_records_make_a_restarted_consumer_stop_at_each_until_one_is_good() -> None:
    source = Source(*[BAD] * 22, log_records.record("N1"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with worker(source, topics, store, log, is_consumer_restarted=True):
        await until(lambda: len(source.committed) == 20, within_s=20)
        assert len(store.held) == 22
    failures = [line["reason"] for line in log.of("worker loop failed")]
    assert failures == ["dead_letters"] * 3


@pytest.mark.parametrize("method", ["due", "running_replay", "unsent"])
async def test_bug_in_another_loop_restarts_that_loop_alone(method: str) -> None:
    name = {"due": "sweeper", "running_replay": "replayer", "unsent": "relay"}[method]
    source = Source(*(log_records.record(f"N{number}") for number in range(5)))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    real = getattr(store, method)
    fails = True

    async def failing(*arguments: Any, **options: Any) -> Any:
        if fails:
            raise KeyError("ours")
        return await real(*arguments, **options)

    setattr(store, method, failing)
    async with worker(source, topics, store, log) as running:
        await until(lambda: len(source.committed) == 5)
        await until(lambda: running.loops_trouble)
        assert running.loops_trouble == f"{name} failed: KeyError"
        assert (running.trouble, running.has_stopped.is_set()) == ("", False)
        fails = False
        await until(lambda: len(topics.events) == 5)
    assert {line["loop"] for line in log.of("worker loop failed")} == {name}


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


@pytest.mark.parametrize("name", LoopName)
async def test_loop_whose_task_is_cancelled_by_mistake_is_restarted(name: LoopName) -> None:
    source = Source(log_records.record("N1"))
    topics, store, log = MemoryTopics(), MemoryStore(), MemoryLogger()
    async with asyncio.timeout(5), worker(source, topics, store, log, is_consumer_restarted=True) as running:
        await until(lambda: source.committed)
        running._running[name].cancel()
        await until(lambda: log.of("worker loop failed"))
        source.coming = log_records.logged([log_records.record("N2")], first=2)
        await until(lambda: len(source.committed) == 2)
    assert len(topics.events) == 2
    assert log.of("worker loop failed")[0]["loop"] == name
