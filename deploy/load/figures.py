"""Summarise attempts: counts, rates, and percentiles from an HdrHistogram.

A latency counts from the moment a request was due. It is recorded for every answer, and also for time-outs and unsent
requests. Those waited at least so long, and leaving them out would make a receiver look faster the more it drops. A
refused or lost connection has no meaningful latency and is only counted.

`hdrhistogram` is an extra (`load`), and only this module needs it.
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
    """Percentiles in milliseconds."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of a run.

    `rate` is attempts a second while requests were due, `acknowledged_rate` those acknowledged. `behind_ms` is how late
    the sender itself was, at p99: above a few milliseconds the sender cannot keep the rate, not the receiver.
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
    """Return the figures of these attempts."""
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
        # n attempts span n - 1 gaps.
        rate=(len(first) - 1) / sending_s if len(first) > 1 and sending_s > 0 else 0.0,
        acknowledged_rate=ok / seconds if seconds > 0 else 0.0,
        latency_ms=percentiles(one.ended - one.due for one in attempts if has_latency(one)),
        behind_ms=percentiles(behind_s).p99,
    )


def has_latency(attempt: SendAttempt) -> bool:
    """Return whether the attempt's duration depends on the receiver."""
    return attempt.outcome in ("ok", "refused", "unsent") or attempt.why == TIMED_OUT


def percentiles(seconds: Iterable[float]) -> Percentiles:
    """Return the percentiles of these durations; all zero if there are none."""
    histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)
    for each in seconds:
        histogram.record_value(min(max(1, int(each * 1_000_000)), _HIGHEST_US))
    if not histogram.total_count:
        return Percentiles(p50=0.0, p90=0.0, p99=0.0, p99_9=0.0, max=0.0)
    p50, p90, p99, p99_9, highest = (
        histogram.get_value_at_percentile(percent) / 1000 for percent in (50, 90, 99, 99.9, 100)
    )
    return Percentiles(p50=p50, p90=p90, p99=p99, p99_9=p99_9, max=highest)
