"""Many thousand notifications in the same second, with the settings as they are shipped.

Of fifty thousand (`HERD=50000`), the last come with the schedule's later attempts, which takes a quarter of an hour.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from deploy.sandbox.world import World
from tests.faults import herd, steady
from tests.support.processes import Engine

HERD = int(os.environ.get("HERD", "12000"))
CONNECTIONS = 1000  # half of those that are served: refused ones linger for a moment
SCALE = 60.0  # of the schedule's gaps: the second attempts come four seconds after the first
MEMORY_MAX = 256 << 20


async def test_herd_of_many_thousand_is_all_delivered(tmp_path: Path, measured: Callable[[str, float], None]) -> None:
    world = World.create(tmp_path / "world", gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")
    items = await asyncio.to_thread(lambda: steady.genuine(world, orders=HERD // 2)[:HERD])
    with Engine(world.accounts_file, tmp_path / "engine") as engine:
        attempts = await herd.send(engine, items, connections=CONNECTIONS, scale=SCALE)
        accepted = [each for each in attempts if each.status == 200]
        measured("refused in between", sum(each.status == 503 for each in attempts))
        measured("attempts of the one that took most", max(each.number for each in attempts))
        measured("peak, MiB", steady.peak_bytes(engine.pid) / (1 << 20))
        assert {each.status for each in attempts} <= {200, 503}
        assert len(accepted) == len(items)
        assert steady.peak_bytes(engine.pid) < MEMORY_MAX
        await asyncio.to_thread(steady.until_settled, engine)
        assert steady.is_kept(engine, tmp_path, herd.answers(items, attempts))
