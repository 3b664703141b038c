"""Limits, ports and errors of a consumer group member: the client it drives, the store it asks, its observer."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.structs import TopicPartition
from msgspec import Struct

from workers.errors import InfrastructureDown


class MemberLimits(Struct, frozen=True, kw_only=True):
    """Time limits and intervals, in seconds."""

    poll_s: float = 0.2  # wait for the first record; the consumer checks for a stop request this often
    late_s: float = 0.3  # wait beyond poll_s for a fetch, before the next poll continues to wait for it
    seek_s: float = 5.0  # ask group, log and store for the start offsets
    ask_s: float = 2.0  # one request for offsets of the log
    commit_s: float = 5.0
    connect_s: float = 5.0
    keep_alive_every_s: float = 10.0  # well below the group's max_poll_interval of 300 s
    busy_max_s: float = 3600.0  # a consumer that is busy with one batch for longer is taken for hung
    check_every_s: float = 10.0  # after empty polls: check for records that are not delivered
    stalled_s: float = 30.0
    unassigned_s: float = 60.0  # a rebalance ends within 30 s, or never
    unreachable_s: float = 60.0  # then all brokers may have new addresses, which only a new client looks up
    backoff_s: float = 0.5  # before a new member; doubled after each member that lived less than backoff_reset_s
    backoff_max_s: float = 5.0
    backoff_reset_s: float = 60.0
    commit_tries: int = 5


class GroupClient(Protocol):
    """The part of aiokafka's consumer that a member uses."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def subscribe(self, topics: Sequence[str], *, listener: ConsumerRebalanceListener) -> None: ...
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...
    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Any]]: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def resume(self, *partitions: TopicPartition) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...
    async def committed(self, partition: TopicPartition) -> int | None: ...
    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    def highwater(self, partition: TopicPartition) -> int | None: ...


class LastSettled(Protocol):
    """Query of the order store."""

    async def __call__(self, partition: int, *, below: int | None = None) -> int | None:
        """Return the highest offset of the partition, lower than `below`, that has a disposition; `None` if none has.

        Raises:
            InfrastructureDown: the store does not answer.
        """


class MemberObserver(Protocol):
    """Observes rebalances and rewinds. Best effort: no guarantee depends on it."""

    def rebalanced(self, partitions: int) -> None: ...
    def rewound(self, partition: int, *, committed: int, to: int) -> None: ...


class KafkaUnreachable(InfrastructureDown):
    """Kafka does not answer, or not in time."""


class ClientFailed(InfrastructureDown):
    """The client failed and must be replaced.

    `is_records` is true if it may have failed on a record. The next member then reads one record at a time.
    """

    def __init__(self, why: str, *, is_records: bool = False) -> None:
        super().__init__(why)
        self.is_records = is_records
