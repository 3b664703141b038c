"""Metric families with series for each account, and histograms: cheap to count, and exposed in pieces.

With thousands of accounts, a client library's children take tens of megabytes, and its exposition holds the event loop
for a second. Here a series is a number beside its finished line of text. A registry of `prometheus_client` takes a
family as a collector; nothing is imported from it.

A family is used on one thread only, because an increment is not atomic. So counting takes no lock, and the buckets of a
histogram are added up only at a scrape.

A bucket may have an exemplar: the trace of its latest value that has one. It is noted by a call of its own, so that
other values cost nothing; only OpenMetrics shows it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from schemas.telemetry import MetricFamily

PIECE_SERIES = 1000  # well under a millisecond of rendering, so that requests are answered between two pieces


class BucketExemplar(NamedTuple):
    """The trace of one value, with the fields that a registry reads. `timestamp` is in seconds since 1970."""

    labels: dict[str, str]
    value: float
    timestamp: float


class SeriesSample(NamedTuple):
    """One sample, with the fields that a registry reads."""

    name: str
    labels: dict[str, str]
    value: float
    timestamp: None = None
    exemplar: BucketExemplar | None = None
    native_histogram: None = None


class Series:
    """One time series."""

    __slots__ = ("line", "value")

    def __init__(self, line: str) -> None:
        self.line = line  # of the exposition, up to its value
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value


class SeriesFamily:
    """A counter or gauge with labels. To a registry it is a collector, and the only metric that this collects."""

    def __init__(self, family: MetricFamily) -> None:
        self.name = family.name
        self.documentation = family.help
        self.type = family.kind
        self.unit = ""
        self._labels = family.labels
        self._sample_name = f"{family.name}_total" if family.kind == "counter" else family.name
        self._series: dict[tuple[str, ...], Series] = {}
        self._by_last_label: dict[str, dict[tuple[str, ...], Series]] = {}

    def of(self, *values: str) -> Series:
        """Return the series with these values of the labels; a new one is 0."""
        series = self._series.get(values)
        if series is None:
            shown = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(self._labels, values, strict=True))
            series = self._series[values] = Series(f"{self._sample_name}{{{shown}}} ")
            self._by_last_label.setdefault(values[-1], {})[values] = series
        return series

    def remove(self, *values: str) -> None:
        """Show this series no longer."""
        if self._series.pop(values, None) is not None:
            del self._by_last_label[values[-1]][values]

    def total(self, last_label: str) -> float:
        """Return the sum over all series whose last label has this value."""
        return sum([series.value for series in self._by_last_label.get(last_label, {}).values()])

    def collect(self) -> Any:
        """Return the family as a registry's metric."""
        return [self]

    describe = collect

    @property
    def samples(self) -> list[SeriesSample]:
        """All samples, as a registry reads them; slow."""
        return [
            SeriesSample(self._sample_name, dict(zip(self._labels, values, strict=True)), series.value)
            for values, series in self._series.items()
        ]

    def pieces(self, *, openmetrics: bool = False) -> Iterator[str]:
        """Yield the family in Prometheus' text format, or as OpenMetrics. Series that are added meanwhile are left out.

        OpenMetrics calls a counter's family by its name without `_total`, and escapes quotes in a help text.
        """
        name, escaped = (self.name, _escaped) if openmetrics else (self._sample_name, _plain)
        yield f"# HELP {name} {escaped(self.documentation)}\n# TYPE {name} {self.type}\n"
        for piece in _pieces(list(self._series.values())):
            yield "".join([f"{series.line}{series.value!r}\n" for series in piece])


class Histogram:
    """One time series of a histogram."""

    __slots__ = ("_bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # by bucket, each without those below it
        self.sum = 0.0
        self.exemplars: dict[int, BucketExemplar] = {}  # by bucket

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def exemplify(self, value: float, trace_id: str, *, at_s: float) -> None:
        """Note the trace of a value that was observed, as its bucket's exemplar."""
        exemplar = BucketExemplar({"trace_id": trace_id}, value, at_s)
        self.exemplars[bisect_left(self._bounds, value)] = exemplar


class HistogramFamily:
    """A histogram with labels. To a registry it is a collector, and the only metric that this collects."""

    type = "histogram"
    unit = ""

    def __init__(self, family: MetricFamily) -> None:
        self.name = family.name
        self.documentation = family.help
        self._labels = family.labels
        self._bounds = family.buckets
        self._series: dict[tuple[str, ...], Histogram] = {}

    def of(self, *values: str) -> Histogram:
        """Return the series with these values of the labels; a new one is empty."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self.name} has the labels {self._labels}, not {len(values)}")
            series = self._series[values] = Histogram(self._bounds)
        return series

    def collect(self) -> Any:
        """Return the family as a registry's metric."""
        return [self]

    describe = collect

    @property
    def samples(self) -> list[SeriesSample]:
        """All samples, as a registry reads them."""
        samples = []
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        for values, series in self._series.items():
            labels = dict(zip(self._labels, values, strict=True))
            counts = list(accumulate(series.counts))
            samples += [
                SeriesSample(
                    f"{self.name}_bucket", labels | {"le": bound}, count, exemplar=series.exemplars.get(bucket)
                )
                for bucket, (bound, count) in enumerate(zip(bounds, counts, strict=True))
            ]
            samples.append(SeriesSample(f"{self.name}_count", labels, counts[-1]))
            samples.append(SeriesSample(f"{self.name}_sum", labels, series.sum))
        return samples


def _pieces(series: list[Series]) -> Iterator[list[Series]]:
    return (series[first : first + PIECE_SERIES] for first in range(0, len(series), PIECE_SERIES))


def _escaped(value: str) -> str:
    return _plain(value).replace('"', r"\"")


def _plain(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
