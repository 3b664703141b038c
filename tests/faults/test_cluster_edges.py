"""Faults around a running cluster: HAProxy repeats a request, workers come and go, the broker throttles receivers.

One broker, Redis and PostgreSQL, which other tests use too; two receivers, two workers, a console.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from deploy.load.corpus import Mix
from deploy.local import directory as directories
from deploy.local import haproxy, ports
from deploy.local.engine import EngineSpec
from deploy.local.haproxy import Backend
from tests.faults import storms
from tests.faults.wire import Wire, wire
from tests.support import kafka_brokers
from tests.support.cluster import Cluster, Note, is_ready, until

WISHED = EngineSpec(receivers=2, workers=2, console=True)

PER_S = 40
ANSWER_S = 3.5  # the deadline, and half a second for the measurement
REPEATED = 6
ONLY_PAYMENTS = Mix(duplicates=0.0, lifecycles=0.0, forgeries=0.0)
TURNS = 2  # `make soak` has more
QUOTA_BYTES_PER_S = 10_000.0  # less than half of the load
SHED = 20
BACK_S = 10.0


@asynccontextmanager
async def balanced(cluster: Cluster, directory: Path) -> AsyncIterator[tuple[str, list[Wire]]]:
    """HAProxy as it is shipped, with a wire to each receiver that can swallow an answer; yields its address too."""
    receivers = cluster.engine.receivers
    async with AsyncExitStack() as entered:
        lines = [await entered.enter_async_context(wire(role.port)) for role in receivers]
        backends = [
            Backend(public=f"{ports.LOOPBACK}:{line.port}", admin=role.admin_address)
            for line, role in zip(lines, receivers, strict=True)
        ]
        home = await entered.enter_async_context(directories.held(directory, fresh=True))
        port, stats = ports.free(2)
        balancing = haproxy.balancing(home, cluster.machine, backends, port=port, stats_port=stats)
        balancer = await entered.enter_async_context(balancing)
        yield balancer.url, lines


async def test_request_that_haproxy_repeats_is_two_records_and_one_effect(
    cluster: Cluster, tmp_path: Path, measured: Note
) -> None:
    duplicates = "SELECT count(*) FROM deliveries WHERE disposition = 'duplicate'"
    async with balanced(cluster, tmp_path / "edge") as (url, lines):
        before = await cluster.one(duplicates)
        async with cluster.sending(rate=PER_S, seconds=60, to=url, mixed=ONLY_PAYMENTS) as load:
            for number in range(REPEATED):
                line = lines[number % len(lines)]
                cuts = line.cuts
                line.swallow_after = b"POST /notify"
                await until(lambda line=line, cuts=cuts: line.cuts > cuts, 30)  # type: ignore[misc]
        await load.judged()
    failed, cuts = load.failed(), sum(line.cuts for line in lines)
    repeated = await cluster.one(duplicates) - before
    measured("answers swallowed", cuts)
    measured("records that were repeated", repeated)
    assert {each.status for each in failed} <= {503, 504}, "a busy machine's; else the sender sees nothing of it"
    assert repeated >= max(1, cuts - len(failed))


async def test_workers_that_come_and_go_stop_no_progress(cluster: Cluster, measured: Note) -> None:
    async with cluster.sending(rate=PER_S, seconds=120) as load:
        await storms.rebalances(cluster, turns=TURNS, measured=measured)
    assert {each.status for each in load.failed()} <= {503}
    await load.judged()


async def test_throttled_receiver_sheds_and_recovers(cluster: Cluster, measured: Note) -> None:
    receiver = cluster.engine.receivers[0]
    async with cluster.sending(rate=PER_S, seconds=90, to=receiver.url) as load:
        await until(lambda: len(load.succeeded()) > PER_S, 30)
        throttled_at = time.monotonic()
        async with kafka_brokers.limited(cluster.kafka.bootstrap, bytes_per_s=QUOTA_BYTES_PER_S):
            await until(lambda: len(load.failed(since=throttled_at)) > SHED, 60)
        free_at = time.monotonic()
        await until(lambda: load.first_success_after(free_at), 60)
        await until(lambda: is_ready(receiver), 30)
    failed = load.failed()
    measured("shed after", min(each.ended for each in failed) - throttled_at)
    measured("first success after the quota's end", (load.first_success_after(free_at) or 0.0) - free_at)
    assert {each.status for each in failed} == {503}
    assert max(each.ended - each.began for each in failed) < ANSWER_S, "none waits in a queue for longer"
    assert (load.first_success_after(free_at) or 0.0) - free_at < BACK_S
    await load.judged()
