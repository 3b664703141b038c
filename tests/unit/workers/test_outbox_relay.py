"""The relay: when it sends the outbox, and when it ends."""

import asyncio

import pytest

from tests.support.waiting import until
from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.outbox_relay import Relay, Relays


class Outbox:
    """An outbox with this many unsent events. `fails` has errors for the next sends."""

    def __init__(self, waiting: int = 0, *fails: Exception) -> None:
        self.waiting = waiting
        self.fails = list(fails)
        self.at_once = 0
        self.sends: list[int] = []
        self.pauses = 0

    async def emit(self, limit: int) -> int:
        self.at_once += 1
        assert self.at_once == 1, "two sends at once would mix up the versions"
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


async def test_relay_sends_until_the_outbox_is_empty() -> None:
    outbox = Outbox(1200)
    assert await outbox.relay().run_once() == 1200
    assert outbox.sends == [500, 500, 200]


async def test_relay_sends_at_the_start_and_then_when_it_is_woken() -> None:
    outbox = Outbox(3)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends == [3])
    outbox.waiting = 2
    for _ in range(20):
        await asyncio.sleep(0)
    assert outbox.sends == [3], "it was not woken"
    relay.wake()
    await until(lambda: outbox.sends == [3, 2])
    relay.stop()
    await asyncio.wait_for(running, 1)


async def test_wake_during_a_send_is_not_lost() -> None:
    outbox = Outbox(3)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.at_once)
    relay.wake()
    await until(lambda: outbox.sends == [3, 0])
    relay.stop()
    await asyncio.wait_for(running, 1)


async def test_relay_looks_from_time_to_time_without_a_wake() -> None:
    outbox = Outbox()
    relay = outbox.relay(look_every_s=0.01)
    running = asyncio.create_task(relay.run())
    await until(lambda: len(outbox.sends) >= 3)
    relay.stop()
    await asyncio.wait_for(running, 1)


async def test_unavailable_topic_is_retried() -> None:
    outbox = Outbox(3, InfrastructureDown("no topic"))
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends == [3])
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.pauses == 1


async def test_stop_sends_events_that_were_written_before_it() -> None:
    outbox = Outbox()
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends == [0])
    outbox.waiting = 7
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.sends == [0, 7]


async def test_stop_does_not_wait_for_an_unavailable_topic() -> None:
    outbox = Outbox(3, *[InfrastructureDown("no topic")] * 1000)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.pauses)
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.waiting == 3


async def test_stop_sends_only_a_part_of_a_large_outbox() -> None:
    """After an outage of the topic, adopted events may be too many to send before SIGKILL."""
    outbox = Outbox(1_000_000)
    relay = outbox.relay()
    running = asyncio.create_task(relay.run())
    await until(lambda: outbox.sends)
    relay.stop()
    await asyncio.wait_for(running, 1)
    assert outbox.waiting > 900_000


async def test_damage_ends_the_relay() -> None:
    outbox = Outbox(3, InfrastructureDamaged("page 7"))
    with pytest.raises(InfrastructureDamaged):
        await outbox.relay().run()


async def test_relays_are_woken_and_stopped_together() -> None:
    orders, notices = Outbox(2), Outbox(0)
    relays = Relays([orders.relay(), notices.relay()])
    running = asyncio.create_task(relays.run())
    await until(lambda: orders.sends == [2] and notices.sends == [0])
    notices.waiting = 1
    relays.wake()
    await until(lambda: notices.sends == [0, 1])
    relays.stop()
    await asyncio.wait_for(running, 1)


async def test_relay_that_waits_for_its_topic_does_not_hold_up_the_other() -> None:
    class Slow(Outbox):
        async def emit(self, limit: int) -> int:
            await released.wait()
            return await super().emit(limit)

    released = asyncio.Event()
    orders, notices = Outbox(2), Slow(1)
    relays = Relays([orders.relay(), notices.relay()])
    running = asyncio.create_task(relays.run())
    await until(lambda: orders.sends == [2])
    orders.waiting = 3
    relays.wake()
    await until(lambda: orders.sends == [2, 3])
    released.set()
    relays.stop()
    await asyncio.wait_for(running, 1)
    assert notices.sends == [1, 0]


async def test_damage_that_one_relay_meets_ends_both() -> None:
    relays = Relays([Outbox(0, InfrastructureDamaged("no such table")).relay(), Outbox(0).relay()])
    with pytest.raises(InfrastructureDamaged):
        await asyncio.wait_for(relays.run(), 5)


async def test_relay_that_a_library_has_cancelled_ends_both() -> None:
    """Without a request to cancel it. Otherwise its events would stay unsent, and nothing would notice."""

    class Cancelled(Outbox):
        async def emit(self, limit: int) -> int:
            raise asyncio.CancelledError

    relays = Relays([Outbox(0).relay(), Cancelled(0).relay()])
    with pytest.raises(asyncio.CancelledError):
        await relays.run()
