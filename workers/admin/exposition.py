"""The text that Prometheus scrapes, rendered in pieces between which the event loop serves its requests.

A thread would not help: it would hold the interpreter's lock for 5 ms whenever the loop wants it. So the families with
series for each account come in pieces (`schemas.series`), and the others, which are small, one by one. A scrape that
begins during another one gets the same text. The format is negotiated by the client library: OpenMetrics, or
Prometheus' own text.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from schemas.series import SeriesFamily

OPENMETRICS_END = b"# EOF\n"


class TextFormat(Struct, frozen=True, kw_only=True):
    """A text format, and the client library's renderer of it."""

    content_type: str
    render: Callable[["_Only"], bytes]
    is_openmetrics: bool = False


class _Only(Struct, frozen=True):
    """A registry of one metric, for the client library's renderers."""

    metric: Metric

    def collect(self) -> Iterable[Metric]:
        return [self.metric]


PLAIN = TextFormat(content_type=exposition.CONTENT_TYPE_PLAIN_0_0_4, render=exposition.generate_latest)
OPENMETRICS = TextFormat(
    content_type=openmetrics.CONTENT_TYPE_LATEST, render=openmetrics.generate_latest, is_openmetrics=True
)


def negotiated(accept: str) -> TextFormat:
    """Return the format for a request with this Accept header. Of each format there is one version."""
    _, content_type = exposition.choose_encoder(accept)
    return OPENMETRICS if content_type.startswith("application/openmetrics-text") else PLAIN


class Exposition:
    """The metrics of one registry as text."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._rendering: dict[str, asyncio.Task[Sequence[bytes]]] = {}

    async def text(self, wanted: TextFormat = PLAIN) -> Sequence[bytes]:
        """Return the metrics in this format, in pieces."""
        rendering = self._rendering.get(wanted.content_type)
        if rendering is None:
            rendering = self._rendering[wanted.content_type] = asyncio.create_task(self._render(wanted))
        # Shielded, because others may wait for the same text when this scrape is cancelled.
        return await asyncio.shield(rendering)

    async def _render(self, wanted: TextFormat) -> Sequence[bytes]:
        pieces = []
        try:
            found: Iterable[Metric | SeriesFamily] = self._registry.collect()
            for metric in found:
                if isinstance(metric, SeriesFamily):
                    for piece in metric.pieces(openmetrics=wanted.is_openmetrics):
                        pieces.append(piece.encode())
                        await asyncio.sleep(0)
                else:
                    pieces.append(wanted.render(_Only(metric)).removesuffix(OPENMETRICS_END))
                    await asyncio.sleep(0)
            if wanted.is_openmetrics:
                pieces.append(OPENMETRICS_END)
        finally:
            del self._rendering[wanted.content_type]
        return pieces
