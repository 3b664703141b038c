"""One member of the worker's consumer group, from join to leave, with one aiokafka client.

It keeps two things itself instead of leaving them to aiokafka: the epoch, which counts rebalances, and the next offset
of each partition. `workers.kafka.source` replaces a member that has failed.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition
from msgspec import Struct

from schemas.record_format import Record
from workers.errors import InfrastructureDamaged
from workers.kafka import clients, start_offset
from workers.kafka.lag import Lag, LagTracker
from workers.kafka.ports import (
    ClientFailed,
    GroupClient,
    KafkaUnreachable,
    LastSettled,
    MemberLimits,
    MemberObserver,
)
from workers.settlement.plan import LogRecord, Position

TOP_UP_MS = 5  # for a fetch of records that are in the log already

Fetched = Mapping[TopicPartition, Sequence[Any]]


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """A member of the group. `assigned` is `None` during a rebalance.

    `epoch` is raised when partitions are revoked and when they are assigned. Records fetched in one epoch are not
    committed in another. `needs_replacement` is true after an undecodable record: replace this member before the next
    poll. `one_record_at_a_time`: find an undecodable record, on which another member has failed.
    """

    def __init__(
        self,
        client: GroupClient,
        *,
        topic: str,
        last_settled: LastSettled,
        observer: MemberObserver,
        limits: MemberLimits,
        accept_loss: bool = False,
        one_record_at_a_time: bool = False,
        now_s: Callable[[], float] = time.monotonic,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.epoch = 0
        self.assigned: frozenset[int] | None = None
        self.needs_replacement = False
        self.rebalanced_at = self.created_at = now_s()
        self._client = client
        self._topic = topic
        self._last_settled = last_settled
        self._observer = observer
        self._limits = limits
        self._accept_loss = accept_loss
        self._one_record_at_a_time = one_record_at_a_time
        self._now_s = now_s
        self._clock_s = clock_s
        self._lag = LagTracker(client, topic=topic, ask_s=limits.ask_s, clock_s=clock_s)
        self._assignment = asyncio.Event()
        self._has_start_offsets = False
        # aiokafka moves its own offsets when it hands records out, even if the hand-over then fails, and would later
        # skip records that we never got. So these offsets decide: seek wherever the two may differ.
        self._next: dict[int, int] = {}
        self._settled: dict[int, int] = {}  # the last offset of each partition that is known to have a disposition
        self._fetching: asyncio.Task[Fetched] | None = None
        self._late_error: Exception | None = None  # of a fetch that had records nevertheless; raised by the next one
        self._fetch_epoch = 0
        self._polled_at = self._fetched_at = now_s()
        self._keeping_alive: asyncio.Task[None] | None = None
        self._failure: Exception | None = None  # of the keep-alive task; raised by the next poll

    async def join(self) -> None:
        """Connect and subscribe. Return when a broker has answered; the group assigns partitions later.

        Raises:
            KafkaUnreachable: no broker answered. Call `leave` nevertheless.
        """
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await self._client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnreachable(_describe(error)) from error
        self._client.subscribe([self._topic], listener=self)
        self._keeping_alive = asyncio.create_task(self._keep_alive())

    async def leave(self) -> None:
        """Leave the consumer group and close the client; force it closed after a timeout."""
        for task in (self._keeping_alive, self._fetching):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    task.exception()
        await clients.dispose(self._client)

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Begin a new epoch without partitions. Wait for nothing here, because the other members wait for us."""
        self._begin_epoch(None)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin a new epoch. The next poll looks up the start offsets, because it can report a failure."""
        for each in assigned:
            # Otherwise aiokafka fetches from an offset of its own choice at once, or fails because it has none.
            self._client.pause(each)
            self._client.seek(each, 0)
        self._begin_epoch(frozenset(each.partition for each in assigned))
        self._assignment.set()
        self._observer.rebalanced(len(assigned))

    async def poll(self, max_records: int) -> list[LogRecord]:
        """Return the next records, in order within each partition; empty if none came within the time limit.

        Raises:
            InfrastructureDamaged: the log is damaged, or is not the log that the store knows.
            ClientFailed: the client must be replaced. No record was skipped.
            InfrastructureDown: Kafka or the store did not answer; poll again.
        """
        self._polled_at = self._now_s()
        try:
            return await self._poll(max_records)
        finally:
            self._polled_at = self._now_s()

    async def commit(self, upto: Sequence[Position]) -> None:
        """Commit these offsets to the group. The caller checks that `epoch` is still that of the batch.

        Raises:
            KafkaError, TimeoutError: the errors of aiokafka, unchanged.
        """
        ends = {self._partition(position.partition): position.offset + 1 for position in upto}
        async with asyncio.timeout(self._limits.commit_s):
            await self._client.commit(ends)
        for position in upto:
            self._settled[position.partition] = position.offset
            self._lag.committed(position.partition, position.offset + 1)

    def settled_before(self) -> list[Position]:
        """Return the last offset of each partition that had its disposition before the batch in hand."""
        return [Position(partition, offset) for partition, offset in self._settled.items()]

    async def is_behind(self) -> bool | None:
        """Return whether the log holds records that were not fetched yet; `None` if the brokers do not answer."""
        if not await self._lag.refresh_ends(self.assigned or ()):
            return None
        return self._has_start_offsets and self._lag.has_unread(self._next)

    def lag(self) -> list[Lag]:
        """Return the lag of each assigned partition, without a request; empty until the start offsets are known."""
        if self.assigned is None or not self._has_start_offsets:
            return []
        return [self._lag.lag(partition) for partition in sorted(self.assigned)]

    def _begin_epoch(self, assigned: frozenset[int] | None) -> None:
        self.epoch += 1
        self.assigned = assigned
        self.rebalanced_at = self._now_s()
        self._has_start_offsets = False
        self._late_error = None  # each partition is read from its start offset again
        self._assignment.clear()

    async def _poll(self, max_records: int) -> list[LogRecord]:
        if self._failure is not None:
            raise ClientFailed(_describe(self._failure)) from self._failure
        if self._fetching is None:
            if not await self._is_ready():
                return []
            # A task, which the next poll continues to wait for. If a fetch is cancelled inside aiokafka, aiokafka
            # believes forever that it is being read, and its max_poll_interval never expires for a hung member.
            self._fetching = asyncio.create_task(self._fetch(max_records))
            self._fetch_epoch = self.epoch
        await asyncio.wait({self._fetching}, timeout=self._limits.poll_s + self._limits.late_s)
        if not self._fetching.done():
            return []  # a rebalance delays it
        fetching, self._fetching = self._fetching, None
        if (error := fetching.exception()) is not None:
            raise await self._poll_error(error) from error
        if self._fetch_epoch != self.epoch:
            return []  # fetched before a rebalance, after which each partition is read from its start offset again
        return self._log_records(fetching.result(), max_records)

    async def _fetch(self, max_records: int) -> Fetched:
        self._fetched_at = self._now_s()
        try:
            if self._one_record_at_a_time:
                return await self._fetch_one_by_one()
            return await self._fetch_many(max_records)
        finally:
            self._fetched_at = self._now_s()

    async def _fetch_many(self, max_records: int) -> Fetched:
        """Fetch the records that are in the log; wait for one if there is none.

        aiokafka fetches ahead, but no more until that is taken. So during a batch it gets the first record or two that
        come, and all others stay in the log: taken alone, these two would be a batch, and the others would wait for it.
        """
        if self._late_error is not None:
            late_error, self._late_error = self._late_error, None
            raise late_error
        ahead = await self._client.getmany(timeout_ms=0, max_records=max_records)
        if not ahead:
            return await self._client.getmany(timeout_ms=self._poll_ms, max_records=max_records)
        if (room := max_records - sum(map(len, ahead.values()))) <= 0:
            return ahead
        found = dict(ahead)
        try:
            more = await self._client.getmany(timeout_ms=TOP_UP_MS, max_records=room)
        except Exception as error:  # of records behind these, which get their dispositions first
            self._late_error = error
            return ahead
        for partition, records in more.items():
            found[partition] = [*found.get(partition, ()), *records]
        return found

    async def _fetch_one_by_one(self) -> Fetched:
        """Fetch one record of each partition; return an empty record for the first that aiokafka cannot decode.

        Such a record (a header name that is not UTF-8, for example) would stop its partition forever. A failed fetch
        also loses the records decoded before it, so only a member that fetches single records knows which one failed.
        The empty record then becomes a dead letter.
        """
        found: dict[TopicPartition, Sequence[Any]] = {}
        for each in map(self._partition, sorted(self.assigned or ())):
            try:
                found.update(await self._client.getmany(each, timeout_ms=self._poll_ms, max_records=1))
            except (ValueError, TypeError, IndexError, struct.error):
                self.needs_replacement = True
                return found | {each: [UndecodableRecord(self._next[each.partition], self._clock_s() * 1000)]}
        return found

    @property
    def _poll_ms(self) -> int:
        return round(self._limits.poll_s * 1000)

    async def _is_ready(self) -> bool:
        """Return whether partitions are assigned and sought to their start offsets; wait a while for an assignment."""
        if self.assigned is None:
            try:
                async with asyncio.timeout(self._limits.poll_s):
                    await self._assignment.wait()
            except TimeoutError:
                return False
        if not self.assigned and self._client.partitions_for_topic(self._topic) is None:
            raise KafkaUnreachable(f"there is no topic {self._topic} yet")
        if not self._has_start_offsets:
            await self._seek_to_start()
        return self._has_start_offsets

    async def _seek_to_start(self) -> None:
        """Seek each assigned partition to its start offset. Do nothing if a rebalance has happened meanwhile."""
        epoch, keys = self.epoch, [self._partition(partition) for partition in sorted(self.assigned or ())]
        try:
            async with asyncio.timeout(self._limits.seek_s):
                states = await _partition_states(self._client, self._last_settled, keys) if keys else []
            if epoch != self.epoch:
                return
            starts = [start_offset.start(each, accept_loss=self._accept_loss) for each in states]
            for key, begin in zip(keys, starts, strict=True):
                self._client.seek(key, begin.offset)
                self._client.resume(key)
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnreachable(f"cannot find the start offsets: {_describe(error)}") from error
        self._next = {each.partition: begin.offset for each, begin in zip(states, starts, strict=True)}
        self._settled = {each.partition: last for each in states if (last := each.settled_before) is not None}
        self._lag.restart(committed=self._next, ends={each.partition: each.end for each in states})
        self._has_start_offsets = True
        for key, begin in zip(keys, starts, strict=True):
            if begin.rewound_from is not None:
                self._observer.rewound(key.partition, committed=begin.rewound_from, to=begin.offset)

    def _log_records(self, found: Fetched, max_records: int) -> list[LogRecord]:
        batch: list[LogRecord] = []
        for topic_partition, records in found.items():
            partition = topic_partition.partition
            taken = records[: max_records - len(batch)]
            batch += [_log_record(partition, each) for each in taken]
            if taken:
                self._next[partition] = taken[-1].offset + 1
                self._lag.fetched(partition, written_s=taken[0].timestamp / 1000)
            if len(taken) < len(records):  # an earlier poll, with a higher limit, had started this fetch
                self._client.seek(topic_partition, self._next[partition])
        return batch

    async def _poll_error(self, error: BaseException) -> Exception:
        if not isinstance(error, OffsetOutOfRangeError):
            return ClientFailed(_describe(error), is_records=not isinstance(error, KafkaError))
        offsets = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        (partition, offset), *_ = [(each.partition, at) for each, at in offsets.items()] or [(-1, -1)]
        return InfrastructureDamaged(
            f"partition {partition} of the log has no offset {offset} any more; {await self._offsets_held(partition)}. "
            "Records without a disposition are lost: by retention, by deletion, or with a lost leader. The worker "
            "stops instead of skipping them. Find the cause, then restart it: at the start it reports how to continue"
        )

    async def _offsets_held(self, partition: int) -> str:
        keys = [self._partition(partition)]
        try:
            async with asyncio.timeout(self._limits.ask_s):
                first, end = await self._client.beginning_offsets(keys), await self._client.end_offsets(keys)
        except (KafkaError, OSError, TimeoutError):
            return "the brokers do not answer which offsets it holds"
        return f"it holds {first[keys[0]]} to {end[keys[0]] - 1}"

    async def _keep_alive(self) -> None:
        """Keep the membership while the consumer is busy with a batch, and refresh the end offsets for the lag.

        Without polls the group would reassign the partitions. So fetch from no partition at all: this counts as a poll
        and moves no offset. Stop after `busy_max_s`: a consumer that is busy for longer hangs, and the group should
        reassign its partitions.
        """
        no_partition = self._partition(-1)
        every_s, busy_max_s = self._limits.keep_alive_every_s, self._limits.busy_max_s
        while self._failure is None:
            await asyncio.sleep(every_s)
            now_s = self._now_s()
            if now_s - self._fetched_at < every_s or now_s - self._polled_at > busy_max_s:
                continue
            try:
                await self._client.getmany(no_partition, timeout_ms=0)
                self._fetched_at = self._now_s()
                await self._lag.refresh_ends(self.assigned or ())
            except Exception as error:
                self._failure = error

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic, number)


class UndecodableRecord(Struct, frozen=True):
    """Replaces a record that aiokafka cannot decode."""

    offset: int
    timestamp: float
    key: None = None
    value: None = None
    headers: tuple[tuple[str, bytes], ...] = ()


async def _partition_states(
    client: GroupClient, last_settled: LastSettled, keys: Sequence[TopicPartition]
) -> list[start_offset.PartitionState]:
    """Ask group, log and store for the offsets that decide where to start."""
    firsts, ends = await client.beginning_offsets(keys), await client.end_offsets(keys)
    # One after the other: if one of several concurrent requests fails, aiokafka repeats the others forever.
    committed = [await client.committed(key) for key in keys]
    settled = [await last_settled(key.partition) for key in keys]
    gaps = [await _gap_below(last_settled, key.partition, offset) for key, offset in zip(keys, committed, strict=True)]
    return [
        start_offset.PartitionState(
            partition=key.partition,
            committed=group,
            settled=store,
            first=firsts[key],
            end=ends[key],
            gap_from=gap,
        )
        for key, group, store, gap in zip(keys, committed, settled, gaps, strict=True)
    ]


async def _gap_below(last_settled: LastSettled, partition: int, committed: int | None) -> int | None:
    """Return the offset after the last disposition below the committed offset; `None` if there is no gap."""
    if not committed:
        return None
    last = await last_settled(partition, below=committed)
    upto = 0 if last is None else last + 1
    return upto if upto < committed else None


def _log_record(partition: int, record: Any) -> LogRecord:
    """Convert a record. A missing key, value or header value, which no receiver of ours writes, becomes empty."""
    headers = record.headers
    for _, value in headers:  # practically never true, and run for each record: `any` would cost twice as much
        if value is None:
            headers = tuple((name, value or b"") for name, value in headers)
            break
    return LogRecord(Position(partition, record.offset), Record(record.key or b"", record.value or b"", headers))


def _describe(error: BaseException) -> str:
    return f"Kafka: {type(error).__name__}: {error}".rstrip(": ")
