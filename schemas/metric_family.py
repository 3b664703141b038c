"""The shape of a metric family: its name and what it measures. The families are in `schemas.telemetry`."""

from msgspec import Struct


class MetricFamily(Struct, frozen=True, kw_only=True):
    """One metric family; `kind` is counter, gauge, histogram or info. Counters are named without `_total`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
