"""The benchmarks of the cluster engine, one after another on real servers that are started once.

peers         cost of a notification for our receiver, beside a bare echo and a receiver in Go
receiver      cost of an acknowledged notification for a receiver on Kafka, in bare echoes
acks          acknowledgements a second, and their latency at 70 % of the most
overload      2,000 senders in a closed loop: accepted, refused, memory
worker        a backlog drained, and where a record's time goes; signatures verified again; Redis off
worker-steps  CPU of each step of a record in a worker
end-to-end    from `success` to the event: at the most, at 70 % of it, at 1,000 a second, and alone
disk          bytes of a payment in Kafka and PostgreSQL
orders        cost of a record beside many existing orders
acks-3        as `acks`, on three brokers that keep everything three times
"""

import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from tests.benchmarks.cluster import (
    acks,
    backlog,
    cores,
    disk,
    end_to_end,
    order_count,
    overload,
    peers,
    receiver,
    servers,
    worker_steps,
)
from tests.benchmarks.cluster.servers import Servers


class Sizes(Struct, frozen=True, kw_only=True):
    """How much of everything."""

    peers_requests: int = 10_000
    peers_rounds: int = 7
    peers_s: float = 3.0
    ladder_requests: int = 10_000
    ladder_rounds: int = 2
    steady_per_s: int = 2_000
    acks: int = 20_000
    overload_s: float = 5.0
    backlog: int = 100_000
    backlog_of_others: int = 25_000
    stepped: int = 20_000
    through: int = 10_000
    lone: int = 100
    on_disk: int = 10_000
    orders: tuple[int, ...] = (10_000, 1_000_000)
    records: int = 10_000


FULL = Sizes()
QUICK = Sizes(
    peers_requests=1_000,
    peers_rounds=2,
    peers_s=0.5,
    ladder_requests=3_000,
    ladder_rounds=1,
    steady_per_s=0,
    acks=3_000,
    overload_s=1.0,
    backlog=10_000,
    backlog_of_others=10_000,
    stepped=5_000,
    through=2_500,
    lone=20,
    on_disk=2_000,
    orders=(10_000, 50_000),
    records=4_000,
)


class Measured(Struct, frozen=True, kw_only=True):
    """The result of one benchmark.

    `load` is the machine's load average at its end, with foreign processes. `verify_us` is the processor time of one
    RSA-2048 verification at its end: the pace of this machine, as busy as it was, to compare runs by.
    """

    name: str
    title: str
    seconds: float
    load: float
    verify_us: float
    figures: Any
    text: str

    @property
    def about(self) -> str:
        """How it was taken."""
        return f"{self.seconds:.0f} s; load {self.load}; RSA-2048 verification {self.verify_us:.0f} µs"

    def plain(self) -> dict[str, Any]:
        """For programs."""
        found: dict[str, Any] = msgspec.to_builtins(self.figures)
        taken = {"seconds": round(self.seconds, 1), "load": self.load, "verify_us": round(self.verify_us, 1)}
        return taken | found


class _Benchmark(Struct, frozen=True, kw_only=True):
    title: str
    measure: Callable[[Servers, Sizes], Awaitable[Any]]
    table: Callable[[Any], str]
    brokers: int = 1


_BENCHMARKS = {
    "peers": _Benchmark(
        title="receivers side by side: CPU of a notification, one core",
        measure=lambda given, sizes: peers.measure(
            given, requests=sizes.peers_requests, rounds=sizes.peers_rounds, seconds=sizes.peers_s
        ),
        table=peers.table,
    ),
    "receiver": _Benchmark(
        title="receiver on Kafka: CPU per request, one core, beside a bare aiohttp echo",
        measure=lambda given, sizes: receiver.measure(
            given, requests=sizes.ladder_requests, rounds=sizes.ladder_rounds, steady_per_s=sizes.steady_per_s
        ),
        table=receiver.table,
    ),
    "acks": _Benchmark(
        title="acknowledgements, one broker",
        measure=lambda given, sizes: acks.measure(given, count=sizes.acks),
        table=acks.table,
    ),
    "overload": _Benchmark(
        title="far more senders than a receiver can take, one broker",
        measure=lambda given, sizes: overload.measure(given, seconds=sizes.overload_s),
        table=overload.table,
    ),
    "worker": _Benchmark(
        title="worker: a backlog drained, batches of 500",
        measure=lambda given, sizes: backlog.measure(
            given, count=sizes.backlog, count_of_others=sizes.backlog_of_others
        ),
        table=backlog.table,
    ),
    "worker-steps": _Benchmark(
        title="worker: CPU µs of each step of a record, batches of 500",
        measure=lambda given, sizes: worker_steps.measure(given, count=sizes.stepped),
        table=worker_steps.table,
    ),
    "end-to-end": _Benchmark(
        title="end to end, one receiver and one worker",
        measure=lambda given, sizes: end_to_end.measure(given, count=sizes.through, lone=sizes.lone),
        table=end_to_end.table,
    ),
    "disk": _Benchmark(
        title="disk: bytes of a payment",
        measure=lambda given, sizes: disk.measure(given, count=sizes.on_disk),
        table=disk.table,
    ),
    "orders": _Benchmark(
        title="a record's cost beside existing orders: read, decided and applied in batches of 500",
        measure=lambda given, sizes: order_count.measure(given, counts=sizes.orders, records=sizes.records),
        table=order_count.table,
    ),
    "acks-3": _Benchmark(
        title="acknowledgements, three brokers, everything kept three times",
        measure=lambda given, sizes: acks.measure(given, count=sizes.acks),
        table=acks.table,
        brokers=3,
    ),
}
NAMES = tuple(_BENCHMARKS)


async def run(only: Collection[str], sizes: Sizes) -> AsyncIterator[Measured]:
    """Those of the benchmarks, or all where none is named, in their order. Progress goes to stderr."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic's leaders take a moment to be known to all
    chosen = {name: each for name, each in _BENCHMARKS.items() if name in only or not only}
    for brokers in sorted({each.brokers for each in chosen.values()}):
        here = {name: each for name, each in chosen.items() if each.brokers == brokers}
        async with servers.running(brokers=brokers, stores=brokers == 1) as given:
            for name, each in here.items():
                print(f"{each.title} …", file=sys.stderr, flush=True)
                yield await _measured(name, each, given, sizes)


async def _measured(name: str, benchmark: _Benchmark, given: Servers, sizes: Sizes) -> Measured:
    began_s = time.monotonic()
    figures = await benchmark.measure(given, sizes)
    return Measured(
        name=name,
        title=benchmark.title,
        seconds=time.monotonic() - began_s,
        load=round(os.getloadavg()[0], 1),
        verify_us=cores.pace_us(),
        figures=figures,
        text=benchmark.table(figures),
    )
