"""Cost of each step of a record in a worker: the parts of its loops, called one after the other on real servers.

Batches of 500 payments of new orders go from Kafka to the order store, and their events to the two topics. A step is
the CPU time of this thread within it; nothing runs beside it, so that what its libraries do later falls to the next
step. The steps of reading and of writing rows are the same functions called again in loops, and take less than within
the whole. The log's thread, and the servers, are counted over all batches.
"""

import os
import time
import tomllib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

from msgspec import Struct
from prometheus_client import CollectorRegistry

from deploy import process
from deploy.authentication import Authenticator
from deploy.logs import LogWriter
from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from schemas import accounts_toml, form, interpret_form, record_format, topics
from tests.benchmarks import end_to_end
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Place, Servers
from tests.benchmarks.receiver_steps import Step
from tests.support.fakes import GroupObserver
from workers import record_bounds, row_codec
from workers.kafka import clients
from workers.kafka.events import KafkaEvents
from workers.kafka.source import KafkaSource
from workers.log_lines import WorkerLog
from workers.metrics import WorkerMetrics
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.redis import clients as redis_clients
from workers.redis.locks import RedisLocks
from workers.settlement.plan import Decide, LoadRequest, LogRecord, ParsedRecord, StoreSnapshot, WritePlan

BATCH = 500
WARMING = 4  # batches that are not measured
ROUNDS = 20  # of the steps in loops

_ABOUT = {
    "poll": "fetched from Kafka and unpacked",
    "lock": "the orders' locks in Redis",
    "read": "everything from the record to the notification, of that:",
    "  decode": "its sizes and headers",
    "  receipt": "the MAC by which a receiver vouches for it",
    "  form": "percent-decoding, grammar, names",
    "  meaning": "the digest, text, amounts and times",
    "decide": "the order's next version, its event",
    "SQL": "one transaction, of that:",
    "  rows": "as tuples for COPY",
    "metrics": "of settled records and of events",
    "log": "a line for each, handed over",
    "  log thread": "rendered and written",
    "events": "taken from the outbox and sent to two topics",
    "mark": "as sent, in the outbox",
    "commit": "the offsets, after a look at the store",
    "release": "the locks, for done-markers",
}


class Figures(Struct, frozen=True, kw_only=True):
    """All steps, their sum without those that are parts of others, and the servers' CPU for each record."""

    records: int
    steps: Sequence[Step]
    sum_us: float
    servers_us: Mapping[str, float]


class _Watch:
    """The CPU time of this thread, by the step in which it was used. A step within another one is not a part of it."""

    def __init__(self) -> None:
        self.used_s: dict[str, float] = defaultdict(float)
        self._step = ""
        self._since_s = time.thread_time()

    @contextmanager
    def step(self, name: str) -> Any:
        before = self._change(name)
        try:
            yield
        finally:
            self._change(before)

    def _change(self, name: str) -> str:
        now_s = time.thread_time()
        self.used_s[self._step] += now_s - self._since_s
        before, self._step, self._since_s = self._step, name, now_s
        return before


