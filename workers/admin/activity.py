"""The last two minutes in six small curves, so that the console has life without a Prometheus beside it.

It reads the process's own counters every two seconds and keeps sixty readings, in memory. Anything more is a
dashboard's work.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterable

from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry

from schemas import telemetry

INTERVAL_S = 2.0
READINGS_MAX = 61
WIDTH, HEIGHT = 120, 28

_RECEIVED = f"{telemetry.RECEIVED.name}_total"
_PROCESSED = f"{telemetry.PROCESSED.name}_total"
_NAMES = (_RECEIVED, _PROCESSED, telemetry.HELD_NOW.name, telemetry.OUTBOX_PENDING.name)
_REPEATS = frozenset({"duplicate", "stale"})


class Curve(Struct, frozen=True, kw_only=True):
    """One chart: its name, the figure of now, what the figure counts, and the curve's points as SVG takes them."""

    name: str
    figure: str
    unit: str
    points: str
    tone: str


class Reading(Struct, frozen=True, kw_only=True):
    """The counters at one moment."""

    accepted: float = 0
    refused: float = 0
    applied: float = 0
    repeats: float = 0
    held: float = 0
    outbox: float = 0


class Activity:
    """The readings, and the task that takes them while the application runs.

    `counts_here`: whether receiver and worker run in this process. A console that stands alone counts nothing of
    theirs, and a zero would be taken for a standstill.
    """

    def __init__(self, registry: CollectorRegistry, *, counts_here: bool = True) -> None:
        self._registry = registry
        self._counts_here = counts_here
        self._readings: deque[Reading] = deque(maxlen=READINGS_MAX)

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Take readings until the application ends; for `cleanup_ctx`."""
        task = asyncio.create_task(self._keep_reading())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def read(self) -> None:
        """Take one reading."""
        sums: dict[str, float] = {}
        for family in self._registry.restricted_registry(_NAMES).collect():
            for sample in family.samples:
                field = _field(sample.name, sample.labels)
                if field:
                    sums[field] = sums.get(field, 0) + sample.value
        self._readings.append(Reading(**sums))

    def curves(self) -> list[Curve]:
        """The charts as they are now: six, or the two that the store knows."""
        counted = [
            self._counted("Acknowledged", "accepted", "good"),
            self._counted("Refused", "refused", "bad"),
            self._counted("Applied", "applied", "good"),
            self._counted("Repeats and old news", "repeats", "quiet"),
        ]
        return [
            *(counted if self._counts_here else ()),
            self._measured("Held", "held", "wait"),
            self._measured("Events not sent yet", "outbox", "quiet"),
        ]

    async def _keep_reading(self) -> None:
        while True:
            self.read()
            await asyncio.sleep(INTERVAL_S)

    def _counted(self, name: str, field: str, tone: str) -> Curve:
        values = [getattr(reading, field) for reading in self._readings]
        rises = [max(0.0, after - before) for before, after in itertools.pairwise(values)]
        figure = f"{values[-1]:,.0f}" if values else "0"
        return Curve(name=name, figure=figure, unit="since the start", points=_points(rises), tone=tone)

    def _measured(self, name: str, field: str, tone: str) -> Curve:
        values = [getattr(reading, field) for reading in self._readings]
        figure = f"{values[-1]:,.0f}" if values else "0"
        return Curve(name=name, figure=figure, unit="now", points=_points(values), tone=tone)


def _field(name: str, labels: dict[str, str]) -> str:
    if name == _RECEIVED:
        return "accepted" if labels.get("outcome") == "accepted" else "refused"
    if name == _PROCESSED:
        result = labels.get("result", "")
        return "applied" if result == "applied" else "repeats" if result in _REPEATS else ""
    return {telemetry.HELD_NOW.name: "held", telemetry.OUTBOX_PENDING.name: "outbox"}.get(name, "")


def _points(values: Iterable[float]) -> str:
    """The curve's points, newest at the right edge; a flat line at the bottom where nothing happened."""
    heights = list(values)
    top = max(heights, default=0) or 1
    step = WIDTH / (READINGS_MAX - 1)
    first = WIDTH - step * (len(heights) - 1)
    return " ".join(
        f"{first + index * step:.1f},{HEIGHT - 2 - value / top * (HEIGHT - 4):.1f}"
        for index, value in enumerate(heights)
    )
