"""Which events of an order are published again."""

from workers import resends
from workers.resends import VERSIONS_MAX, ResendRefusal, SentEvent

THREE = [SentEvent(10, 1, True), SentEvent(12, 2, True), SentEvent(11, 3, True)]


def test_version_is_followed_by_the_later_ones() -> None:
    assert resends.chosen(THREE[::-1], 2) == THREE[1:]
    assert resends.chosen(THREE, None) == THREE[2:]
    assert resends.chosen(THREE, 1) == THREE


def test_missing_versions_are_refused() -> None:
    assert resends.chosen(THREE[1:], 1) is ResendRefusal.UNKNOWN_VERSION
    assert resends.chosen(THREE, 4) is ResendRefusal.UNKNOWN_VERSION
    assert resends.chosen([], None) is ResendRefusal.UNKNOWN_VERSION


def test_event_on_its_way_stops_those_before_it_and_not_those_after_it() -> None:
    waiting = [THREE[0], SentEvent(12, 2, False), THREE[2]]
    assert resends.chosen(waiting, 1) is ResendRefusal.NOT_SENT_YET
    assert resends.chosen(waiting, 3) == THREE[2:]


def test_one_request_has_an_end() -> None:
    many = [SentEvent(version, version, True) for version in range(1, VERSIONS_MAX + 2)]
    assert resends.chosen(many, 1) is ResendRefusal.TOO_MANY
    assert len(resends.chosen(many, 2)) == VERSIONS_MAX
