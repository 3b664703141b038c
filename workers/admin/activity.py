"""Six small charts of the last two minutes for the console, so that it needs no Prometheus.

They come from the engine's counters, sampled every two seconds and kept in memory.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from aiohttp import web
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from schemas import telemetry
from workers.admin.process_state import ProcessCounts
from workers.admin.rates import Rates

INTERVAL_S = 2.0
SAMPLES_MAX = 61
WIDTH, HEIGHT = 120, 28

_FIELDS = {telemetry.HELD_NOW.name: "held", telemetry.OUTBOX_PENDING.name: "outbox"}


class Curve(Struct, frozen=True, kw_only=True):
    """One chart: its name, the present figure with its unit, and the curve's points as an SVG attribute."""

    name: str
    figure: str
    unit: str
    points: str
    tone: str


class Sample(ProcessCounts, frozen=True, kw_only=True):
    """The counters at one moment."""

    held: float = 0
    outbox: float = 0


class Activity:
    """The samples, and the task that takes them while the application runs.

    `counts` returns those of receivers and workers; without it their charts are left out, because zeros would look like
    a standstill. `rates` has the same counts per minute.
    """

    def __init__(self, registry: CollectorRegistry, *, counts: Callable[[], ProcessCounts] | None) -> None:
        self.rates = Rates()
        self._registry = registry
        self._counts = counts
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Take samples until the application ends; for `cleanup_ctx`."""
        task = asyncio.create_task(self._keep_sampling())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def sample(self, now_s: float | None = None) -> None:
        """Take one sample, at this time of the monotonic clock."""
        counts = ProcessCounts() if self._counts is None else self._counts()
        if self._counts is not None:
            self.rates.sample(counts, time.monotonic() if now_s is None else now_s)
        sums = dict.fromkeys(_FIELDS.values(), 0.0)
        for family in self._registry.restricted_registry(_FIELDS).collect():
            sums[_FIELDS[family.name]] += sum(sample.value for sample in family.samples)
        self._samples.append(Sample(**structs.asdict(counts), **sums))

    def curves(self) -> list[Curve]:
        """Return the charts: six, or without receiver and worker the two that come from the store."""
        counted = [
            self._counted("Acknowledged", "accepted", "good"),
            self._counted("Refused", "refused", "bad"),
            self._counted("Applied", "applied", "good"),
            self._counted("Duplicate or stale", "repeats", "quiet"),
        ]
        return [
            *(counted if self._counts is not None else ()),
            self._measured("Held", "held", "wait"),
            self._measured("Unsent events", "outbox", "quiet"),
        ]

    async def _keep_sampling(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(INTERVAL_S)

    def _counted(self, name: str, field: str, tone: str) -> Curve:
        values = [getattr(each, field) for each in self._samples]
        rises = [max(0.0, after - before) for before, after in itertools.pairwise(values)]
        figure = f"{values[-1]:,.0f}" if values else "0"
        return Curve(name=name, figure=figure, unit="since start", points=_points(rises), tone=tone)

    def _measured(self, name: str, field: str, tone: str) -> Curve:
        values = [getattr(each, field) for each in self._samples]
        figure = f"{values[-1]:,.0f}" if values else "0"
        return Curve(name=name, figure=figure, unit="now", points=_points(values), tone=tone)


def _points(values: Iterable[float]) -> str:
    """Return the curve's points, newest at the right edge; without values above 0, a flat line at the bottom."""
    heights = list(values)
    top = max(heights, default=0) or 1
    step = WIDTH / (SAMPLES_MAX - 1)
    first = WIDTH - step * (len(heights) - 1)
    return " ".join(
        f"{first + index * step:.1f},{HEIGHT - 2 - value / top * (HEIGHT - 4):.1f}"
        for index, value in enumerate(heights)
    )
