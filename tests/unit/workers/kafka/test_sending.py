"""One publish, batch by batch, over a producer in memory. Whole publishes: tests/unit/workers/kafka/test_events.py."""

import pytest
from aiokafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from schemas import topics
from tests.unit.workers.kafka.test_events import LARGE, Cluster, FakeProducer, event
from workers.kafka import sending
from workers.kafka.destinations import Destinations
from workers.kafka.sending import Sending

EVENTS = topics.ORDER_EVENT


class World:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.cluster.counts = dict.fromkeys(topics.ALL, 1)
        self.destinations = Destinations()
        self.producer = FakeProducer(self.cluster)
        self.producer.started = True
        self.arrived: set[int] = set()

    async def send(self, *sent: object, counts: dict[str, int] | None = None) -> Sending:
        events = [each if not isinstance(each, str) else event(each) for each in sent]
        one = Sending(self.producer, events, counts or self.cluster.counts, self.destinations)  # type: ignore[arg-type]
        await one.send(range(len(events)), EVENTS, self.arrived)
        return one


@pytest.fixture
def world() -> World:
    return World()


async def test_acknowledged_events_have_arrived(world: World) -> None:
    one = await world.send("A", "B")
    assert world.arrived == {0, 1}
    assert not one.is_unknown
    assert one.refused == {}


async def test_failed_partition_makes_the_outcome_unknown_and_is_away(world: World) -> None:
    world.cluster.errors[EVENTS] = [KafkaTimeoutError()]
    one = await world.send("A", "B")
    assert world.arrived == set()
    assert one.is_unknown
    assert world.destinations.is_away(EVENTS, 0)
    assert not world.destinations.is_away(EVENTS)


async def test_denied_topic_is_away_and_nothing_can_arrive_late(world: World) -> None:
    world.cluster.errors[EVENTS] = [TopicAuthorizationFailedError(EVENTS)]
    one = await world.send("A")
    assert not one.is_unknown
    assert world.destinations.is_away(EVENTS)


async def test_events_of_an_absent_topic_and_of_a_partition_that_is_away_are_not_sent(world: World) -> None:
    one = await world.send("A", counts={topics.HELD: 1})
    assert not one.has(EVENTS)
    assert one.has(topics.HELD)
    world.destinations.failed(EVENTS, 0, "no leader")
    await world.send("A")
    assert world.cluster.arrived == []


async def test_refusal_names_the_first_event_and_blocks_its_key(world: World) -> None:
    one = await world.send("A", event("B", 1, LARGE), event("B", 2), "C")
    assert world.arrived == {0, 3}
    assert [*one.refused] == [1]
    assert "never take 1 of the events" in one.refusal_text()
    assert "'B:1'" in one.refusal_text()


async def test_blocked_key_is_not_sent(world: World) -> None:
    events = [event("A", 1), event("A", 2), event("B")]
    one = Sending(world.producer, events, world.cluster.counts, world.destinations)
    one.block(0)
    await one.send([1, 2], EVENTS, world.arrived)
    assert world.arrived == {2}


def test_errors_are_told_with_their_name_once() -> None:
    assert sending.reason(TopicAuthorizationFailedError("a")).count("TopicAuthorizationFailedError") == 1
    assert sending.reason(OSError("no route")) == "OSError: no route"
    assert sending.reason(TimeoutError()) == "TimeoutError"
