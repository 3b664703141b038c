"""Compute deploy/docs/capacity.md: what a rate of notifications takes, from measured figures and stated assumptions.

    python -m tests.benchmarks.capacity                            print the tables
    python -m tests.benchmarks.capacity --figures FILE --write     take the figures from `make bench … --json FILE`

`capacity.toml` beside this file has the figures and the assumptions that are published; `--write` renews both files.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

PAGE = Path(__file__).parents[2] / "deploy" / "docs" / "capacity.md"
PUBLISHED = Path(__file__).with_name("capacity.toml")
BEGIN, END = "<!-- computed -->", "<!-- end of computed -->"

RATES = (100, 1_000, 10_000, 100_000, 550_000)  # notifications a second at the peak; the last is Alipay's record
DAY_S, YEAR_DAYS = 86_400, 365
TB = 10**12
LEAST = 2  # processes of each kind, so that one may die
BROKERS_LEAST = 3
PARTITIONS_STEP = 12  # of schemas/topics.yaml


class MeasuredFigures(Struct, frozen=True, kw_only=True):
    """Microseconds of a core, and bytes on disk, for one payment of an order of its own. Bytes in Kafka are of one
    replica."""

    taken: str
    receiver_us: float
    worker_us: float
    kafka_us: float
    postgres_us: float
    redis_us: float
    log_bytes: float
    event_bytes: float
    state_bytes: float
    table_bytes: float
    wal_bytes: float


class Assumptions(Struct, frozen=True, kw_only=True):
    """What is not measured. `used_at_peak` is the share of a core that is planned with, `mean_of_peak` the mean rate of
    a day in parts of its peak. `postgres_cores` and `wal_mb_per_s` are the limits of one primary."""

    used_at_peak: float
    mean_of_peak: float
    replicas: int
    log_days: int
    event_days: int
    broker_cores: int
    postgres_cores: int
    wal_mb_per_s: int
    partitions_per_worker: int


class Inputs(Struct, frozen=True):
    """All that the page is computed from."""

    figures: MeasuredFigures
    assumptions: Assumptions


class Capacity(Struct, frozen=True, kw_only=True):
    """What one rate takes. `installations` share nothing; each has its own accounts."""

    rate: int
    receivers: int
    workers: int
    partitions: int
    brokers: int
    redis: int
    postgres_cores: float
    wal_mb_per_s: float
    installations: int
    log_tb: float
    events_tb: float
    states_tb_a_year: float
    tables_tb_a_year: float


def capacity(rate: int, given: Inputs) -> Capacity:
    """Return what this many notifications a second take at the peak."""
    one, assumed = given.figures, given.assumptions

    def cores(us: float) -> float:
        return rate * us / 1e6 / assumed.used_at_peak

    def terabytes(bytes_each: float, days: int) -> float:
        return rate * assumed.mean_of_peak * DAY_S * days * bytes_each / TB

    workers = max(LEAST, math.ceil(cores(one.worker_us)))
    wal_mb_per_s = rate * one.wal_bytes / 1e6
    return Capacity(
        rate=rate,
        receivers=max(LEAST, math.ceil(cores(one.receiver_us))),
        workers=workers,
        partitions=math.ceil(workers * assumed.partitions_per_worker / PARTITIONS_STEP) * PARTITIONS_STEP,
        brokers=max(BROKERS_LEAST, math.ceil(cores(one.kafka_us) / assumed.broker_cores)),
        redis=max(1, math.ceil(cores(one.redis_us))),
        postgres_cores=cores(one.postgres_us),
        wal_mb_per_s=wal_mb_per_s,
        installations=math.ceil(
            max(cores(one.postgres_us) / assumed.postgres_cores, wal_mb_per_s / assumed.wal_mb_per_s)
        ),
        log_tb=terabytes(one.log_bytes, assumed.log_days) * assumed.replicas,
        events_tb=terabytes(one.event_bytes, assumed.event_days) * assumed.replicas,
        states_tb_a_year=terabytes(one.state_bytes, YEAR_DAYS) * assumed.replicas,
        tables_tb_a_year=terabytes(one.table_bytes, YEAR_DAYS),
    )


_ROWS: Mapping[str, Callable[[Capacity], float]] = {
    "receivers, of one core each": lambda each: each.receivers,
    "workers, of one core each": lambda each: each.workers,
    "partitions of the log and of each order topic": lambda each: each.partitions,
    "brokers": lambda each: each.brokers,
    "Redis primaries": lambda each: each.redis,
    "cores of PostgreSQL, all primaries together": lambda each: each.postgres_cores,
    "its write-ahead log, MB/s": lambda each: each.wal_mb_per_s,
    "installations that share the accounts": lambda each: each.installations,
    "disk of the log, TB": lambda each: each.log_tb,
    "disk of order events, TB": lambda each: each.events_tb,
    "disk of order states, TB a year": lambda each: each.states_tb_a_year,
    "disk of PostgreSQL, TB a year": lambda each: each.tables_tb_a_year,
}


def tables(given: Inputs) -> str:
    """The page's tables: the figures, and what they come to."""
    one, assumed = given.figures, given.assumptions
    figures = {
        "receiver on Kafka": f"{one.receiver_us:.0f} µs of a core",
        "worker, events and log lines included": f"{one.worker_us:.0f} µs",
        "brokers together: the log kept three times, read once; an event to two topics": f"{one.kafka_us:.0f} µs",
        "PostgreSQL": f"{one.postgres_us:.0f} µs",
        "Redis": f"{one.redis_us:.0f} µs",
        "Kafka, one replica: notification, order event, order state": (
            f"{one.log_bytes:,.0f}, {one.event_bytes:,.0f}, {one.state_bytes:,.0f} bytes"
        ),
        "PostgreSQL: tables with indexes, write-ahead log": f"{one.table_bytes:,.0f}, {one.wal_bytes:,.0f} bytes",
    }
    found = [capacity(rate, given) for rate in RATES]
    lines = [
        f"| one payment; {one.taken} | |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in figures.items()),
        "",
        f"A core is planned to be used at {assumed.used_at_peak:.0%} at the peak, a day's mean is "
        f"{assumed.mean_of_peak:.0%} of its peak, a broker has {assumed.broker_cores} cores, and one primary of "
        f"PostgreSQL {assumed.postgres_cores} cores and {assumed.wal_mb_per_s} MB/s of write-ahead log.",
        "",
        "| notifications a second, at the peak | " + " | ".join(f"{rate:,}" for rate in RATES) + " |",
        "|---|" + "---|" * len(RATES),
        *(f"| {name} | " + " | ".join(_shown(of(each)) for each in found) + " |" for name, of in _ROWS.items()),
    ]
    return "\n".join(lines)


