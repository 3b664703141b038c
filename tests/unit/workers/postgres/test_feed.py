"""The feed of events: up to which number it is complete, by the transactions that run."""

import asyncio
from typing import Any

from tests.unit.workers.postgres.sql_connection import ScriptedConnection
from workers.postgres.feed import Feed


class Outbox:
    """An outbox whose highest number was drawn by transactions that may still run. All of its rows are visible."""

    def __init__(self) -> None:
        self.highest_drawn = 0
        self.drawing: list[str] = []  # the transactions that have drawn a number and still run

    def answer(self, query: str, args: tuple[Any, ...]) -> Any:
        if "outbox_number_seq" in query:
            return [(each,) for each in self.drawing] if "pg_locks" in query else self.highest_drawn
        after, complete, limit = args
        numbers = range(after + 1, min(complete, after + limit) + 1)
        return [(number, f"id:{number}", "topic", b"", b"", b"\x90", None) for number in numbers]


async def numbers(feed: Feed, outbox: Outbox, after: int = 0, limit: int = 100) -> list[int]:
    return [emitted.number for emitted in await feed.after(ScriptedConnection(outbox.answer), after, limit)]


async def test_feed_is_complete_up_to_the_highest_number_if_no_transaction_runs() -> None:
    feed, outbox = Feed(), Outbox()
    outbox.highest_drawn = 5
    assert await numbers(feed, outbox) == [1, 2, 3, 4, 5]
    assert await numbers(feed, outbox, after=2, limit=2) == [3, 4]


async def test_feed_waits_until_all_that_have_drawn_at_the_noted_moment_have_ended() -> None:
    feed, outbox = Feed(), Outbox()
    outbox.highest_drawn = 3
    assert await numbers(feed, outbox) == [1, 2, 3]
    outbox.highest_drawn, outbox.drawing = 5, ["3/100", "4/7"]
    assert await numbers(feed, outbox) == [1, 2, 3]
    outbox.highest_drawn, outbox.drawing = 9, ["4/7", "3/101"]
    assert await numbers(feed, outbox) == [1, 2, 3]
    outbox.drawing = ["3/101"]
    assert await numbers(feed, outbox) == [1, 2, 3, 4, 5]


async def test_feed_advances_although_some_transaction_always_runs() -> None:
    feed, outbox = Feed(), Outbox()
    seen: list[int] = []
    for number in range(6):
        outbox.highest_drawn += 10
        outbox.drawing = [f"3/{number}", f"3/{number + 1}"]
        seen += [number for number in await numbers(feed, outbox) if number not in seen]
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) >= 20


async def test_two_looks_at_once_each_judge_by_their_own_numbers() -> None:
    feed, outbox = Feed(), Outbox()
    outbox.highest_drawn = 5
    may_go_on = asyncio.Event()

    class Slow(ScriptedConnection):
        async def fetch(self, query: str, *args: Any) -> Any:
            answer = await super().fetch(query, *args)
            if "pg_locks" in query:
                await may_go_on.wait()  # it has read that nothing draws
            return answer

    slow = asyncio.create_task(feed.after(Slow(outbox.answer), 0, 100))
    await asyncio.sleep(0)
    outbox.highest_drawn, outbox.drawing = 9, ["3/100"]
    assert await numbers(feed, outbox) == []
    may_go_on.set()
    assert [emitted.number for emitted in await slow] == [1, 2, 3, 4, 5]
    assert await numbers(feed, outbox) == [1, 2, 3, 4, 5]
    outbox.drawing = []
    assert await numbers(feed, outbox, after=5) == [6, 7, 8, 9]


async def test_look_that_another_one_overtakes_takes_nothing_back() -> None:
    feed, outbox = Feed(), Outbox()
    outbox.highest_drawn = 5
    has_read, may_go_on = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedConnection):
        async def fetchval(self, query: str, *args: Any) -> Any:
            answer = await super().fetchval(query, *args)
            has_read.set()
            await may_go_on.wait()
            return answer

    slow = asyncio.create_task(feed.after(Slow(outbox.answer), 0, 100))
    await has_read.wait()
    outbox.highest_drawn = 9
    assert len(await numbers(feed, outbox)) == 9
    outbox.highest_drawn, outbox.drawing = 10, ["3/100"]
    may_go_on.set()
    await slow
    assert await numbers(feed, outbox, after=5) == [6, 7, 8, 9], "number 10 is not decided, and the others are"


async def test_numbers_that_a_promoted_standby_gives_out_again_are_waited_for() -> None:
    feed, outbox = Feed(), Outbox()
    outbox.highest_drawn = 9
    assert len(await numbers(feed, outbox)) == 9
    outbox.highest_drawn, outbox.drawing = 7, ["3/100"]
    assert await numbers(feed, outbox, after=5) == []
    outbox.highest_drawn, outbox.drawing = 8, []
    assert await numbers(feed, outbox, after=5) == [6, 7, 8]
