"""How the benchmarks send: the load generator's open loop over requests ready for the wire, and its figures."""

import time
from collections.abc import Sequence

from deploy.load import figures, generator
from deploy.load.figures import Figures
from deploy.load.generator import LoadLimits, Schedule, Target

_BEGINS_IN_S = 1.0  # for the connections to be open when the first request is due


async def run(
    requests: Sequence[bytes], *, host: str, port: int, connections: int = 64, rate: float | None = None
) -> Figures:
    """Send all requests over this many connections, at `rate` per second or as fast as answers come."""
    schedule = None if rate is None else Schedule(start=time.monotonic() + _BEGINS_IN_S, rate=rate)
    limits = LoadLimits(connections=connections, timeout_s=30.0, drain_s=60.0)
    return figures.summed(await generator.run(requests, Target(host=host, port=port), schedule=schedule, limits=limits))
