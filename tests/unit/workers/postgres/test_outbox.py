"""Unsent events in memory: which ones a worker keeps, sends and adopts, and which may be duplicated."""

import pytest

from schemas import topics
from schemas.events import Outgoing
from workers.postgres import outbox
from workers.postgres.outbox import UnsentEvents
from workers.postgres.settling import SettleResult
from workers.queries import Emitted
from workers.settlement import drafting


def event(order: str, version: int) -> Outgoing:
    return Outgoing(
        id=f"shop:{order}:{version}",
        topic=topics.ORDER_EVENT,
        key=f"shop:{order}".encode(),
        value=b"{}",
        headers=(),
    )


def settled(*numbered: tuple[int, Outgoing], unsent_before: tuple[str, ...] = ()) -> SettleResult:
    return SettleResult(drafting.empty(), 0, list(numbered), frozenset(unsent_before))


def ids(unsent: UnsentEvents, limit: int = 100) -> list[str]:
    return [event.id for _, event in unsent.next_batch(limit)]


def test_events_are_sent_in_the_order_of_their_numbers() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((7, event("N2", 1))))
    unsent.add(settled((3, event("N1", 1)), (5, event("N1", 2))))
    assert ids(unsent) == ["shop:N1:1", "shop:N1:2", "shop:N2:1"]
    assert ids(unsent, 1) == ["shop:N1:1"]


def test_acknowledged_event_is_forgotten_and_unknown_number_ignored() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1)), (2, event("N2", 1))))
    unsent.forget([1, 99])
    assert ids(unsent) == ["shop:N2:1"]


def test_events_after_another_workers_unsent_event_are_left_in_the_table() -> None:
    unsent = UnsentEvents()
    news = [(5, event("N1", 3)), (6, event("N1", 4)), (7, event("N2", 1))]
    unsent.add(settled(*news, unsent_before=("shop:N1:2",)))
    assert ids(unsent) == ["shop:N2:1"]
    unsent.add(settled((8, event("N1", 5)), unsent_before=("shop:N1:4",)))
    assert ids(unsent) == ["shop:N2:1"]


def test_event_after_our_own_unsent_event_is_kept() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1))))
    unsent.add(settled((2, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(unsent) == ["shop:N1:1", "shop:N1:2"]


def test_untried_events_are_forgotten_beyond_the_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "IN_MEMORY_MAX", 2)
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1)), (2, event("N2", 1)), (3, event("N3", 1))))
    assert ids(unsent) == []
    unsent.add(settled((4, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(unsent) == []


def test_event_in_flight_is_kept_beyond_the_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "IN_MEMORY_MAX", 2)
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1)), (2, event("N2", 1))))
    unsent.next_batch(1)
    unsent.next_batch(1)
    unsent.add(settled((3, event("N3", 1))))
    assert unsent.maybe_duplicated([1, 2, 3]) == {1}
    assert ids(unsent) == ["shop:N1:1"]
    unsent.add(settled((4, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(unsent) == ["shop:N1:1", "shop:N1:2"]


def test_adopted_event_is_maybe_duplicated() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((7, event("N2", 1))))
    unsent.adopt([Emitted(number=3, event=event("N1", 1), sent_at_ms=None)])
    assert ids(unsent) == ["shop:N1:1", "shop:N2:1"]
    assert unsent.maybe_duplicated([3, 7]) == {3}
    unsent.forget([3, 7])
    assert unsent.maybe_duplicated([3, 7]) == set()
    assert ids(unsent) == []


def test_event_tried_twice_is_maybe_duplicated() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1)), (2, event("N2", 1))))
    unsent.next_batch(1)
    assert unsent.maybe_duplicated([1, 2]) == set()
    unsent.next_batch(2)
    assert unsent.maybe_duplicated([1, 2]) == {1}


def test_reused_number_keeps_its_new_event_when_the_lost_one_is_acknowledged() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1))))
    assert unsent.ids([1]) == {}
    unsent.next_batch(1)
    assert unsent.ids([1, 2]) == {1: "shop:N1:1"}
    unsent.add(settled((1, event("N2", 1))))
    unsent.forget([1])
    assert ids(unsent) == ["shop:N2:1"]
    assert len(unsent) == 1
    assert 1 in unsent


def test_acknowledged_event_with_a_locked_row_is_kept_and_not_sent_again() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1)), (2, event("N2", 1))))
    assert ids(unsent) == ["shop:N1:1", "shop:N2:1"]
    unsent.keep_unmarked({1, 99})
    unsent.forget([2])
    assert unsent.unmarked == [1]
    unsent.add(settled((3, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(unsent) == ["shop:N1:2"], "its successor is ours to send, because it was acknowledged"
    unsent.forget([1])
    assert unsent.unmarked == []


def test_other_event_under_the_number_of_a_lost_one_is_sent() -> None:
    unsent = UnsentEvents()
    unsent.add(settled((1, event("N1", 1))))
    assert ids(unsent) == ["shop:N1:1"]
    unsent.keep_unmarked({1})
    unsent.add(settled((1, event("N2", 1))))
    assert ids(unsent) == ["shop:N2:1"]
