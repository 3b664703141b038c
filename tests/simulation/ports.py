"""The places that a receiver and workers talk to, in memory: log, consumer group, order store, locks, topics.

Each place has its state, which survives every process, and a port through which one process uses it. A place may lie
only as the real one can: it may do the work and lose the answer, it never says that it has done what it has not.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

from ingest.kafka.batches import Builder
from ingest.kafka.in_flight import AppendFailure, ProducerFault
from schemas.events import Outgoing
from schemas.orders import Order
from schemas.record_format import Record
from tests.simulation.weather import Killed, Process, Weather
from tests.support.begun import MemoryBegun
from tests.support.stores import MemoryStore
from workers.emission import EVERYTHING, NOTHING_AWAY, Away, Published
from workers.errors import InfrastructureDown, VersionConflict
from workers.fatal_records import Begun
from workers.locks import LockResult
from workers.queries import HeldPage, HeldPlace, HeldQuery
from workers.replays import ReplayTask
from workers.settlement.plan import (
    Decide,
    HeldRow,
    LoadRequest,
    LogRecord,
    Position,
    StoreSnapshot,
    WritePlan,
)

T = TypeVar("T")

PARTITIONS = 3
SESSION_S = 6.0
LOCK_S = 8.0
IDLE_S = 2.5
BATCH_MAX = 8


class Log:
    """The notification topic: records by partition, with each offset one higher than the last."""

    def __init__(self) -> None:
        self.partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]

    def append(self, record: Record, partition: int) -> None:
        self.partitions[partition].append(record)

    def positions(self) -> dict[Position, Record]:
        return {
            Position(partition, offset): record
            for partition, records in enumerate(self.partitions)
            for offset, record in enumerate(records)
        }


class SimulatedBatch:
    """A batch in the making."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> object:
        if len(self.records) == BATCH_MAX:
            return None
        self.records.append(Record(key, value, tuple(headers)))
        return self


class SimulatedProducer:
    """`ingest.kafka.in_flight.Producer` of one receiver: each batch is a request of its own."""

    def __init__(self, log: Log, process: Process, weather: Weather, chance: Random) -> None:
        self.has_ended = False
        self.partitions = 0
        self._log = log
        self._process = process
        self._weather = weather
        self._chance = chance
        self._requests: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.partitions = await self._weather.call(self._process, "log", lambda: PARTITIONS)

    def new_batch(self) -> SimulatedBatch:
        return SimulatedBatch()

    def leader(self, partition: int, /) -> int | None:
        return self._chance.choice((None, 1, 2))

    def send(self, batch: Builder, partition: int, /) -> asyncio.Future[Any]:
        assert isinstance(batch, SimulatedBatch)
        delivered = asyncio.get_running_loop().create_future()
        request = asyncio.create_task(self._request(batch.records, partition, delivered))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return delivered

    async def _request(self, records: list[Record], partition: int, delivered: asyncio.Future[Any]) -> None:
        def written() -> None:
            for record in records:
                self._log.append(record, partition)

        try:
            await self._weather.call(self._process, "log", written)
        except (InfrastructureDown, Killed) as error:
            if not delivered.done():
                delivered.set_exception(TimeoutError(str(error)))
                delivered.exception()  # nobody may wait for it any more
            return
        if not delivered.done():
            delivered.set_result(None)

    async def refresh_metadata(self) -> bool:
        try:
            await self._weather.call(self._process, "log", lambda: None)
        except InfrastructureDown:
            return False
        return True

    async def close(self, *, flush_s: float) -> None:
        self.has_ended = True
        if self._requests:
            await asyncio.wait(list(self._requests), timeout=flush_s)

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        return ProducerFault.CLOSED if self._chance.random() < 0.2 else None

    def failure_of(self, error: BaseException) -> AppendFailure:
        return AppendFailure.UNKNOWN


