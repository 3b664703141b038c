"""Topics and partitions in trouble: how long they are left alone, and what is told about them."""

import pytest

from tests.support.clocks import Clock
from workers.kafka.destinations import FORGOTTEN_AFTER_S, PAUSE_MAX_S, PAUSE_S, Destinations


@pytest.fixture
def clock() -> Clock:
    return Clock(50.0)


@pytest.fixture
def destinations(clock: Clock) -> Destinations:
    return Destinations(clock)


def test_without_trouble_nothing_is_away(destinations: Destinations) -> None:
    assert not destinations.is_away("a")
    assert not destinations.is_away("a", 3)
    assert destinations.trouble is None


def test_topic_is_away_with_all_its_partitions(destinations: Destinations) -> None:
    destinations.failed("a", None, "missing")
    assert destinations.is_away("a")
    assert destinations.is_away("a", 3)
    assert not destinations.is_away("b")
    assert destinations.is_on_trial("a")
    assert destinations.trouble == "a: missing"


def test_partition_is_away_alone(destinations: Destinations) -> None:
    destinations.failed("a", 3, "no leader")
    assert destinations.is_away("a", 3)
    assert not destinations.is_away("a", 2)
    assert not destinations.is_away("a")
    assert destinations.any_partition_away("a")
    assert not destinations.any_partition_away("b")
    assert not destinations.is_on_trial("a")


def test_pause_grows_with_each_failure_up_to_its_maximum(destinations: Destinations, clock: Clock) -> None:
    pauses = []
    for _ in range(7):
        destinations.failed("a", None, "missing")
        began_s = clock.now_s
        while destinations.is_away("a"):
            clock.now_s += PAUSE_S / 2
        pauses.append(clock.now_s - began_s)
    assert pauses == [0.5, 1, 2, 4, 5, 5, 5]
    assert max(pauses) == PAUSE_MAX_S


def test_acknowledged_send_ends_the_trouble_of_topic_and_partition(destinations: Destinations) -> None:
    destinations.failed("a", None, "denied")
    destinations.failed("a", 3, "no answer")
    destinations.failed("a", 4, "no leader")
    destinations.worked("a", 3)
    assert not destinations.is_away("a", 3)
    assert destinations.trouble == "a: no leader"
    destinations.worked("a", 4)
    assert destinations.trouble is None


def test_each_topic_is_named_once_and_its_own_trouble_before_its_partitions(destinations: Destinations) -> None:
    destinations.failed("b", 1, "no answer")
    destinations.failed("a", None, "missing")
    destinations.failed("a", 2, "no answer")
    assert destinations.trouble == "a: missing; b: no answer"


def test_old_trouble_and_old_refusals_are_forgotten(destinations: Destinations, clock: Clock) -> None:
    destinations.failed("a", 2, "no answer")
    destinations.refused("2 events are too large")
    assert destinations.trouble == "a: no answer; 2 events are too large"
    clock.now_s += FORGOTTEN_AFTER_S + PAUSE_S
    assert not destinations.trouble
    assert not destinations.any_partition_away("a")
