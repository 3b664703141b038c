"""Kafka clients in memory.

`FakeConsumer` behaves as aiokafka's: it moves its offsets when it returns records, returns none of paused partitions,
and raises an error once. `FakeProducer` acknowledges, fails, hangs, or does not start or close, as the test wants.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, NoOffsetForPartitionError
from aiokafka.structs import TopicPartition
from msgspec import Struct

from ingest.kafka.batches import Builder
from ingest.kafka.in_flight import AppendFailure, ProducerFault
from schemas.record_format import Record
from workers.settlement.plan import LogRecord

TOPIC = "log.v1"
NOWHERE = -1


class StoredRecord(Struct, frozen=True):
    """One record, as aiokafka returns it."""

    offset: int
    key: bytes | None = b"shop:N1"
    value: bytes | None = b"body"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 1_760_000_000_000


class Broker:
    """State that all consumers share: the log and the committed offsets of the group."""

    def __init__(self, partitions: int = 2) -> None:
        self.log: dict[int, list[StoredRecord]] = {each: [] for each in range(partitions)}
        self.first: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.committed: dict[int, int] = {}
        self.exists = True
        self.silent: Exception | None = None  # raised by every request for offsets

    def append(self, partition: int, count: int = 1, **more: Any) -> None:
        records = self.log[partition]
        begin = self.first[partition] + len(records)
        records += [StoredRecord(begin + each, **more) for each in range(count)]

    def end(self, partition: int) -> int:
        return self.first[partition] + len(self.log[partition])


class FakeConsumer:
    """One client. Tests call `assign` and `revoke`, which a real group does in the background."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.offsets: dict[int, int] = {}
        self.paused: set[int] = set()
        self.started = self.stopped = False
        self.errors: deque[Exception] = deque()  # raised by the next fetches
        self.undecodable: set[tuple[int, int]] = set()
        self.start_error: Exception | None = None
        self.commit_errors: deque[Exception] = deque()
        self.held_up: asyncio.Event | None = None  # fetches wait for it
        self.is_stuck = False  # fetches return nothing although there are records
        self.kept_alive = 0
        self.listener: Any = None

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.started = True

    async def stop(self) -> None:
        self.stopped = True

    def subscribe(self, topics: Sequence[str], *, listener: ConsumerRebalanceListener) -> None:
        assert topics == [TOPIC]
        self.listener = listener

    async def assign(self, *partitions: int) -> None:
        """Assign these partitions. aiokafka then starts at the committed offsets, or fails if there are none."""
        self.offsets = {each: self.broker.committed.get(each, NOWHERE) for each in partitions}
        self.paused.clear()
        await self.listener.on_partitions_assigned({TopicPartition(TOPIC, each) for each in partitions})

    async def revoke(self) -> None:
        await self.listener.on_partitions_revoked({TopicPartition(TOPIC, each) for each in self.offsets})

    async def move(self, *partitions: int) -> None:
        await self.revoke()
        await self.assign(*partitions)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {*self.broker.log} if self.broker.exists else None

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        if partitions and partitions[0].partition == -1:
            self.kept_alive += 1
        if self.held_up is not None:
            await self.held_up.wait()
        if self.errors:
            raise self.errors.popleft()
        found = self._found({each.partition for each in partitions} or {*self.offsets}, max_records or 500)
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
        return found

    def _found(self, wanted: set[int], max_records: int) -> dict[TopicPartition, Sequence[Any]]:
        found: dict[TopicPartition, Sequence[Any]] = {}
        if any(self.offsets.get(each) == NOWHERE for each in wanted):
            raise NoOffsetForPartitionError(wanted)
        for partition in sorted(wanted & {*self.offsets} - self.paused):
            if self.is_stuck:
                continue
            at = self.offsets[partition]
            records = [each for each in self.broker.log[partition] if each.offset >= at][:max_records]
            for each in records:
                # As in aiokafka: the offset moves, and the records decoded before this one are lost.
                self.offsets[partition] = each.offset
                if (partition, each.offset) in self.undecodable:
                    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            if records:
                max_records -= len(records)
                self.offsets[partition] = records[-1].offset + 1
                found[TopicPartition(TOPIC, partition)] = records
            if not max_records:
                break
        return found

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= {each.partition for each in partitions}

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= {each.partition for each in partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition.partition not in self.offsets:
            raise IllegalStateError(f"{partition} is not assigned")
        self.offsets[partition.partition] = offset

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.commit_errors:
            raise self.commit_errors.popleft()
        self.broker.committed.update({each.partition: offset for each, offset in offsets.items()})

    async def committed(self, partition: TopicPartition) -> int | None:
        self._request()
        return self.broker.committed.get(partition.partition)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._request()
        return {each: self.broker.first[each.partition] for each in partitions}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._request()
        return {each: self.broker.end(each.partition) for each in partitions}

    def highwater(self, partition: TopicPartition) -> int | None:
        return None

    def _request(self) -> None:
        if self.broker.silent is not None:
            raise self.broker.silent


def offsets(batch: Sequence[LogRecord]) -> list[tuple[int, int]]:
    """Return partition and offset of each record."""
    return [(each.position.partition, each.position.offset) for each in batch]


Delivered = asyncio.Future[Any]


class Fails(Exception):
    """An error of a record, with its meaning and its fault."""

    def __init__(self, meaning: AppendFailure = AppendFailure.UNKNOWN, fault: ProducerFault | None = None) -> None:
        super().__init__(meaning.value)
        self.meaning = meaning
        self.fault = fault


class FakeBatch:
    """A batch in the making. `room` is how many records it takes; `refuses` is raised instead of taking one."""

    def __init__(self, *, room: int, refuses: BaseException | None) -> None:
        self.records: list[Record] = []
        self._room = room
        self._refuses = refuses

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> object:
        if self._refuses is not None:
            raise self._refuses
        if len(self.records) >= self._room:
            return None
        self.records.append(Record(key, value, tuple(headers)))
        return self


class FakeProducer:
    """Keeps the future of each batch in `under_way`, until `answer` or the test resolves it."""

    def __init__(self, *, partitions: int = 12, answer: Callable[[Delivered], None] | None = None) -> None:
        self.partitions = partitions
        self.has_ended = False
        self.answers = True  # metadata requests
        self.answer = answer
        self.starts: list[BaseException] = []  # errors of the next starts
        self.never_starts = False
        self.never_closes = False
        self.room = 500  # records in a batch
        self.refuses: BaseException | None = None  # raised for each record
        self.cannot_send: Exception | None = None  # raised for each batch
        self.leaders: dict[int, int] = {}  # by partition; all others are led by broker 1
        self.batches: list[tuple[list[Record], int]] = []
        self.under_way: list[Delivered] = []
        self.refreshes = 0
        self.closed = False
        self.starting = False

    async def start(self) -> None:
        self.starting = True
        if self.never_starts:
            await asyncio.Event().wait()
        if self.starts:
            raise self.starts.pop(0)

    @property
    def sent(self) -> list[tuple[Record, int]]:
        """Each record that was sent, with its partition."""
        return [(record, partition) for records, partition in self.batches for record in records]

    def new_batch(self) -> FakeBatch:
        return FakeBatch(room=self.room, refuses=self.refuses)

    def leader(self, partition: int, /) -> int | None:
        return self.leaders.get(partition, 1)

    def send(self, batch: Builder, partition: int, /) -> Delivered:
        if self.cannot_send is not None:
            raise self.cannot_send
        assert isinstance(batch, FakeBatch)
        self.batches.append((batch.records, partition))
        delivered: Delivered = asyncio.get_running_loop().create_future()
        self.under_way.append(delivered)
        if self.answer is not None:
            self.answer(delivered)
        return delivered

    async def refresh_metadata(self) -> bool:
        self.refreshes += 1
        return self.answers

    async def close(self, *, flush_s: float) -> None:
        self.closed = True
        if self.never_closes:
            await asyncio.sleep(flush_s)

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        return error.fault if isinstance(error, Fails) else None

    def failure_of(self, error: BaseException) -> AppendFailure:
        return error.meaning if isinstance(error, Fails) else AppendFailure.OURS


def acknowledge(delivered: Delivered) -> None:
    delivered.set_result(None)


def failing(error: BaseException) -> Callable[[Delivered], None]:
    return lambda delivered: delivered.set_exception(error)