class _WatchedStore:
    """The store of `processing`, which keeps the last plan."""

    def __init__(self, store: PostgresOrderStore, watch: _Watch) -> None:
        self._store = store
        self._watch = watch
        self.plan: WritePlan | None = None

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        def decided(snapshot: StoreSnapshot) -> WritePlan:
            with self._watch.step("decide"):
                return decide(snapshot)

        with self._watch.step("SQL"):
            self.plan = await self._store.settle(needs, decided)
        return self.plan

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        with self._watch.step("mark"):
            await self._store.mark_sent(numbers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _WatchedObserver:
    def __init__(self, metrics: WorkerMetrics, log: WorkerLog, watch: _Watch) -> None:
        self._metrics = metrics
        self._log = log
        self._watch = watch
        self.step = metrics.step
        self.parsed_records: Sequence[ParsedRecord] = ()

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        self.parsed_records = parsed_records
        with self._watch.step("metrics"):
            self._metrics.settled(plan, parsed_records)
        with self._watch.step("log"):
            self._log.settled(plan, parsed_records)

    def emitted(self, events: Sequence[Any]) -> None:
        with self._watch.step("metrics"):
            self._metrics.emitted(events)


class _WatchedWorker(Struct, frozen=True, kw_only=True):
    """The parts of a worker."""

    source: KafkaSource
    locks: RedisLocks
    store: _WatchedStore
    processing: Processing
    accounts: AccountsInUse
    authenticator: Authenticator
    watch: _Watch


async def measure(given: Servers, *, count: int) -> Figures:
    """So many records, and some more before them that are not measured."""
    requests = await corpus.requests(given.world, count + WARMING * BATCH, seed=7_000_000)
    place = await servers.place(given)
    await servers.fill(given, place.prefix, corpus.records(requests, servers.receipt_key(place)))
    with cores.on(cores.MEASURED):
        async with _worker(given, place) as worker:
            process.freeze_heap()
            seen = 0
            while seen < WARMING * BATCH:
                seen += len(await _batch(worker))
            worker.watch.used_s.clear()
            before, all_s, own_s = given.cpu_s(), time.process_time(), time.thread_time()
            measured = 0
            while seen + measured < len(requests):
                measured += len(batch := await _batch(worker))
            own_s, all_s = time.thread_time() - own_s, time.process_time() - all_s
            used_s = worker.watch.used_s | {"  log thread": all_s - own_s}
            after = given.cpu_s()
            used_us = {name: used / measured * 1e6 for name, used in used_s.items()} | _parts_us(worker, batch)
    return Figures(
        records=measured,
        steps=[Step(name=name, about=about, cpu_us=used_us[name]) for name, about in _ABOUT.items()],
        sum_us=all_s / measured * 1e6,
        servers_us={who: (after[who] - before[who]) / measured * 1e6 for who in after},
    )


async def _batch(worker: _WatchedWorker) -> Sequence[LogRecord]:
    """Bring one batch from Kafka to the end of its events."""
    step, token = worker.watch.step, os.urandom(8)
    with step("poll"):
        batch = await worker.source.poll(BATCH)
    if not batch:
        return batch
    last = {each.record.key: each.position for each in batch}
    with step("lock"):
        await worker.locks.acquire(list(last), token)
    with step("read"):  # `process` is what is left of it without deciding, storing and observing
        await worker.processing.process(batch)
    with step("events"):
        while await worker.processing.emit(BATCH):
            pass
    with step("commit"):
        await worker.source.commit([*{each.position.partition: each.position for each in batch}.values()])
    with step("release"):
        await worker.locks.release(list(last), token, last)
    return batch


def _parts_us(worker: _WatchedWorker, batch: Sequence[LogRecord]) -> dict[str, float]:
    """The functions within reading, and those that make rows, each for all of a batch at once."""
    account = worker.accounts[end_to_end.ACCOUNT]
    contents = [record_format.decode(each.record) for each in batch]
    forms = [form.read(each.body) for each in contents]
    plan = worker.store.plan
    assert plan is not None

    def rows() -> None:
        list(map(row_codec.order_row, plan.orders, repeat(0)))
        list(map(row_codec.outbox_row, plan.events, repeat(0)))
        list(map(row_codec.ledger_row, plan.ledger))
        list(map(row_codec.delivery_row, plan.deliveries))

    def decode() -> None:
        for each in batch:
            record_bounds.check(each.record)
            record_format.decode(each.record)

    parts: dict[str, Callable[[], Any]] = {
        "  decode": decode,
        "  receipt": lambda: [worker.authenticator.authenticate(each, account) for each in contents],
        "  form": lambda: [form.read(each.body) for each in contents],
        "  meaning": lambda: [interpret_form.read(each, account) for each in forms],
        "  rows": rows,
    }
    return {name: min(_took_s(run) for _ in range(ROUNDS)) / len(batch) * 1e6 for name, run in parts.items()}


def _took_s(run: Callable[[], Any]) -> float:
    before_s = time.thread_time()
    run()
    return time.thread_time() - before_s


@asynccontextmanager
async def _worker(given: Servers, place: Place) -> AsyncIterator[_WatchedWorker]:
    assert given.stack.redis is not None
    accounts_file, kafka = given.world.accounts_file, {"bootstrap_servers": given.kafka}
    accounts = accounts_toml.parse(tomllib.loads(accounts_file.read_text(encoding="utf-8")))
    in_use = AccountsInUse(accounts_in_use.load(accounts, accounts_file.parent))
    authenticator = Authenticator(in_use, [servers.receipt_key(place)])
    watch = _Watch()
    async with AsyncExitStack() as stack:
        store = _WatchedStore(await PostgresOrderStore.open(place.postgres, holder=place.told["group"]), watch)
        stack.push_async_callback(store.close)
        now_ms = store.clock.epoch_ms
        locks = RedisLocks(redis_clients.connect(given.stack.redis.url))
        stack.push_async_callback(locks.close)
        events = KafkaEvents(lambda: clients.producer(kafka), named=lambda topic: topics.named(topic, place.prefix))
        stack.push_async_callback(events.stop)
        source = KafkaSource(
            lambda: clients.consumer(kafka, group=place.told["group"]),
            topic=topics.named(topics.NOTIFICATION, place.prefix),
            last_settled=store.last_settled,
            all_settled=store.all_settled,
            observer=GroupObserver(),
        )
        stack.push_async_callback(source.stop)
        lines = LogWriter(stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")))  # noqa: ASYNC230, SIM115
        lines.start()
        stack.callback(lines.close)
        metrics = WorkerMetrics(CollectorRegistry(), in_use, now_ms=now_ms)
        processing = Processing(
            accounts=in_use,
            authenticate=authenticator.authenticate,
            store=store,
            events=events,
            observer=_WatchedObserver(metrics, WorkerLog(lines), watch),
            now_ms=now_ms,
        )
        yield _WatchedWorker(
            source=source,
            locks=locks,
            store=store,
            processing=processing,
            accounts=in_use,
            authenticator=authenticator,
            watch=watch,
        )


def table(figures: Figures) -> str:
    """All steps as text."""
    lines = [f"{each.name:16}{each.cpu_us:8.2f}  {each.about}" for each in figures.steps]
    lines.append(f"{'all of it':16}{figures.sum_us:8.2f}  a worker's CPU µs for a record, without its admin port")
    return "\n".join(lines + [f"{who:16}{used:8.2f}  beside it" for who, used in figures.servers_us.items()])
