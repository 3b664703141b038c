"""Instruments from the specifications in `schemas.telemetry`, on the registry that is given."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schemas.telemetry import MetricFamily


def counter(family: MetricFamily, registry: CollectorRegistry) -> Counter:
    return Counter(family.name, family.help, family.labels, registry=registry)


def gauge(family: MetricFamily, registry: CollectorRegistry) -> Gauge:
    return Gauge(family.name, family.help, family.labels, registry=registry)


def histogram(family: MetricFamily, registry: CollectorRegistry) -> Histogram:
    return Histogram(family.name, family.help, family.labels, registry=registry, buckets=family.buckets)
