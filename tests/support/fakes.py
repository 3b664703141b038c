"""Small stand-ins for ports that many tests need: topics, observers, loggers. Each keeps its calls."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from ingest.kafka.in_flight import ProducerFault
from schemas.events import Outgoing
from schemas.record_format import Record
from workers.emission import Published
from workers.errors import InfrastructureDown
from workers.kafka.source import ReplaceReason
from workers.replays import ReplayTask
from workers.settlement.plan import LogRecord, ParsedRecord, Position, WritePlan


class MemoryTopics:
    """The topics that consumers read. While `down` they are unreachable; `away` are those that are away.

    They refuse the events whose id is in `refuses`, and the later ones of their keys.
    """

    def __init__(self) -> None:
        self.events: list[Outgoing] = []
        self.down = False
        self.away = AwayTopics()
        self.refuses: set[str] = set()
        self.tried: list[str] = []

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        if self.down:
            raise InfrastructureDown("no topic answers")
        self.tried += [event.id for event in events]
        refused = [index for index, event in enumerate(events) if event.id in self.refuses]
        blocked = {(events[index].topic, events[index].key): index for index in reversed(refused)}
        acknowledged = [
            index
            for index, event in enumerate(events)
            if index < blocked.get((event.topic, event.key), len(events)) and not self.away.holds(event)
        ]
        self.events += [events[index] for index in acknowledged]
        return Published(acknowledged=acknowledged, refused=refused, trouble="refused" if refused else "")


class AwayTopics:
    """The topics that are away."""

    def __init__(self, *names: str) -> None:
        self.topics = frozenset(names)

    def holds(self, event: Outgoing) -> bool:
        return event.topic in self.topics


class MemoryLogger:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info

    def of(self, event: str) -> list[dict[str, Any]]:
        """The fields of every line with this event."""
        return [fields for name, fields in self.lines if name == event]


class PlanObserver:
    """Observes the processing of batches."""

    def __init__(self) -> None:
        self.plans: list[WritePlan] = []
        self.parsed_records: list[ParsedRecord] = []
        self.emitted_ids: list[str] = []

    def settled(self, plan: WritePlan, parsed_records: Sequence[ParsedRecord]) -> None:
        self.plans.append(plan)
        self.parsed_records += parsed_records

    def emitted(self, events: Sequence[Outgoing]) -> None:
        self.emitted_ids += [event.id for event in events]

    def step(self, name: str, seconds: float) -> None:
        assert name in ("read", "apply", "emit")
        assert seconds >= 0


class GroupObserver:
    """Observes a worker's membership of its consumer group."""

    def __init__(self) -> None:
        self.rebalances = 0
        self.rebuilds: list[ReplaceReason] = []
        self.dropped: list[str] = []
        self.rewinds: list[tuple[int, int, int]] = []

    def rebalanced(self, partitions: int) -> None:
        self.rebalances += 1

    def rebuilt(self, reason: ReplaceReason, why: str) -> None:
        self.rebuilds.append(reason)

    def commit_dropped(self, why: str) -> None:
        self.dropped.append(why)

    def rewound(self, partition: int, *, committed: int, to: int) -> None:
        self.rewinds.append((partition, committed, to))


class ProducerObserver:
    """Observes how often a producer is replaced, and why."""

    def __init__(self) -> None:
        self.faults: list[ProducerFault] = []

    def producing(self) -> None: ...

    def rebuilt(self, fault: ProducerFault) -> None:
        self.faults.append(fault)


class Offsets:
    """Gives records the offsets of partition 0, one after the other."""

    def __init__(self) -> None:
        self._offsets = count()

    def position(self) -> Position:
        return Position(0, next(self._offsets))

    def log_record(self, record: Record) -> LogRecord:
        return LogRecord(self.position(), record)


class Unobserved:
    """Observes tasks and keeps nothing; it expects no pause."""

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        raise AssertionError from error

    def task_ended(self, task: ReplayTask) -> None: ...
