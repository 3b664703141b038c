"""Our receiver beside a bare aiohttp echo and a receiver in Go that makes the same promises: CPU of a notification.

All run at once on one core, and are sent to in turns, round after round, so that whatever else the machine does meets
all of them. The broker and the sender have the other core. A receiver's CPU is the user and system time of its process
and its children around each round. Medians of the rounds count; a ratio is the median of the ratios of each round.
"""

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil
from msgspec import Struct

from schemas import topics
from tests.benchmarks import closed_loop, go_receiver, receiver_cost
from tests.benchmarks.closed_loop import Sent
from tests.benchmarks.cluster import cores, receiver, servers
from tests.benchmarks.cluster.servers import Place, Servers
from tests.benchmarks.go_receiver import GoMissing, Running
from tests.benchmarks.receiver_cost import Serve

CONNECTIONS = (64, 256)
WARMING_S = 1.0
READY_S = 60.0

ECHO = "bare aiohttp echo"
GO, GO_KAFKA = "Go, no log", "Go, Kafka"
OURS, OURS_KAFKA, OURS_JOURNAL = "ours, no log", "ours, Kafka", "ours, journal"
# What is compared with what.
RATIOS = {
    "ours ÷ Go, both on Kafka": (OURS_KAFKA, GO_KAFKA),
    "ours ÷ Go, both without a log": (OURS, GO),
    "ours on Kafka ÷ echo": (OURS_KAFKA, ECHO),
    "ours on the journal ÷ echo": (OURS_JOURNAL, ECHO),
    "Go on Kafka ÷ echo": (GO_KAFKA, ECHO),
}


class Peer(Struct, frozen=True, kw_only=True):
    """A receiver under so many connections: medians of the rounds, and all wrong answers."""

    name: str
    connections: int
    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    wrong: int
    rss_mib: float


class Ratio(Struct, frozen=True, kw_only=True):
    """How many times the CPU of the second the first takes: median, least and most of the rounds."""

    name: str
    connections: int
    median: float
    least: float
    most: float


class Figures(Struct, frozen=True, kw_only=True):
    """All of them. `missing` says why there is none in Go."""

    rounds: int
    seconds_each: float
    peers: Sequence[Peer]
    ratios: Sequence[Ratio]
    missing: str = ""


class _Round(Struct, frozen=True):
    cpu_us: float
    sent: Sent


async def measure(given: Servers, *, requests: int, rounds: int, seconds: float) -> Figures:
    """So many rounds of so many seconds for each receiver and number of connections."""
    place = await servers.place(given)
    await servers.make_topics(given, f"{place.prefix}.go")
    return await asyncio.to_thread(_measure, given, place, requests, rounds, seconds)


