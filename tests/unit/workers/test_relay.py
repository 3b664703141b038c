"""The outbox's way to the topics."""

import asyncio

from workers.relay import Relay


class Outbox:
    """So many events; each send takes a moment."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.at_once = 0
        self.sends: list[int] = []

    async def emit(self, limit: int) -> int:
        self.at_once += 1
        assert self.at_once == 1, "two senders would mix up the versions"
        await asyncio.sleep(0)
        sent = min(limit, self.waiting)
        self.waiting -= sent
        self.sends.append(sent)
        self.at_once -= 1
        return sent


async def test_it_sends_until_the_outbox_is_empty() -> None:
    outbox = Outbox(1200)
    assert await Relay(outbox.emit, events_max=500).emit() == 1200
    assert outbox.sends == [500, 500, 200]


async def test_two_who_send_take_turns_and_the_second_finds_nothing() -> None:
    outbox = Outbox(700)
    relay = Relay(outbox.emit, events_max=500)
    assert sorted(await asyncio.gather(relay.emit(), relay.emit())) == [0, 700]
