"""Six small charts of the last two minutes for the console, so that it needs no Prometheus.

They come from the process's own counters, sampled every two seconds and kept in memory.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterable

from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry

from schemas import telemetry
from schemas.dispositions import Outcome
from schemas.series import SeriesFamily

INTERVAL_S = 2.0
SAMPLES_MAX = 61
WIDTH, HEIGHT = 120, 28

_PROCESSED = f"{telemetry.PROCESSED.name}_total"
_NAMES = (_PROCESSED, telemetry.HELD_NOW.name, telemetry.OUTBOX_PENDING.name)
_REPEATS = frozenset({"duplicate", "stale"})


class Curve(Struct, frozen=True, kw_only=True):
    """One chart: its name, the present figure with its unit, and the curve's points as an SVG attribute."""

    name: str
    figure: str
    unit: str
    points: str
    tone: str


class Sample(Struct, frozen=True, kw_only=True):
    """The counters at one moment."""

    accepted: float = 0
    refused: float = 0
    applied: float = 0
    repeats: float = 0
    held: float = 0
    outbox: float = 0


class Activity:
    """The samples, and the task that takes them while the application runs.

    `counts_here` is true if receiver and worker run in this process. If not, their charts are left out, because zeros
    would look like a standstill.
    """

    def __init__(self, registry: CollectorRegistry, *, counts_here: bool = True) -> None:
        self._registry = registry
        self._counts_here = counts_here
        self._requests: SeriesFamily | None = None
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Take samples until the application ends; for `cleanup_ctx`."""
        task = asyncio.create_task(self._keep_sampling())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def sample(self) -> None:
        """Take one sample."""
        sums = self._received() if self._counts_here else {}
        for family in self._registry.restricted_registry(_NAMES).collect():
            for each in family.samples:
                field = _field(each.name, each.labels)
                if field:
                    sums[field] = sums.get(field, 0) + each.value
        self._samples.append(Sample(**sums))

    def _received(self) -> dict[str, float]:
        """Return the receiver's counts over all accounts."""
        if self._requests is None:
            found: Iterable[object] = self._registry.collect()
            families = (each for each in found if isinstance(each, SeriesFamily))
            self._requests = next((each for each in families if each.name == telemetry.RECEIVED.name), None)
        if self._requests is None:
            return {}  # the receiver starts after the admin port
        totals = {outcome: self._requests.total(outcome.value) for outcome in Outcome}
        accepted = totals.pop(Outcome.ACCEPTED)
        return {"accepted": accepted, "refused": sum(totals.values())}

    def curves(self) -> list[Curve]:
        """Return the charts: six, or without receiver and worker the two that come from the store."""
        counted = [
            self._counted("Acknowledged", "accepted", "good"),
            self._counted("Refused", "refused", "bad"),
            self._counted("Applied", "applied", "good"),
            self._counted("Duplicate or stale", "repeats", "quiet"),
        ]
        return [
            *(counted if self._counts_here else ()),
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


def _field(name: str, labels: dict[str, str]) -> str:
    if name == _PROCESSED:
        result = labels.get("result", "")
        return "applied" if result == "applied" else "repeats" if result in _REPEATS else ""
    return {telemetry.HELD_NOW.name: "held", telemetry.OUTBOX_PENDING.name: "outbox"}.get(name, "")


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
