"""Records in flight, in batches: in a batch that is not acknowledged, and not known to be lost.

    append ─► open batch of the partition ─► round: one request a broker ─► acknowledgement ─► each append ends

A broker gets one round at a time. What arrives meanwhile shares the next, so under load many records share a request,
and a lone record waits for nothing. The next round leaves `PAUSE_S` after the acknowledgement: the senders that have
just been answered send again, and would otherwise take turns with those that wait, in rounds of half the size. A broker
that does not answer delays no other broker, and a partition without an answer delays the others of its broker for
`ROUND_S` at most.

A sender's wait and its record end at different times. The wait ends with the record, at its deadline, or when the
sender is cancelled. The record ends with its batch and not before. Until then it uses memory and may still be written,
so it counts against the quota however long ago the sender was refused.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ingest.errors import Unavailable
from ingest.pending import Pending
from ingest.quota import Quota
from schemas.record_format import Record

Delivered = asyncio.Future[Any]
ROUND_S = 0.1
PAUSE_S = 0.002  # a tenth less CPU and no more latency with 16 to 64 senders; with more, rounds are full anyhow
SWEEP_S = 0.02  # minimum time between two checks of the deadlines


class Builder(Protocol):
    """A batch in the making, as aiokafka has it."""

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Any:
        """Add a record. Return `None` if the batch is full; the first record always fits."""


class Batching(Protocol):
    """A producer, as far as batches need it."""

    def new_batch(self) -> Builder: ...

    def leader(self, partition: int, /) -> int | None:
        """Return the broker that leads this partition by the latest metadata; `None` if none is known."""

    def send(self, batch: Builder, partition: int, /) -> Delivered:
        """Send a batch; raise any exception if it cannot be sent. Only the caller awaits the future of its result."""


class Append(Pending):
    """One record in flight."""

    __slots__ = ("due_s",)

    def __init__(self, due_s: float) -> None:
        super().__init__()
        self.due_s = due_s


class ProducerBatch:
    """Records of one partition that are sent together, in the order of their deadlines."""

    __slots__ = ("appends", "builder", "bytes", "leader", "overdue", "partition")

    def __init__(self, builder: Builder, partition: int) -> None:
        self.builder = builder
        self.partition = partition
        self.appends: list[Append] = []
        self.bytes = 0
        self.overdue = 0  # how many of the appends have passed their deadline
        self.leader: int | None = None  # of the partition, when it was sent


class Batches:
    """The records in flight of one producer.

    Calls `on_end` when a batch has ended, with its error or `None` and the number of its records; `on_failed_send` when
    it could not be sent at all; and `on_overdue` when deadlines have passed.
    """

    def __init__(
        self,
        producer: Batching,
        quota: Quota,
        *,
        on_end: Callable[[BaseException | None, int], None],
        on_failed_send: Callable[[Exception], None],
        on_overdue: Callable[[], None],
    ) -> None:
        self._producer = producer
        self._quota = quota
        self._on_end = on_end
        self._on_failed_send = on_failed_send
        self._on_overdue = on_overdue
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[ProducerBatch, None] = {}  # all, sent or not, oldest first
        self._unsent: dict[int, list[ProducerBatch]] = {}  # by partition; records are added to the last one
        self._sent: dict[int, ProducerBatch] = {}  # by partition: one at a time, so that its records stay in order
        self._rounds: dict[int, asyncio.TimerHandle] = {}  # by broker: a round that is not acknowledged, and its limit
        self._pausing: set[int] = set()  # brokers that have just acknowledged a round
        self._waiting: set[int] = set()  # partitions found to wait for their broker; looked at again when one is free
        self._is_round_due = False
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None  # while `flush` waits

    def __bool__(self) -> bool:
        return bool(self._in_flight)

    def append(self, record: Record, partition: int, size: int, due_s: float) -> Append:
        """Add a record that was taken from the quota, and release it in the end. Return its end, to await.

        It ends well when the record is durable, and with Unavailable if that is not known to be so.

        Raises:
            Exception: the record cannot be added, and was not taken.
        """
        unsent = self._unsent.get(partition)
        batch = unsent[-1] if unsent else self._open(partition)
        headers = list(record.headers)
        try:
            if batch.builder.append(timestamp=None, key=record.key, value=record.value, headers=headers) is None:
                batch = self._open(partition)
                batch.builder.append(timestamp=None, key=record.key, value=record.value, headers=headers)
        except BaseException:
            if not batch.appends:
                self._drop(batch)
            raise
        append = Append(due_s)
        batch.appends.append(append)
        batch.bytes += size
        if not self._is_round_due and partition not in self._waiting:
            self._round_soon()
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_at(due_s, self._sweep)
        return append

    def _open(self, partition: int) -> ProducerBatch:
        batch = ProducerBatch(self._producer.new_batch(), partition)
        self._unsent.setdefault(partition, []).append(batch)
        self._in_flight[batch] = None
        return batch

    def _drop(self, batch: ProducerBatch) -> None:
        """Forget a batch that was never sent."""
        del self._in_flight[batch]
        self._take(batch)

    def _take(self, batch: ProducerBatch) -> None:
        """Take a batch from those that wait to be sent."""
        unsent = self._unsent[batch.partition]
        unsent.remove(batch)
        if not unsent:
            del self._unsent[batch.partition]

    def _round_soon(self) -> None:
        """Send at the end of this turn of the loop, together with all that it still brings."""
        self._is_round_due = True
        self._loop.call_soon(self._round)

    def _round(self) -> None:
        """Send the next batch of each partition, unless its broker has yet to acknowledge the last round, or pauses."""
        self._is_round_due = False
        reached: set[int] = set()
        for partition in [each for each in self._unsent if each not in self._sent and each not in self._waiting]:
            leader = self._producer.leader(partition)
            if leader in self._rounds or leader in self._pausing:
                self._waiting.add(partition)
            elif self._send(partition, leader) and leader is not None:
                reached.add(leader)
        for broker in reached:
            self._rounds[broker] = self._loop.call_later(ROUND_S, self._free, broker)

    def _free(self, broker: int) -> None:
        """Send the next round to a broker that has paused, or that has not acknowledged the last one in time."""
        self._rounds.pop(broker, None)
        self._pausing.discard(broker)
        self._waiting.clear()
        self._round()

    def _send(self, partition: int, leader: int | None) -> bool:
        """Send the next batch of a partition. Return whether it is on its way."""
        batch = self._unsent[partition][0]
        self._take(batch)
        batch.leader = leader
        try:
            delivered = self._producer.send(batch.builder, partition)
        except Exception as error:
            self._end(batch, f"the record could not be sent: {error!r}")
            self._on_failed_send(error)
            return False
        self._sent[partition] = batch
        delivered.add_done_callback(lambda delivered: self._delivered(batch, delivered))
        return True

    def _delivered(self, batch: ProducerBatch, delivered: Delivered) -> None:
        error = asyncio.CancelledError() if delivered.cancelled() else delivered.exception()
        if self._sent.get(batch.partition) is not batch:
            return  # it was ended with its producer
        del self._sent[batch.partition]
        self._go_on_after(batch.leader)
        self._end(batch, None if error is None else f"unknown whether written: {error!r}")
        self._on_end(error, len(batch.appends))

    def _go_on_after(self, broker: int | None) -> None:
        """Begin a broker's pause when the first batch of its round has ended. Batches that end later begin no other."""
        limit = self._rounds.pop(broker, None) if broker is not None else None
        if broker is not None and limit is not None:
            limit.cancel()
            self._pausing.add(broker)
            self._loop.call_later(PAUSE_S, self._free, broker)
        elif broker not in self._pausing and self._unsent and not self._is_round_due:
            self._round_soon()

    def _end(self, batch: ProducerBatch, refusal: str | None) -> None:
        self._in_flight.pop(batch, None)
        self._quota.release(batch.bytes, len(batch.appends))
        for append in batch.appends:
            append.end(None if refusal is None else Unavailable(refusal))
        if not self._in_flight and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def flush(self, *, within_s: float) -> None:
        """Send the rest, and return when all records have ended, or after `within_s`."""
        for limit in self._rounds.values():
            limit.cancel()
        self._rounds.clear()
        self._pausing.clear()
        self._waiting.clear()
        self._round()
        if self._in_flight:
            self._idle = self._loop.create_future()
            await asyncio.wait([self._idle], timeout=within_s)

    def end_all(self) -> None:
        """End all records, because their producer is closed and will never end them."""
        ended, self._in_flight, self._unsent, self._sent = list(self._in_flight), {}, {}, {}
        error = asyncio.CancelledError()
        for batch in ended:
            self._end(batch, f"unknown whether written: {error!r}")
        for batch in ended:
            self._on_end(error, len(batch.appends))

    def _sweep(self) -> None:
        """End the waits whose deadlines have passed. A batch without any other wait is not sent any more."""
        self._sweep_timer = None
        now_s = self._loop.time()
        for batch in list(self._in_flight):
            before = batch.overdue
            while batch.overdue < len(batch.appends) and batch.appends[batch.overdue].due_s <= now_s:
                batch.appends[batch.overdue].end(Unavailable("unknown whether written: no acknowledgement in time"))
                batch.overdue += 1
            if batch.overdue > before:
                self._on_overdue()  # even if the senders were cancelled: it means the same for the log
            if batch.overdue == len(batch.appends) and self._sent.get(batch.partition) is not batch:
                self._take(batch)
                self._end(batch, "never sent")
        due_s = [batch.appends[batch.overdue].due_s for batch in self._in_flight if batch.overdue < len(batch.appends)]
        if due_s and self._sweep_timer is None:
            self._sweep_timer = self._loop.call_at(max(min(due_s), now_s + SWEEP_S), self._sweep)
