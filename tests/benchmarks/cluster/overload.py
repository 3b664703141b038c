"""A receiver with far more senders than it can take: what it accepts, how soon it refuses the rest, and its memory.

As many senders as it allows connections send as fast as answers come, to one process on a core of its own. It takes
them all in turn, so a refusal waits for the turns of the others.
"""

import asyncio
from pathlib import Path

from msgspec import Struct

from tests.benchmarks import closed_loop
from tests.benchmarks.cluster import cores, corpus, servers
from tests.benchmarks.cluster.servers import Servers

SENDERS = 2_000
NOTIFICATIONS = 5_000


class Figures(Struct, frozen=True, kw_only=True):
    """Rates a second, latencies in milliseconds from request to answer. `unanswered` were cut or never answered."""

    senders: int
    accepted_per_s: float
    refused_per_s: float
    refused_p50_ms: float
    refused_p99_ms: float
    p99_ms: float
    unanswered: int
    memory_before_mib: float
    memory_mib: float


async def measure(given: Servers, *, seconds: float) -> Figures:
    """Send for so long; the first second, in which all connect, does not count."""
    place = await servers.place(given)
    requests = await corpus.requests(given.world, NOTIFICATIONS, seed=2)
    async with servers.at_work(servers.receiver(given, place), cores.MEASURED) as receiver:
        with cores.on(cores.REST):
            before = _memory_mib(receiver.process.pid)
            for duration_s in (1.0, seconds):
                sent = await asyncio.to_thread(
                    closed_loop.run, requests, port=receiver.port, connections=SENDERS, seconds=duration_s
                )
            memory = _memory_mib(receiver.process.pid)
    return Figures(
        senders=SENDERS,
        accepted_per_s=(sent.answered - sent.wrong) / sent.seconds,
        refused_per_s=sent.refused / sent.seconds,
        refused_p50_ms=sent.refused_p50_ms,
        refused_p99_ms=sent.refused_p99_ms,
        p99_ms=sent.p99_ms,
        unanswered=sent.wrong - sent.refused,
        memory_before_mib=before,
        memory_mib=memory,
    )


def _memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def table(figures: Figures) -> str:
    """The figures as text."""
    rates = f"{figures.accepted_per_s:,.0f}/s accepted, {figures.refused_per_s:,.0f}/s refused"
    lines = {
        f"{figures.senders:,} senders": rates,
        "refused after": f"p50 {figures.refused_p50_ms:.0f} ms, p99 {figures.refused_p99_ms:.0f} ms",
        "any answer": f"p99 {figures.p99_ms:.0f} ms",
        "without an answer": f"{figures.unanswered:,}",
        "memory": f"{figures.memory_mib:.0f} MiB at most, {figures.memory_before_mib:.0f} before",
    }
    return "\n".join(f"{name:24}{value}" for name, value in lines.items())
