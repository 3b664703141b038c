"""The leader's walk over unsent events, on a table in memory. On PostgreSQL: tests/contract/test_outbox.py."""

from typing import Any

import pytest

from schemas import topics
from tests.support.fakes import AwayTopics
from workers.emission import NOTHING_AWAY, Away
from workers.postgres import orphans
from workers.postgres.orphans import LOOK_EVERY_S, LOOK_LATEST_S, ORPHANED_AFTER_S, WALK_AGAIN_S, OrphanWalk

ONLY = frozenset({topics.ORDER_EVENT, topics.HELD})


class Table:
    """The unsent rows: the topic of each number, and the number of the unsent event before it."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.previous: dict[int, int] = {}
        self.queries = 0

    def add(self, *numbers: int, topic: str = topics.ORDER_EVENT) -> None:
        self.rows |= dict.fromkeys(numbers, topic)

    async def fetchval(self, query: str, *args: Any) -> int:
        return max(self.rows, default=0)

    async def fetch(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        self.queries += 1
        after, upto, wanted, limit = args
        return [
            (number, f"shop:N:{number}", topic, b"shop:N", b"{}", b"\x90", None, self.previous.get(number))
            for number, topic in sorted(self.rows.items())
            if after < number <= upto and topic in wanted
        ][:limit]


class World:
    def __init__(self) -> None:
        self.table = Table()
        self.now_s = 100.0
        self.walk = OrphanWalk(ONLY, lambda: self.now_s)

    async def find(self, *, limit: int = 3, own: set[int] | None = None, away: Away = NOTHING_AWAY) -> list[int]:
        self.walk.heed(away)
        connection: Any = self.table
        found = await self.walk.find(connection, limit, own=own or set(), away=away)
        self.walk.moved(found)
        return [orphan.number for orphan in found.orphans]


@pytest.fixture
def world() -> World:
    return World()


async def test_event_is_an_orphan_two_seconds_after_the_first_sight_of_it(world: World) -> None:
    world.table.add(1, 2)
    assert await world.find() == []
    world.now_s += ORPHANED_AFTER_S / 2
    world.table.add(3)
    assert await world.find() == []
    world.now_s += ORPHANED_AFTER_S / 2
    assert await world.find() == [1, 2]
    world.now_s += ORPHANED_AFTER_S / 2
    assert await world.find() == [3]


async def test_walk_goes_on_where_it_ended_and_begins_anew_after_a_while(world: World) -> None:
    world.table.add(*range(1, 8))
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert [await world.find() for _ in range(4)] == [[1, 2, 3], [4, 5, 6], [7], []]
    world.now_s += WALK_AGAIN_S
    assert await world.find() == [1, 2, 3]


async def test_new_leader_takes_every_event_as_seen_for_the_first_time(world: World) -> None:
    world.table.add(1)
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    world.walk.forget_sight()
    assert await world.find() == []
    world.now_s += ORPHANED_AFTER_S
    assert await world.find() == [1]


async def test_topics_that_are_away_are_skipped_and_met_when_they_are_back(world: World) -> None:
    world.table.add(1, 2, topic=topics.HELD)
    world.table.add(3)
    away = AwayTopics(topics.HELD)
    await world.find(away=away)
    world.now_s += ORPHANED_AFTER_S
    assert await world.find(away=away) == [3]
    assert await world.find(away=away) == []
    assert await world.find() == [1, 2, 3]


async def test_walk_without_any_topic_reads_no_rows(world: World) -> None:
    world.table.add(1)
    await world.find(away=AwayTopics(*ONLY))
    world.now_s += ORPHANED_AFTER_S
    assert await world.find(away=AwayTopics(*ONLY)) == []
    assert world.table.queries == 0


async def test_event_of_a_partition_that_is_away_is_skipped(world: World) -> None:
    class OfOneEvent:
        topics: frozenset[str] = frozenset()

        def holds(self, event: Any) -> bool:
            return bool(event.id == "shop:N:2")

    world.table.add(1, 2, 3)
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert await world.find(away=OfOneEvent()) == [1, 3]


async def test_version_is_skipped_unless_its_predecessor_is_sent_with_it(world: World) -> None:
    world.table.add(3, 4, 5, 6, 7)
    world.table.previous = {3: 1, 4: 3, 6: 5, 7: 2}
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert await world.find(limit=9, own={2}) == [5, 6, 7]


async def test_rows_that_cannot_be_sent_are_passed_within_one_look(world: World) -> None:
    world.table.add(*range(1, 20))
    world.table.previous = dict.fromkeys(range(1, 19), 99)
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert await world.find() == [19]


async def test_look_over_many_rows_is_bounded_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "NUMBERS_MAX", 10)
    monkeypatch.setattr(orphans, "QUERIES_MAX", 3)
    world.table.add(65)
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert [await world.find() for _ in range(3)] == [[], [], [65]]
    assert world.table.queries == 7


async def test_without_room_nothing_is_found_and_the_walk_stays(world: World) -> None:
    world.table.add(1)
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert await world.find(limit=0) == []
    assert await world.find() == [1]


async def test_look_is_due_once_in_a_while_and_while_there_are_more_orphans(world: World) -> None:
    assert world.walk.begins_look(is_hungry=False)
    assert not world.walk.begins_look(is_hungry=True)
    world.now_s += LOOK_EVERY_S
    assert world.walk.begins_look(is_hungry=True)
    world.table.add(*range(1, 5))
    await world.find()
    world.now_s += ORPHANED_AFTER_S
    assert world.walk.begins_look(is_hungry=False)
    await world.find()
    assert not world.walk.begins_look(is_hungry=False)
    assert world.walk.begins_look(is_hungry=True)
    await world.find()
    assert not world.walk.begins_look(is_hungry=True)


async def test_events_of_our_own_go_before_a_look_but_not_for_ever(world: World) -> None:
    assert world.walk.begins_look(is_hungry=False)
    world.now_s += LOOK_EVERY_S
    assert not world.walk.begins_look(is_hungry=False)
    world.now_s += LOOK_LATEST_S - LOOK_EVERY_S
    assert world.walk.begins_look(is_hungry=False)
