"""One member of the worker's consumer group, from its joining to its leaving: one client of the library's.

Two things are kept here and not left to the library. The *epoch* counts rebalances: it is raised when partitions are
taken away and when they are given, and what was read in one epoch is not committed in another. The *next offset* of
each partition is ours: the library moves its own when it hands records out, also where the hand-over then fails, and
after that it would skip what it never gave us. So it is led to ours wherever the two may differ, by a seek.

Until we have said from where, nothing is fetched of a partition that was just given: it is paused at once, before the
library could begin, or complain, by itself.

A read is a task that a poll waits for a while, and the next poll goes on waiting for: cancelling one inside the library
leaves it believing for ever that somebody reads, and its own limit for hung members would never strike again.

While the loop stands at a batch, nobody polls, and the group would take the partitions away. `_stay` then asks for
records of no partition at all, which tells the group that we live, and moves nothing. It ends after `stand_max_s`: a
loop that has not come back by then hangs, and the group should know.

A record that the library cannot read (the name of a header that is no UTF-8, say) would stop its partition for ever,
and a failed read loses the records that were read before it. The member that replaces the failed one is *careful*:
it reads record by record, and hands out the one that cannot be read as an empty record, which is then held as dead.
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
from workers.kafka.ports import (
    ClientFailed,
    GroupClient,
    KafkaUnreachable,
    Lag,
    LastSettled,
    MemberLimits,
    MemberObserver,
)
from workers.settlement.plan import LogRecord, Position


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """A member of the group. `assigned` is `None` while the group decides who reads what.

    `is_worn` is set when it has given all that it can: it is to be replaced before the next poll.
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
        is_careful: bool = False,
        now_s: Callable[[], float] = time.monotonic,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.epoch = 0
        self.assigned: frozenset[int] | None = None
        self.moved_at = self.born_at = now_s()
        self._client = client
        self._topic = topic
        self._last_settled = last_settled
        self._observer = observer
        self._limits = limits
        self.is_worn = False
        self._accept_loss = accept_loss
        self._is_careful = is_careful
        self._now_s = now_s
        self._clock_s = clock_s
        self._given = asyncio.Event()
        self._is_placed = False
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._settled: dict[int, int] = {}  # an offset of each partition that had its disposition: the last we know of
        self._oldest_s: dict[int, float] = {}  # when the first record behind the committed offset was written, or seen
        self._ends: dict[int, int] = {}
        self._taking: asyncio.Task[Mapping[TopicPartition, Sequence[Any]]] | None = None
        self._taken_in = 0
        self._polled_at = self._read_at = now_s()
        self._failure: Exception | None = None
        self._staying: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Returns when a broker has answered; the group gives partitions later.

        Raises:
            KafkaUnreachable: none did. The member has to be left all the same.
        """
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await self._client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnreachable(_said(error)) from error
        self._client.subscribe([self._topic], listener=self)
        self._staying = asyncio.create_task(self._stay())

    async def leave(self) -> None:
        """Give the partitions back and end everything, by force if it does not end by itself."""
        for task in (self._staying, self._taking):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    task.exception()
        await clients.dispose(self._client)

    async def on_partitions_revoked(self, revoked: object) -> None:
        """The group begins to decide anew. Nothing is waited for here: the others wait for us."""
        self._move(None)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """The group has decided. Where to begin is asked at the next poll, where it can fail aloud."""
        for each in assigned:
            self._client.pause(each)
            self._client.seek(each, 0)
        self._move(frozenset(each.partition for each in assigned))
        self._given.set()
        self._observer.rebalanced(len(assigned))

    async def poll(self, max_records: int) -> list[LogRecord]:
        """The next records, each partition's in order; none where none came for a while.

        Raises:
            InfrastructureDamaged: the log is damaged, or is not the one that the store knows.
            ClientFailed: the client has to be replaced. Nothing was skipped.
            Infrastructure: something did not answer; poll again.
        """
        self._polled_at = self._now_s()
        try:
            return await self._poll(max_records)
        finally:
            self._polled_at = self._now_s()

    async def commit(self, upto: Sequence[Position]) -> None:
        """The group remembers these, in this epoch.

        Raises:
            KafkaError, TimeoutError: as the library says it.
        """
        ends = {self._partition(position.partition): position.offset + 1 for position in upto}
        async with asyncio.timeout(self._limits.commit_s):
            await self._client.commit(ends)
        for position in upto:
            self._committed[position.partition] = position.offset + 1
            self._settled[position.partition] = position.offset
            self._oldest_s.pop(position.partition, None)

    def settled_before(self) -> list[Position]:
        """What the store has settled before the batch in hand, the last of each partition."""
        return [Position(partition, offset) for partition, offset in self._settled.items()]

    async def is_behind(self) -> bool | None:
        """Whether the log holds records that were not read yet; `None` where it does not say."""
        if not await self._ask_for_ends():
            return None
        return self._is_placed and any(self._ends.get(each, 0) > offset for each, offset in self._next.items())

    def lag(self) -> list[Lag]:
        """How far each of its partitions is behind, without asking anybody."""
        if self.assigned is None or not self._is_placed:
            return []
        return [self._lag(partition) for partition in sorted(self.assigned)]

    def _lag(self, partition: int) -> Lag:
        highwater = self._client.highwater(self._partition(partition)) or 0
        messages = max(0, max(highwater, self._ends.get(partition, 0)) - self._committed[partition])
        if not messages:
            self._oldest_s.pop(partition, None)
            return Lag(partition=partition, messages=0, seconds=0.0)
        since_s = self._oldest_s.setdefault(partition, self._clock_s())
        return Lag(partition=partition, messages=messages, seconds=max(0.0, self._clock_s() - since_s))

    def _move(self, assigned: frozenset[int] | None) -> None:
        self.epoch += 1
        self.assigned = assigned
        self.moved_at = self._now_s()
        self._is_placed = False
        self._given.clear()

    async def _poll(self, max_records: int) -> list[LogRecord]:
        if self._failure is not None:
            raise ClientFailed(_said(self._failure)) from self._failure
        if self._taking is None:
            if not await self._is_ready():
                return []
            self._taking = asyncio.create_task(self._take(max_records))
            self._taken_in = self.epoch
        await asyncio.wait({self._taking}, timeout=self._limits.poll_s + self._limits.late_s)
        if not self._taking.done():
            return []  # a rebalance holds it up
        taking, self._taking = self._taking, None
        if (error := taking.exception()) is not None:
            raise await self._told(error) from error
        if self._taken_in != self.epoch:
            return []  # read before a rebalance, which begins every partition anew
        return self._logged(taking.result(), max_records)

    async def _take(self, max_records: int) -> Mapping[TopicPartition, Sequence[Any]]:
        self._read_at = self._now_s()
        try:
            if self._is_careful:
                return await self._take_carefully()
            return await self._client.getmany(timeout_ms=self._poll_ms, max_records=max_records)
        finally:
            self._read_at = self._now_s()

    async def _take_carefully(self) -> Mapping[TopicPartition, Sequence[Any]]:
        """One record of each partition; the first that cannot be read is the last that this member hands out."""
        found: dict[TopicPartition, Sequence[Any]] = {}
        for each in map(self._partition, sorted(self.assigned or ())):
            try:
                found.update(await self._client.getmany(each, timeout_ms=self._poll_ms, max_records=1))
            except (ValueError, TypeError, IndexError, struct.error):
                self.is_worn = True
                return found | {each: [UndecodableRecord(self._next[each.partition], self._clock_s() * 1000)]}
        return found

    @property
    def _poll_ms(self) -> int:
        return round(self._limits.poll_s * 1000)

    async def _is_ready(self) -> bool:
        """Whether partitions are given and their beginnings found; waits a while for the first, and asks the second."""
        if self.assigned is None:
            try:
                async with asyncio.timeout(self._limits.poll_s):
                    await self._given.wait()
            except TimeoutError:
                return False
        if not self.assigned and self._client.partitions_for_topic(self._topic) is None:
            raise KafkaUnreachable(f"there is no topic {self._topic} yet")
        if not self._is_placed:
            await self._place()
        return self._is_placed

    async def _place(self) -> None:
        """Lead the client to where each partition is to be read from, unless the group has decided anew meanwhile."""
        epoch, partitions = self.epoch, sorted(self.assigned or ())
        try:
            async with asyncio.timeout(self._limits.place_s):
                known = await self._known(partitions) if partitions else []
            if epoch != self.epoch:
                return
            starts = [start_offset.start(each, accept_loss=self._accept_loss) for each in known]
            for each, begin in zip(known, starts, strict=True):
                self._client.seek(self._partition(each.partition), begin.offset)
                self._client.resume(self._partition(each.partition))
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnreachable(f"where to begin is not known: {_said(error)}") from error
        self._next = {each.partition: begin.offset for each, begin in zip(known, starts, strict=True)}
        self._committed = dict(self._next)
        self._ends = {each.partition: each.end for each in known}
        self._settled = {each.partition: last for each in known if (last := each.settled_before) is not None}
        self._oldest_s.clear()
        self._is_placed = True
        for partition, begin in zip(partitions, starts, strict=True):
            if begin.rewound_from is not None:
                self._observer.rewound(partition, committed=begin.rewound_from, to=begin.offset)

    async def _known(self, partitions: Sequence[int]) -> list[start_offset.PartitionState]:
        asked = [self._partition(partition) for partition in partitions]
        firsts, ends = await self._client.beginning_offsets(asked), await self._client.end_offsets(asked)
        # One after the other: of several at once, those that are left when one fails would go on asking for ever.
        committed = [await self._client.committed(each) for each in asked]
        settled = [await self._last_settled(partition) for partition in partitions]
        gaps = [
            await self._gap_below(partition, offset) for partition, offset in zip(partitions, committed, strict=True)
        ]
        return [
            start_offset.PartitionState(
                partition=each.partition,
                committed=group,
                settled=store,
                first=firsts[each],
                end=ends[each],
                gap_from=gap,
            )
            for each, group, store, gap in zip(asked, committed, settled, gaps, strict=True)
        ]

    async def _gap_below(self, partition: int, committed: int | None) -> int | None:
        """Where the settled offsets below the committed one end, unless they reach up to it."""
        if not committed:
            return None
        last = await self._last_settled(partition, below=committed)
        upto = 0 if last is None else last + 1
        return upto if upto < committed else None

    def _logged(self, found: Mapping[TopicPartition, Sequence[Any]], max_records: int) -> list[LogRecord]:
        batch: list[LogRecord] = []
        for topic_partition, records in found.items():
            partition = topic_partition.partition
            taken = records[: max_records - len(batch)]
            batch += [_logged(partition, each) for each in taken]
            if taken:
                self._next[partition] = taken[-1].offset + 1
                self._oldest_s.setdefault(partition, taken[0].timestamp / 1000)
            if len(taken) < len(records):  # asked for by a poll that wanted more than this one
                self._client.seek(topic_partition, self._next[partition])
        return batch

    async def _told(self, error: BaseException) -> Exception:
        if not isinstance(error, OffsetOutOfRangeError):
            return ClientFailed(_said(error), is_records=not isinstance(error, KafkaError))
        places = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        (partition, offset), *_ = [(each.partition, at) for each, at in places.items()] or [(-1, -1)]
        holds = await self._holds(partition)
        return InfrastructureDamaged(
            f"partition {partition} of the log has no offset {offset} any more; {holds}. Records are gone that have no "
            "disposition, by retention, by hand, or with a lost leader: nothing is skipped until somebody has looked"
        )

    async def _holds(self, partition: int) -> str:
        asked = [self._partition(partition)]
        try:
            async with asyncio.timeout(self._limits.ask_s):
                first, end = await self._client.beginning_offsets(asked), await self._client.end_offsets(asked)
        except (KafkaError, OSError, TimeoutError):
            return "what it holds it does not say"
        return f"it holds {first[asked[0]]} to {end[asked[0]] - 1}"

    async def _stay(self) -> None:
        """Keep the membership while nobody polls, and the lag true."""
        nobodys = self._partition(-1)
        while self._failure is None:
            await asyncio.sleep(self._limits.stay_every_s)
            now_s = self._now_s()
            if now_s - self._read_at < self._limits.stay_every_s or now_s - self._polled_at > self._limits.stand_max_s:
                continue
            try:
                await self._client.getmany(nobodys, timeout_ms=0)
                self._read_at = self._now_s()
                await self._ask_for_ends()
            except Exception as error:
                self._failure = error  # the next poll tells

    async def _ask_for_ends(self) -> bool:
        asked = [self._partition(partition) for partition in self.assigned or ()]
        if not asked:
            return True
        try:
            async with asyncio.timeout(self._limits.ask_s):
                ends = await self._client.end_offsets(asked)
        except (KafkaError, OSError, TimeoutError):
            return False
        self._ends = {each.partition: end for each, end in ends.items()}
        return True

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic, number)


class UndecodableRecord(Struct, frozen=True):
    """Stands for a record that the library cannot read."""

    offset: int
    timestamp: float
    key: None = None
    value: None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def _logged(partition: int, record: Any) -> LogRecord:
    """The record in our shape. What Kafka allows to be missing is empty here, and no receiver of ours wrote it."""
    headers = record.headers
    for _, value in headers:  # as good as never, and done for each record: `any` would cost twice as much
        if value is None:
            headers = tuple((name, value or b"") for name, value in headers)
            break
    return LogRecord(Position(partition, record.offset), Record(record.key or b"", record.value or b"", headers))


def _said(error: BaseException) -> str:
    return f"Kafka: {type(error).__name__}: {error}".rstrip(": ")
