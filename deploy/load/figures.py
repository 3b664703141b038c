"""Attempts as figures: counts, rates, and percentiles from an HdrHistogram.

A latency counts from the moment a request was due. It is recorded for every request that was answered, whatever the
answer, and for those that nobody answered in time or that were never called: they waited at least so long, and leaving
them out would make a receiver the faster the more it drops. A connection that was refused or lost says nothing about
time, and is only counted.

`hdrhistogram` is an extra (`load`): this is the one module that needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from deploy.load.generator import TIMED_OUT, SendAttempt

_HIGHEST_US = 3_600_000_000
_DIGITS = 3


class Percentiles(Struct, frozen=True, kw_only=True):
    """In milliseconds."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


class Figures(Struct, frozen=True, kw_only=True):
    """What came of a run. `rate` is calls a second while requests fell due, `acknowledged_rate` those answered well.

    `behind_ms` is how much later than due the sender itself came to a request, at p99: above a few milliseconds it is
    the sender that cannot keep the rate, and not the receiver.
    """

    calls: int
    repeats: int
    ok: int
    refused: Mapping[int, int]
    silent: Mapping[str, int]
    unsent: int
    seconds: float
    rate: float
    acknowledged_rate: float
    latency_ms: Percentiles
    behind_ms: float


def summed(attempts: Sequence[SendAttempt], *, behind_s: Iterable[float] = ()) -> Figures:
    """The figures of these attempts."""
    called = [one for one in attempts if one.outcome != "unsent"]
    began = min((one.due for one in attempts), default=0.0)
    first = [one.began for one in called if one.number == 1]
    sending_s = max(first, default=began) - began
    seconds = max((one.ended for one in attempts), default=began) - began
    ok = sum(one.outcome == "ok" for one in attempts)
    return Figures(
        calls=len(called),
        repeats=len(called) - len(first),
        ok=ok,
        refused=dict(Counter(one.status for one in attempts if one.outcome == "refused")),
        silent=dict(Counter(one.why for one in attempts if one.outcome == "silent")),
        unsent=sum(one.outcome == "unsent" for one in attempts),
        seconds=seconds,
        # n calls span n - 1 gaps.
        rate=(len(first) - 1) / sending_s if len(first) > 1 and sending_s > 0 else 0.0,
        acknowledged_rate=ok / seconds if seconds > 0 else 0.0,
        latency_ms=percentiles(one.ended - one.due for one in attempts if says_time(one)),
        behind_ms=percentiles(behind_s).p99,
    )


def says_time(attempt: SendAttempt) -> bool:
    """Whether how long it took is the receiver's doing."""
    return attempt.outcome in ("ok", "refused", "unsent") or attempt.why == TIMED_OUT


def percentiles(seconds: Iterable[float]) -> Percentiles:
    """The percentiles of these durations; all zero where there are none."""
    histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)
    for each in seconds:
        histogram.record_value(min(max(1, int(each * 1_000_000)), _HIGHEST_US))
    if not histogram.total_count:
        return Percentiles(p50=0.0, p90=0.0, p99=0.0, p99_9=0.0, max=0.0)
    p50, p90, p99, p99_9, highest = (
        histogram.get_value_at_percentile(percent) / 1000 for percent in (50, 90, 99, 99.9, 100)
    )
    return Percentiles(p50=p50, p90=p90, p99=p99, p99_9=p99_9, max=highest)
