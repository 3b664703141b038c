"""Consumer lag of one member, per partition. For metrics, and to detect a consumer that is stuck."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from msgspec import Struct

from workers.kafka.ports import GroupClient


class Lag(Struct, frozen=True, kw_only=True):
    """Lag of one partition: the number of records without a committed offset, and the age of the oldest.

    If the oldest record is not fetched yet, `seconds` counts from the moment when the lag was first seen.
    """

    partition: int
    messages: int
    seconds: float


class LagTracker:
    """Keeps committed offsets, end offsets and the age of the oldest uncommitted record of each partition."""

    def __init__(
        self, client: GroupClient, *, topic: str, ask_s: float, clock_s: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._topic = topic
        self._ask_s = ask_s
        self._clock_s = clock_s
        self._committed: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._oldest_s: dict[int, float] = {}  # when the first uncommitted record was written, or else first seen

    def restart(self, *, committed: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Begin again with these partitions, after a rebalance. `committed` and `ends` are next offsets."""
        self._committed = dict(committed)
        self._ends = dict(ends)
        self._oldest_s.clear()

    def fetched(self, partition: int, *, written_s: float) -> None:
        """Note that a batch was fetched whose first record was written at `written_s` (Unix time)."""
        self._oldest_s.setdefault(partition, written_s)

    def committed(self, partition: int, next_offset: int) -> None:
        self._committed[partition] = next_offset
        self._oldest_s.pop(partition, None)

    async def refresh_ends(self, partitions: Collection[int]) -> bool:
        """Fetch the end offsets of these partitions. Return whether the brokers answered in time."""
        if not partitions:
            return True
        try:
            async with asyncio.timeout(self._ask_s):
                ends = await self._client.end_offsets([TopicPartition(self._topic, each) for each in partitions])
        except (KafkaError, OSError, TimeoutError):
            return False
        self._ends = {each.partition: end for each, end in ends.items()}
        return True

    def has_unread(self, next_offsets: Mapping[int, int]) -> bool:
        """Return whether the log has records at or after `next_offsets`, by the end offsets fetched last."""
        return any(self._ends.get(partition, 0) > offset for partition, offset in next_offsets.items())

    def lag(self, partition: int) -> Lag:
        """Return the lag of a partition of the last `restart`, without a request to the brokers."""
        highwater = self._client.highwater(TopicPartition(self._topic, partition)) or 0
        messages = max(0, max(highwater, self._ends.get(partition, 0)) - self._committed[partition])
        if not messages:
            self._oldest_s.pop(partition, None)
            return Lag(partition=partition, messages=0, seconds=0.0)
        since_s = self._oldest_s.setdefault(partition, self._clock_s())
        return Lag(partition=partition, messages=messages, seconds=max(0.0, self._clock_s() - since_s))
