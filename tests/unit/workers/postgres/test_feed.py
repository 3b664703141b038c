"""The feed of events: up to which number it is complete, by the transactions that run."""

from typing import Any

from tests.unit.workers.postgres.sql_connection import ScriptedConnection
from workers.postgres.feed import Feed


class Outbox:
    """An outbox whose highest number was drawn by transactions that may still run. All of its rows are visible."""

    def __init__(self) -> None:
        self.highest_drawn = 0
        self.next_transaction = 100
        self.oldest_running = 100

    def answer(self, query: str, args: tuple[Any, ...]) -> Any:
        if "outbox_number_seq" in query:
            return self.highest_drawn
        if "pg_current_snapshot" in query:
            return self.next_transaction, self.oldest_running
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


async def test_feed_waits_until_every_transaction_at_the_noted_moment_has_ended() -> None:
    feed, outbox = Feed(), Outbox()
    outbox.highest_drawn = 3
    assert await numbers(feed, outbox) == [1, 2, 3]
    outbox.highest_drawn, outbox.next_transaction = 5, 103  # 100 to 102 run
    assert await numbers(feed, outbox) == [1, 2, 3]
    outbox.highest_drawn, outbox.next_transaction, outbox.oldest_running = 9, 110, 102
    assert await numbers(feed, outbox) == [1, 2, 3]
    outbox.oldest_running = 103
    assert await numbers(feed, outbox) == [1, 2, 3, 4, 5]


async def test_feed_advances_although_some_transaction_always_runs() -> None:
    feed, outbox = Feed(), Outbox()
    seen: list[int] = []
    for _ in range(6):
        outbox.highest_drawn += 10
        outbox.next_transaction += 10
        seen += [number for number in await numbers(feed, outbox) if number not in seen]
        outbox.oldest_running = outbox.next_transaction - 1
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) >= 20
