"""A backlog in Kafka, and how soon and at what cost a worker brings it to the order store.

One worker process on a core of its own, in batches of 500; Kafka, PostgreSQL and Redis have the others. Every record is
the payment of an order of its own, so each writes all that a record can write: the ledger, an order, its trade, its
delivery and an event, which is sent to its two topics while the drain goes on. The measurement begins with the first
processed batch, because the start of a process is no part of a record's cost, and ends when the last event is
acknowledged.

The same log is drained again and again, each time by another group into another schema: with the receipts of the
receiver, which spare the worker the signature; without, so that every signature is verified again; and without Redis.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from deploy.local.roles import Role
from schemas import telemetry
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Servers

LOOK_EVERY_S = 0.5  # at the begin and at the end; a look costs the worker some milliseconds
WITHIN_S = 600.0
STEPS = ("read", "claim", "apply", "commit", "release", "emit")


class Drain(Struct, frozen=True, kw_only=True):
    """One drain. `per_core` is records for each second of the worker's CPU, `per_second` by the clock on the wall.

    `steps_us` are microseconds of wall time for each record, by the worker's own metrics; `emit` runs beside the rest.
    """

    name: str
    records: int
    wall_s: float
    per_second: float
    per_core: float
    cpu_s: Mapping[str, float]
    steps_us: Mapping[str, float]


class Figures(Struct, frozen=True, kw_only=True):
    """The drains of one log."""

    backlog: int
    drains: Sequence[Drain]


class _Seen(Struct, frozen=True):
    at_s: float
    settled: int
    emitted: int
    cpu_s: Mapping[str, float]
    samples: Mapping[str, float]


async def measure(given: Servers, *, count: int, count_of_others: int) -> Figures:
    """A backlog of `count` with receipts and Redis; the two variations on one of `count_of_others`, with one of their
    own to be compared to."""
    requests = await corpus.requests(given.world, count, seed=1_000_000)
    filled = await servers.place(given)
    records = corpus.records(requests, servers.receipt_key(filled))
    drains = []
    for size in dict.fromkeys((count_of_others, count)):
        prefix = filled.prefix if size == count else (await servers.place(given)).prefix
        await servers.fill(given, prefix, records[:size])
        drains.append(await _drained(given, "with receipts, Redis on", size, prefix))
        if size == count_of_others:
            drains.append(await _drained(given, "signature verified again", size, prefix, receipt_key_file=""))
            drains.append(await _drained(given, "Redis off", size, prefix, redis=""))
    return Figures(backlog=count, drains=drains)


async def _drained(given: Servers, name: str, count: int, prefix: str, **told: str) -> Drain:
    place = await servers.place(given, prefix=prefix, **told)
    await servers.forget_locks(given)  # or the markers of the drain before would be compared with this one's store
    async with servers.at_work(servers.worker(given, place), cores.MEASURED) as worker:
        first = await _seen(given, worker, lambda seen: seen.settled > 0)
        last = await _seen(
            given, worker, lambda seen: seen.settled >= count and seen.emitted >= count, since=first, count=count
        )
    settled, wall_s = last.settled - first.settled, last.at_s - first.at_s
    used_s = {who: last.cpu_s[who] - first.cpu_s[who] for who in last.cpu_s}
    return Drain(
        name=name,
        records=settled,
        wall_s=wall_s,
        per_second=settled / wall_s,
        per_core=settled / used_s["worker"],
        cpu_s=used_s,
        steps_us={step: (_took_s(last, step) - _took_s(first, step)) / settled * 1e6 for step in STEPS},
    )


async def _seen(
    given: Servers, worker: Role, is_so: Callable[[_Seen], bool], *, since: _Seen | None = None, count: int = 0
) -> _Seen:
    """The figures at that moment. `since`: look again half-way to the expected end of `count` records."""
    async with asyncio.timeout(WITHIN_S):
        while not is_so(seen := await _look(given, worker)):
            wait_s = LOOK_EVERY_S
            if since is not None and seen.emitted > since.emitted:
                each_s = (seen.at_s - since.at_s) / (seen.emitted - since.emitted)
                wait_s = max(wait_s, each_s * (count - seen.emitted) / 2)
            await asyncio.sleep(wait_s)
    return seen


async def _look(given: Servers, worker: Role) -> _Seen:
    samples = await servers.metrics(worker)
    return _Seen(
        at_s=time.monotonic(),
        settled=round(servers.total(samples, f"{telemetry.PROCESSED.name}_total")),
        emitted=round(servers.total(samples, f"{telemetry.END_TO_END.name}_count")),
        cpu_s={"worker": cores.cpu_s(worker.process.pid)} | given.cpu_s(),
        samples=samples,
    )


def _took_s(seen: _Seen, step: str) -> float:
    return seen.samples.get(f'{telemetry.PROCESSING_DURATION.name}_sum{{step="{step}"}}', 0.0)


def table(figures: Figures) -> str:
    """The drains, and where a record's time goes in each, as text."""
    drains = figures.drains
    shown = [
        _line("", [drain.name for drain in drains]),
        _line("records", [f"{drain.records:,}" for drain in drains]),
        _line("a second, wall", [f"{drain.per_second:,.0f}" for drain in drains]),
        _line("a second of worker's CPU", [f"{drain.per_core:,.0f}" for drain in drains]),
        _line("wall s", [f"{drain.wall_s:.1f}" for drain in drains]),
        *(
            _line(f"CPU s, {who}", [f"{drain.cpu_s[who]:.1f}" for drain in drains])
            for who in ("worker", "postgres", "redis", "kafka")
        ),
        *(_line(f"{step}, µs each, wall", [f"{drain.steps_us[step]:.1f}" for drain in drains]) for step in STEPS),
    ]
    return "\n".join(shown)


def _line(name: str, values: Sequence[str]) -> str:
    return f"{name:26}" + "".join(f"{value:>26}" for value in values)
