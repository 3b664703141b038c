"""The outbox's way to the topics."""

import asyncio
from collections.abc import Callable

import pytest

from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.outbox_relay import Relay


class Outbox:
    """So many events; each send takes a moment. `fails` raises at the next sends."""

    def __init__(self, waiting: int = 0, *fails: Exception) -> None:
        self.waiting = waiting
        self.fails = list(fails)
        self.at_once = 0
        self.sends: list[int] = []
        self.pauses = 0

    async def emit(self, limit: int) -> int:
        self.at_once += 1
        assert self.at_once == 1, "two senders would mix up the versions"
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.fails:
            raise self.fails.pop(0)
        sent = min(limit, self.waiting)
        self.waiting -= sent
        self.sends.append(sent)
        return sent

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        self.pauses += 1

    def relay(self, *, look_every_s: float = 60) -> Relay:
        return Relay(self.emit, observer=self, events_max=500, look_every_s=look_every_s)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is watched is a plain value
            await asyncio.sleep(0)


async def test_it_sends_until_the_outbox_is_empty() -> None:
    outbox = Outbox(1200)
    assert await outbox.relay().run_once() == 1200
    assert outbox.sends == [500, 500, 200]


async def test_what_lies_there_at_the_start_is_sent_and_what_comes_later_when_it_is_woken() -> None:
    outbox = Outbox(3)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends == [3])
    outbox.waiting = 2
    await asyncio.sleep(0.01)
    assert outbox.sends == [3], "nobody has woken it"
    relay.wake()
    await until(lambda: outbox.sends == [3, 2])
    relay.stop()
    await asyncio.wait_for(running, 1)


async def test_a_wake_while_it_sends_is_not_lost() -> None:
    outbox = Outbox(3)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.at_once)
    relay.wake()
    await until(lambda: outbox.sends == [3, 0])
    relay.stop()
    await asyncio.wait_for(running, 1)


async def test_it_looks_from_time_to_time_for_what_others_left() -> None:
    outbox = Outbox()
    relay = outbox.relay(look_every_s=0.01)
    running = asyncio.create_task(relay.run())
    await until(lambda: len(outbox.sends) >= 3)
    relay.stop()
    await asyncio.wait_for(running, 1)


async def test_trouble_pauses_it_and_the_events_wait() -> None:
    outbox = Outbox(3, InfrastructureDown("no topic"))
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends == [3])
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.pauses == 1


async def test_a_stop_sends_once_more_what_was_written_before_it() -> None:
    outbox = Outbox()
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends == [0])
    outbox.waiting = 7
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.sends == [0, 7]


async def test_a_stop_does_not_wait_for_a_topic_that_is_away() -> None:
    outbox = Outbox(3, *[InfrastructureDown("no topic")] * 1000)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.pauses)
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.waiting == 3


async def test_a_stop_does_not_wait_for_all_that_others_left_behind() -> None:
    """After an outage of the topic that may be more than can be sent before somebody kills us."""
    outbox = Outbox(1_000_000)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends)
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.waiting > 900_000


async def test_damage_ends_it() -> None:
    outbox = Outbox(3, InfrastructureDamaged("page 7"))
    with pytest.raises(InfrastructureDamaged):
        await outbox.relay().run()