class Group:
    """The consumer group: committed offsets, and which member has which partitions. A silent member is dropped."""

    def __init__(self, log: Log, is_settled: Callable[[Position], bool]) -> None:
        self.log = log
        self.committed = [0] * PARTITIONS
        self.generation = 0
        self.untrue: list[str] = []
        self._is_settled = is_settled
        self._seen_s: dict[Process, float] = {}

    @property
    def is_at_the_end(self) -> bool:
        return self.committed == [len(records) for records in self.log.partitions]

    def join(self, process: Process, now_s: float) -> None:
        silent = [each for each, seen_s in self._seen_s.items() if now_s - seen_s > SESSION_S]
        for each in silent:
            del self._seen_s[each]
        if silent or process not in self._seen_s:
            self.generation += 1
        self._seen_s[process] = now_s

    def leave(self, process: Process) -> None:
        if self._seen_s.pop(process, None) is not None:
            self.generation += 1

    def assigned(self, process: Process) -> list[int]:
        members = list(self._seen_s)
        return [] if process not in members else list(range(members.index(process), PARTITIONS, len(members)))

    def commit(self, upto: Sequence[Position]) -> None:
        for position in upto:
            missing = [
                offset
                for offset in range(self.committed[position.partition], position.offset + 1)
                if not self._is_settled(Position(position.partition, offset))
            ]
            if missing:
                self.untrue.append(f"{position} is committed, and {missing} have no disposition")
            self.committed[position.partition] = max(self.committed[position.partition], position.offset + 1)


class SimulatedSource:
    """`workers.consumer.Source` of one worker."""

    def __init__(self, group: Group, process: Process, weather: Weather, chance: Random) -> None:
        self._group = group
        self._process = process
        self._weather = weather
        self._chance = chance
        self._generation = -1
        self._batch_generation = -1
        self._next: dict[int, int] = {}

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        batch = await self._weather.call(self._process, "log", lambda: self._taken(max_records), may_lose=False)
        if not batch:
            await asyncio.sleep(IDLE_S)
        return batch

    def _taken(self, max_records: int) -> list[LogRecord]:
        group = self._group
        group.join(self._process, asyncio.get_running_loop().time())
        if group.generation != self._generation:
            self._generation = group.generation
            self._next = {partition: self.first_offset(partition) for partition in group.assigned(self._process)}
        batch: list[LogRecord] = []
        for partition in self._chance.sample(sorted(self._next), len(self._next)):
            records = group.log.partitions[partition]
            upto = min(len(records), self._next[partition] + self._chance.randint(1, BATCH_MAX))
            offsets = range(self._next[partition], upto)
            batch += [LogRecord(Position(partition, offset), records[offset]) for offset in offsets]
            self._next[partition] = upto
        self._batch_generation = self._generation
        return batch

    def first_offset(self, partition: int) -> int:
        return self._group.committed[partition]

    async def commit(self, upto: Sequence[Position]) -> None:
        await self._weather.call(self._process, "log", lambda: self._committed(upto))

    def _committed(self, upto: Sequence[Position]) -> None:
        if self._batch_generation == self._group.generation:
            self._group.commit(upto)


