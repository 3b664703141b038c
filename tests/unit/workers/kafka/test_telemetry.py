"""Metrics and log lines of the consumer group."""

import pytest
from prometheus_client import CollectorRegistry

from tests.support.fakes import MemoryLogger
from workers.kafka.source import ReplaceReason
from workers.kafka.telemetry import GroupTelemetry


class World:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.logger = MemoryLogger()
        self.telemetry = GroupTelemetry(self.registry, group="workers", logger=self.logger)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"alipay_notify_{name}_total", labels)


@pytest.fixture
def world() -> World:
    return World()


def test_rebalance_is_counted_by_group_and_logged_with_the_number_of_partitions(world: World) -> None:
    world.telemetry.rebalanced(3)
    assert world.value("rebalances", group="workers") == 1
    assert world.logger.lines == [("partitions assigned", {"count": 3})]


def test_every_replace_reason_starts_at_zero_and_is_counted(world: World) -> None:
    assert {world.value("consumer_rebuilds", reason=reason.value) for reason in ReplaceReason} == {0}
    world.telemetry.rebuilt(ReplaceReason.STALLED, "no records are delivered")
    assert world.value("consumer_rebuilds", reason="stalled") == 1
    (line,) = world.logger.of("consumer group member replaced")
    assert line == {"reason": "stalled", "error": "no records are delivered"}


def test_dropped_commit_is_counted_and_logged(world: World) -> None:
    world.telemetry.commit_dropped("CommitFailedError")
    assert world.value("commits_dropped") == 1
    assert world.logger.of("offset commit dropped, the batch is redelivered") == [{"error": "CommitFailedError"}]


def test_rewind_is_counted_and_logged_with_the_number_of_offsets(world: World) -> None:
    world.telemetry.rewound(2, committed=9000, to=4000)
    assert world.value("partitions_rewound") == 1
    ((_, fields),) = world.logger.lines
    assert fields == {"partition": 2, "offset": 4000, "count": 5000}