def _shown(value: float) -> str:
    if value >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}"


def published() -> Inputs:
    """The figures and assumptions of the page."""
    return msgspec.toml.decode(PUBLISHED.read_bytes(), type=Inputs)


def taken_from(figures: Mapping[str, Any]) -> MeasuredFigures:
    """The figures of a run of the cluster's benchmarks, as `--json` writes them.

    Raises:
        KeyError: a benchmark that is needed did not run.
    """
    ours = next(p for p in figures["peers"]["peers"] if p["name"] == "ours, Kafka" and p["connections"] == 64)
    drain = max(
        (each for each in figures["worker"]["drains"] if each["name"] == "with receipts, Redis on"),
        key=lambda each: each["records"],
    )
    each_us = {name: used_s / drain["records"] * 1e6 for name, used_s in drain["cpu_s"].items()}
    disk, machine = figures["disk"], figures["machine"]
    return MeasuredFigures(
        taken=(f"{datetime.now(UTC):%-d %B %Y}, {machine['cpu']}, Python {machine['python']}, load {disk['load']}"),
        receiver_us=ours["cpu_us"],
        worker_us=1e6 / drain["per_core"],
        kafka_us=figures["acks-3"]["brokers_cpu_us_per_ack"] + each_us["kafka"],
        postgres_us=each_us["postgres"],
        redis_us=each_us["redis"],
        log_bytes=disk["log"],
        event_bytes=disk["events"],
        state_bytes=disk["states"],
        table_bytes=disk["tables"],
        wal_bytes=disk["wal"],
    )


def write(given: Inputs) -> None:
    """Renew the page and its figures."""
    lines = [PUBLISHED.read_text(encoding="utf-8").partition("\n")[0]]
    for name, values in msgspec.to_builtins(given).items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    PUBLISHED.write_text("\n".join([*lines, ""]), encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(published())}\n{END}{after}", encoding="utf-8")


def _toml(value: str | float) -> str:
    return json.dumps(round(value, 1) if isinstance(value, float) and value > 1 else value)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--figures", type=Path, help="of a run with peers, worker, disk and acks-3")
    options.add_argument("--write", action="store_true", help="renew the page and its figures")
    chosen = options.parse_args()
    given = published()
    if chosen.figures is not None:
        given = Inputs(taken_from(json.loads(chosen.figures.read_text(encoding="utf-8"))), given.assumptions)
    if chosen.write:
        write(given)
    print(tables(given))


if __name__ == "__main__":
    main()