class SimulatedStore:
    """The order store of one process: a transaction is decided on what it loaded, and refused if that has changed."""

    def __init__(self, memory: MemoryStore, process: Process, weather: Weather) -> None:
        self.memory = memory
        self._process = process
        self._weather = weather

    async def settle(self, needs: LoadRequest, decide: Decide) -> WritePlan:
        snapshot = await self._call(lambda: self.memory.known(needs))
        plan = decide(snapshot)
        return await self._call(lambda: self.commit(needs, snapshot, plan))

    def commit(self, needs: LoadRequest, snapshot: StoreSnapshot, plan: WritePlan) -> WritePlan:
        if not self.is_unchanged(needs, snapshot):
            raise VersionConflict("another transaction came first")
        return self.memory.settle_now(needs, lambda _: plan)

    def is_unchanged(self, needs: LoadRequest, snapshot: StoreSnapshot) -> bool:
        return self.memory.known(needs) == snapshot

    async def register(
        self, scope: str, number: str, refunds: Sequence[str], decide: Callable[[Order | None], WritePlan]
    ) -> None:
        # In one step, as in a transaction that has the order's row locked.
        def work() -> None:
            plan = decide(self.memory.orders.get((scope, number)))
            self.memory.refunds.update({(scope, refund): number for refund in refunds})
            self.memory._write(plan)

        await self._call(work)

    async def unsent(
        self, limit: int, away: Away = NOTHING_AWAY, *, only: frozenset[str] = EVERYTHING
    ) -> Sequence[tuple[int, Outgoing]]:
        return await self._ask(lambda: self.memory.unsent(limit, away, only=only))

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        await self._call(lambda: self.memory.sent_at_ms.update(dict.fromkeys(numbers, 0)))

    async def wake_more(self) -> bool:
        return await self._ask(self.memory.wake_more)

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        return await self._call(lambda: self.memory.due_now(now_ms=now_ms)[:limit])

    async def next_due_ms(self) -> int | None:
        return await self._ask(self.memory.next_due_ms)

    async def are_settled(self, records: Sequence[LogRecord]) -> bool:
        return await self._call(lambda: all(record.position in self.memory.deliveries for record in records))

    async def running_replay(self, *, aside: Collection[int] = ()) -> ReplayTask | None:
        return await self._ask(lambda: self.memory.running_replay(aside=aside))

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]:
        return await self._ask(lambda: self.memory.held_list(query))

    async def note_replay(
        self, ids: Sequence[str], *, by: str, why: str, now_ms: int, replay: int | None = None
    ) -> None:
        await self._ask(lambda: self.memory.note_replay(ids, by=by, why=why, now_ms=now_ms, replay=replay))

    async def advance_replay(self, task: ReplayTask, upto: HeldPlace | None, *, now_ms: int) -> None:
        await self._ask(lambda: self.memory.advance_replay(task, upto, now_ms=now_ms))

    async def _call(self, work: Callable[[], T]) -> T:
        return await self._weather.call(self._process, "store", work)

    async def _ask(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._call(lambda: finished(ask()))


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing, such as a method of the store in memory."""
    try:
        work.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    raise AssertionError("it waits")


class SimulatedBegun:
    """`workers.fatal_records.BegunNotes` of one process."""

    def __init__(self, begun: MemoryBegun, process: Process, weather: Weather, holder: str) -> None:
        self._begun = begun
        self._process = process
        self._weather = weather
        self._holder = holder

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[Begun]:
        return await self._weather.call(
            self._process, "store", lambda: self._begun.begin(positions, self._holder, is_alone=is_alone)
        )

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None:
        holder = self._holder if only_own else None
        await self._weather.call(self._process, "store", lambda: self._begun.end(positions, holder))


class Redis:
    """The locks' server: who holds a key until when, and the done-markers."""

    def __init__(self) -> None:
        self.held: dict[bytes, tuple[bytes, float]] = {}
        self.done: dict[bytes, Position] = {}

    def flush(self) -> None:
        self.held.clear()
        self.done.clear()

    def lock(self, keys: Sequence[bytes], token: bytes, now_s: float) -> LockResult:
        for key in keys:
            if self.held.get(key, (token, now_s))[1] <= now_s or self.held.get(key, (token, 0.0))[0] == token:
                self.held[key] = token, now_s + LOCK_S
        ours = {key for key in keys if self.held[key][0] == token}
        return LockResult(ours, {key: self.done[key] for key in keys if key in self.done})

    def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        for key in keys:
            if self.held.get(key, (b"", 0.0))[0] == token:
                del self.held[key]
                if key in done:
                    self.done[key] = done[key]


class SimulatedLocks:
    """`workers.locks.IdempotencyLocks` of one worker."""

    def __init__(self, redis: Redis, process: Process, weather: Weather) -> None:
        self._redis = redis
        self._process = process
        self._weather = weather

    async def acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        now_s = asyncio.get_running_loop().time()
        return await self._weather.call(self._process, "redis", lambda: self._redis.lock(keys, token, now_s))

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        await self._weather.call(self._process, "redis", lambda: self._redis.release(keys, token, done))


class SimulatedTopics:
    """`workers.emission.Events` of one worker. A publish that fails may have sent the first few events."""

    away = NOTHING_AWAY

    def __init__(self, sent: list[Outgoing], process: Process, weather: Weather, chance: Random) -> None:
        self._sent = sent
        self._process = process
        self._weather = weather
        self._chance = chance

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        first = self._chance.randint(0, len(events)) if self._chance.random() < 0.3 else 0
        for part in filter(None, (events[:first], events[first:])):
            await self._weather.call(self._process, "topics", partial(self._sent.extend, part))
        return Published(acknowledged=range(len(events)))
