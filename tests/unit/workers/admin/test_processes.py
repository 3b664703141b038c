"""The embedded engine's one process, and the lag of a process."""

from msgspec import structs

from tests.support.admin import NOW_MS, World
from workers.admin.process_state import PartitionLag
from workers.admin.processes import OnlyThisProcess


async def test_engine_lists_itself_with_its_largest_lag() -> None:
    world = World()
    processes = OnlyThisProcess(world.own, now_ms=lambda: NOW_MS)
    [seen] = await processes.seen()
    assert (seen.seen_at_ms, seen.is_gone, seen.lag_s) == (NOW_MS, False, None)
    assert seen.state is not None
    partitions = (PartitionLag(partition="0", seconds=1.5), PartitionLag(partition="1", seconds=3.0))
    behind = structs.replace(seen, state=structs.replace(seen.state, partitions=partitions))
    assert behind.lag_s == 3.0
    assert structs.replace(seen, state=None).lag_s is None
    assert processes.counts() == world.own.counts()
