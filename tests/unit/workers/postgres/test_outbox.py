"""What a worker remembers of the events it wrote, and what it leaves to another."""

import pytest

from schemas import topics
from schemas.events import Outgoing
from workers.postgres import outbox, settling
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


def ids(fresh: UnsentEvents, limit: int = 100) -> list[str]:
    return [event.id for _, event in fresh.offer(limit)]


def test_the_lowest_numbers_come_first_whatever_came_to_be_known_first() -> None:
    fresh = UnsentEvents()
    fresh.wrote(settled((7, event("N2", 1))))
    fresh.wrote(settled((3, event("N1", 1)), (5, event("N1", 2))))
    assert ids(fresh) == ["shop:N1:1", "shop:N1:2", "shop:N2:1"]
    assert ids(fresh, 1) == ["shop:N1:1"]


def test_what_is_acknowledged_is_forgotten_and_what_is_not_known_does_not_matter() -> None:
    fresh = UnsentEvents()
    fresh.wrote(settled((1, event("N1", 1)), (2, event("N2", 1))))
    fresh.forget([1, 99])
    assert ids(fresh) == ["shop:N2:1"]


def test_an_order_whose_older_event_another_has_to_send_is_left_behind_whole() -> None:
    fresh = UnsentEvents()
    news = [(5, event("N1", 3)), (6, event("N1", 4)), (7, event("N2", 1))]
    fresh.wrote(settled(*news, unsent_before=("shop:N1:2",)))
    assert ids(fresh) == ["shop:N2:1"]
    fresh.wrote(settled((8, event("N1", 5)), unsent_before=("shop:N1:4",)))
    assert ids(fresh) == ["shop:N2:1"]


def test_an_older_event_that_is_ours_to_send_stands_in_nobodys_way() -> None:
    fresh = UnsentEvents()
    fresh.wrote(settled((1, event("N1", 1))))
    fresh.wrote(settled((2, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(fresh) == ["shop:N1:1", "shop:N1:2"]


def test_who_remembers_too_much_forgets_all_that_he_has_not_begun_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FRESH_MAX", 2)
    fresh = UnsentEvents()
    fresh.wrote(settled((1, event("N1", 1)), (2, event("N2", 1)), (3, event("N3", 1))))
    assert ids(fresh) == []
    fresh.wrote(settled((4, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(fresh) == []


def test_what_may_be_on_its_way_is_remembered_however_much_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FRESH_MAX", 2)
    fresh = UnsentEvents()
    fresh.wrote(settled((1, event("N1", 1)), (2, event("N2", 1))))
    fresh.offer(1)
    fresh.offer(1)
    fresh.wrote(settled((3, event("N3", 1))))
    assert fresh.doubtful([1, 2, 3]) == {1}
    assert ids(fresh) == ["shop:N1:1"]
    fresh.wrote(settled((4, event("N1", 2)), unsent_before=("shop:N1:1",)))
    assert ids(fresh) == ["shop:N1:1", "shop:N1:2"]


def test_what_another_left_behind_may_have_been_sent_already() -> None:
    fresh = UnsentEvents()
    fresh.wrote(settled((7, event("N2", 1))))
    fresh.took_up([Emitted(number=3, event=event("N1", 1), sent_at_ms=None)])
    assert ids(fresh) == ["shop:N1:1", "shop:N2:1"]
    assert fresh.doubtful([3, 7]) == {3}
    fresh.forget([3, 7])
    assert fresh.doubtful([3, 7]) == set()
    assert ids(fresh) == []


def test_what_was_offered_before_may_be_on_its_way() -> None:
    fresh = UnsentEvents()
    fresh.wrote(settled((1, event("N1", 1)), (2, event("N2", 1))))
    fresh.offer(1)
    assert fresh.doubtful([1, 2]) == set()
    fresh.offer(2)
    assert fresh.doubtful([1, 2]) == {1}


def test_the_event_before_is_known_by_its_id() -> None:
    assert settling.previous_id(event("N:1", 10)) == "shop:N:1:9"
    assert settling.previous_id(event("N1", 1)) is None
    notice = Outgoing(id="held:0-1:parked", topic=topics.HELD, key=b"", value=b"", headers=())
    assert settling.previous_id(notice) is None