def _measure(given: Servers, place: Place, count: int, rounds: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as entered:
        directory = Path(temporary)
        requests = receiver_cost.make_requests(directory, count)
        running = {name: entered.enter_context(_ours(serve, directory)) for name, serve in _rungs(given, place).items()}
        missing = ""
        try:
            running |= _in_go(entered, directory, kafka=given.kafka, prefix=f"{place.prefix}.go")
        except GoMissing as error:
            missing = str(error)
            print(missing, file=sys.stderr, flush=True)
        for name, each in running.items():
            if name != ECHO:
                _check(name, each, requests[0])
        peers: list[Peer] = []
        ratios: list[Ratio] = []
        for connections in CONNECTIONS:
            taken = _in_turns(running, requests, connections, rounds, seconds)
            peers += [_peer(name, connections, each, running[name].pid) for name, each in taken.items()]
            ratios += [
                _ratio(name, connections, taken[one], taken[other])
                for name, (one, other) in RATIOS.items()
                if one in taken and other in taken
            ]
    return Figures(rounds=rounds, seconds_each=seconds, peers=peers, ratios=ratios, missing=missing)


def _check(name: str, one: Running, request: bytes) -> None:
    """A receiver that accepts anything would be fast.

    Raises:
        AssertionError: it accepts a changed amount, or a name that occurs twice.
    """
    head, _, body = request.partition(b"\r\n\r\n")
    amount = b"total_amount=120.50"
    assert amount in body
    for forged in (body.replace(amount, b"total_amount=999.50"), body + b"&" + amount):
        length = b"Content-Length: %d"
        changed = head.replace(length % len(body), length % len(forged))
        answer = closed_loop.run([changed + b"\r\n\r\n" + forged], port=one.port, connections=1, seconds=0)
        assert answer.wrong == answer.answered == 1, f"{name} accepts a forged notification"


def _rungs(given: Servers, place: Place) -> dict[str, Serve]:
    on_kafka = partial(
        receiver.on_kafka,
        kafka=given.kafka,
        prefix=place.prefix,
        receipt_key_file=place.told["receipt_key_file"],
    )
    return {
        ECHO: receiver_cost.echo,
        OURS: receiver_cost.receiver,
        OURS_KAFKA: on_kafka,
        OURS_JOURNAL: receiver_cost.embedded,
    }


def _in_go(entered: ExitStack, directory: Path, *, kafka: str, prefix: str) -> dict[str, Running]:
    run = partial(go_receiver.running, go_receiver.build(directory), directory / "key.pem")
    topic = topics.named(topics.NOTIFICATION, prefix)
    return {
        GO: entered.enter_context(run()),
        GO_KAFKA: entered.enter_context(run(brokers=kafka, topic=topic)),
    }


@contextmanager
def _ours(serve: Serve, files: Path) -> Iterator[Running]:
    """A process of Python that serves, on the measured core."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=receiver_cost.run, args=(serve, str(files), theirs))
    with cores.on(cores.MEASURED):  # this thread may have been started on those of the servers
        process.start()
    try:
        if not ours.poll(READY_S):
            raise TimeoutError(f"{serve} does not come up")
        assert process.pid is not None
        yield Running(process.pid, ours.recv())
        ours.send(False)
        process.join(30)
    finally:
        process.kill()


def _in_turns(
    running: Mapping[str, Running], requests: Sequence[bytes], connections: int, rounds: int, seconds: float
) -> dict[str, list[_Round]]:
    """The rounds of each, every other one in the opposite order."""
    taken: dict[str, list[_Round]] = {name: [] for name in running}
    with cores.on(cores.REST):
        for each in running.values():
            closed_loop.run(requests, port=each.port, connections=connections, seconds=WARMING_S)
        for number in range(rounds):
            for name in list(running)[:: -1 if number % 2 else 1]:
                taken[name].append(_round(running[name], requests, connections, seconds))
    return taken


def _round(one: Running, requests: Sequence[bytes], connections: int, seconds: float) -> _Round:
    before_s = cores.cpu_s(one.pid)
    sent = closed_loop.run(requests, port=one.port, connections=connections, seconds=seconds)
    return _Round((cores.cpu_s(one.pid) - before_s) / max(sent.answered, 1) * 1e6, sent)


def _peer(name: str, connections: int, rounds: Sequence[_Round], pid: int) -> Peer:
    return Peer(
        name=name,
        connections=connections,
        cpu_us=statistics.median(each.cpu_us for each in rounds),
        per_second=statistics.median(each.sent.answered / each.sent.seconds for each in rounds),
        p50_ms=statistics.median(each.sent.p50_ms for each in rounds),
        p99_ms=statistics.median(each.sent.p99_ms for each in rounds),
        wrong=sum(each.sent.wrong for each in rounds),
        rss_mib=psutil.Process(pid).memory_info().rss / 2**20,
    )


def _ratio(name: str, connections: int, one: Sequence[_Round], other: Sequence[_Round]) -> Ratio:
    found = [a.cpu_us / b.cpu_us for a, b in zip(one, other, strict=True)]
    return Ratio(name=name, connections=connections, median=statistics.median(found), least=min(found), most=max(found))


def table(figures: Figures) -> str:
    """The receivers, and below them the ratios."""
    lines = [f"medians of {figures.rounds} rounds of {figures.seconds_each:g} s each, in turns"]
    for connections in CONNECTIONS:
        lines.append(
            f"{f'{connections} connections':32}{'CPU µs':>9}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'wrong':>7}"
        )
        lines += [
            f"{p.name:32}{p.cpu_us:9.1f}{p.per_second:9,.0f}{p.p50_ms:9.1f}{p.p99_ms:9.1f}{p.wrong:9,}"
            for p in figures.peers
            if p.connections == connections
        ]
        lines += [
            f"{r.name:32}{r.median:9.2f}  ({r.least:.2f} - {r.most:.2f})"
            for r in figures.ratios
            if r.connections == connections
        ]
    return "\n".join([*lines, figures.missing] if figures.missing else lines)
