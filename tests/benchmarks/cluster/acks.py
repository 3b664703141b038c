"""Time to `success`: the highest rate of acknowledgements, and their latency in an open loop at 70 % of that.

One receiver process on a core of its own. One broker and the sender share the other; three brokers, which keep every
record three times and acknowledge it when all in-sync replicas have it, are on all cores, the receiver's too: what
they take from it is part of that figure.
"""

from msgspec import Struct

from deploy.load.figures import Figures as Sent
from tests.benchmarks import sending
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Servers

SHARE = 0.7
WARMING = 2000
CONNECTIONS = 256  # with fewer, all of them wait for the brokers and the receiver is idle


class Figures(Struct, frozen=True, kw_only=True):
    """Rates are acknowledgements a second of wall time, latencies milliseconds since each request was due."""

    brokers: int
    acks_per_s_max: float
    receiver_cpu_us_per_ack: float
    brokers_cpu_us_per_ack: float
    rate_at_70_percent: float
    p50_ms: float
    p99_ms: float
    p99_9_ms: float
    sent: int
    other_answers: int


async def measure(given: Servers, *, count: int) -> Figures:
    """`count` notifications as fast as answers come, and as many in the open loop."""
    place = await servers.place(given)
    requests = await corpus.requests(given.world, count, seed=1)
    async with servers.at_work(servers.receiver(given, place), cores.MEASURED) as receiver:
        with cores.on(cores.REST):
            await sending.run(requests[:WARMING], host="127.0.0.1", port=receiver.port, connections=CONNECTIONS)
            before, brokers_before = cores.cpu_s(receiver.process.pid), given.cpu_s()["kafka"]
            fastest = await sending.run(requests, host="127.0.0.1", port=receiver.port, connections=CONNECTIONS)
            used, brokers_used = cores.cpu_s(receiver.process.pid) - before, given.cpu_s()["kafka"] - brokers_before
            steady = await sending.run(
                requests,
                host="127.0.0.1",
                port=receiver.port,
                connections=CONNECTIONS,
                rate=fastest.acknowledged_rate * SHARE,
            )
    return Figures(
        brokers=given.brokers,
        acks_per_s_max=fastest.acknowledged_rate,
        receiver_cpu_us_per_ack=used / count * 1e6,
        brokers_cpu_us_per_ack=brokers_used / count * 1e6,
        rate_at_70_percent=steady.rate,
        p50_ms=steady.latency_ms.p50,
        p99_ms=steady.latency_ms.p99,
        p99_9_ms=steady.latency_ms.p99_9,
        sent=steady.calls,
        other_answers=_others(fastest) + _others(steady),
    )


def _others(sent: Sent) -> int:
    return sum(sent.refused.values()) + sum(sent.silent.values()) + sent.unsent


def table(figures: Figures) -> str:
    """The figures as text."""
    lines = {
        "acknowledged, most": f"{figures.acks_per_s_max:,.0f}/s",
        "receiver": f"{figures.receiver_cpu_us_per_ack:.1f} µs of CPU each",
        "brokers together": f"{figures.brokers_cpu_us_per_ack:.1f} µs of CPU each",
        f"at {figures.rate_at_70_percent:,.0f}/s": (
            f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms, p99.9 {figures.p99_9_ms:.1f} ms"
        ),
        "other answers": f"{figures.other_answers:,}",
    }
    return "\n".join(f"{name:24}{value}" for name, value in lines.items())
