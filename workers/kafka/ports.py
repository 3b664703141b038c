"""What a member of the consumer group is made with: the client it drives, its limits, its watchers, its failures."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.structs import TopicPartition
from msgspec import Struct

from workers.errors import InfrastructureDown


class MemberLimits(Struct, frozen=True, kw_only=True):
    """How long each thing may take, and how often another is done."""

    poll_s: float = 0.2  # how long a poll waits for the first record; the loop looks up that often whether to stop
    late_s: float = 0.3  # how much longer a read may take than it was asked to, before it is left to the next poll
    place_s: float = 5.0  # asking group, log and store where to begin
    ask_s: float = 2.0  # one question about the log's end
    commit_s: float = 5.0
    connect_s: float = 5.0
    stay_every_s: float = 10.0  # well below the group's own limit of 300 s
    stand_max_s: float = 3600.0
    look_every_s: float = 10.0  # whether records lie there that do not come
    stalled_s: float = 30.0
    unassigned_s: float = 60.0  # a rebalance ends within 30 s, or not at all
    unreachable_s: float = 60.0  # when every broker may have changed its address, which only a new client notices
    rest_s: float = 0.5  # after a client was given up, and twice as long after each one that did not last
    rest_max_s: float = 5.0
    lasted_s: float = 60.0
    commit_tries: int = 5


class GroupClient(Protocol):
    """What is used of the library's consumer."""

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
    """Asks the store."""

    async def __call__(self, partition: int, *, below: int | None = None) -> int | None:
        """The highest offset of the partition that has a disposition, among those `below`; `None` where none has."""


class MemberObserver(Protocol):
    """Those who want to know what happens to a member, without a guarantee."""

    def rebalanced(self, partitions: int) -> None: ...
    def rewound(self, partition: int, *, committed: int, to: int) -> None: ...


class KafkaUnreachable(InfrastructureDown):
    """Kafka does not answer, or not in time."""


class ClientFailed(InfrastructureDown):
    """The client failed in a way after which it is not to be trusted: it has to be replaced.

    `is_records` tells whether it was some record that it failed of, so that its successor has to be careful.
    """

    def __init__(self, why: str, *, is_records: bool = False) -> None:
        super().__init__(why)
        self.is_records = is_records


class Lag(Struct, frozen=True, kw_only=True):
    """How far one partition is behind: in records without a committed disposition, and in the age of the oldest.

    Where that record was not read yet, the age is the time since it was noticed that there is one.
    """

    partition: int
    messages: int
    seconds: float
