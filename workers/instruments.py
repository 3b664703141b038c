"""Instruments from the specifications in `schemas.telemetry`, on the registry that is given."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schemas.telemetry import Family


def counter(family: Family, registry: CollectorRegistry) -> Counter:
    return Counter(family.name, family.help, family.labels, registry=registry)


def gauge(family: Family, registry: CollectorRegistry) -> Gauge:
    return Gauge(family.name, family.help, family.labels, registry=registry)


def histogram(family: Family, registry: CollectorRegistry) -> Histogram:
    return Histogram(family.name, family.help, family.labels, registry=registry, buckets=family.buckets)
