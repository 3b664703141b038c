"""Lines to Kafka that lose one way's bytes, are slow or reset: no acknowledgement is untrue, and no answer late."""

import asyncio
from collections.abc import Callable

import pytest

from tests.faults.publisher_kit import DEADLINE_S, RECOVERED_S, Kit

BROKEN_S = 4.0
Note = Callable[[str, float], None]


@pytest.mark.parametrize("way", ["loses_requests", "loses_answers"])
async def test_line_that_loses_one_way_acknowledges_nothing_and_is_used_again(
    kit: Kit, way: str, measured: Note
) -> None:
    await kit.ready()
    assert await kit.append()

    async def broken() -> None:
        setattr(kit.line, way, True)
        await asyncio.sleep(BROKEN_S)
        known = len(kit.acknowledged)
        await asyncio.sleep(DEADLINE_S)
        assert len(kit.acknowledged) == known, "nothing can be acknowledged over it"
        setattr(kit.line, way, False)
        measured(f"taken again after a line that {way.replace('_', ' ')}", await kit.taken_again(3 * RECOVERED_S))

    await kit.append_while(broken)
    await kit.nothing_is_missing()


async def test_slow_line_costs_time_and_no_record(kit: Kit) -> None:
    await kit.ready()

    async def slow() -> None:
        kit.line.delay_s = 0.3
        await asyncio.sleep(BROKEN_S)
        kit.line.delay_s = DEADLINE_S
        await asyncio.sleep(BROKEN_S)
        kit.line.delay_s = 0.0
        await kit.taken_again(3 * RECOVERED_S)

    await kit.append_while(slow)
    await kit.nothing_is_missing()


async def test_line_of_single_bytes_costs_time_and_no_record(kit: Kit) -> None:
    await kit.ready()

    async def trickle() -> None:
        kit.line.piece, kit.line.delay_s = 1, 0.001
        await asyncio.sleep(BROKEN_S)
        kit.line.piece, kit.line.delay_s = 65536, 0.0
        await kit.taken_again(3 * RECOVERED_S)

    await kit.append_while(trickle, senders=4)
    await kit.nothing_is_missing()


async def test_lines_that_are_reset_again_and_again_lose_no_acknowledged_record(kit: Kit) -> None:
    await kit.ready()

    async def resetting() -> None:
        for after in (2_000, 20_000, 500, 100_000):
            kit.line.reset_after = after
            await asyncio.sleep(BROKEN_S / 4)
        kit.line.reset_after = None
        await kit.taken_again(3 * RECOVERED_S)

    await kit.append_while(resetting)
    await kit.nothing_is_missing()
