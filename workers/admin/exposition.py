"""The text that Prometheus scrapes, rendered in pieces between which the event loop serves its requests.

A thread would not help: it would hold the interpreter's lock for 5 ms whenever the loop wants it. So the families with
series for each account come in pieces (`schemas.series`), and the others, which are small, one by one. A scrape that
begins during another one gets the same text.
"""

import asyncio
from collections.abc import Iterable, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric, generate_latest

from schemas.series import SeriesFamily


class _Only(Struct, frozen=True):
    """A registry of one metric, for `generate_latest`."""

    metric: Metric

    def collect(self) -> Iterable[Metric]:
        return [self.metric]


class Exposition:
    """The metrics of one registry as text."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._rendering: asyncio.Task[Sequence[bytes]] | None = None

    async def text(self) -> Sequence[bytes]:
        """Return the metrics in Prometheus' text format, in pieces."""
        if self._rendering is None:
            self._rendering = asyncio.create_task(self._render())
        # Shielded, because others may wait for the same text when this scrape is cancelled.
        return await asyncio.shield(self._rendering)

    async def _render(self) -> Sequence[bytes]:
        pieces = []
        try:
            found: Iterable[Metric | SeriesFamily] = self._registry.collect()
            for metric in found:
                if isinstance(metric, SeriesFamily):
                    for piece in metric.pieces():
                        pieces.append(piece.encode())
                        await asyncio.sleep(0)
                else:
                    pieces.append(generate_latest(_Only(metric)))
                    await asyncio.sleep(0)
        finally:
            self._rendering = None
        return pieces
