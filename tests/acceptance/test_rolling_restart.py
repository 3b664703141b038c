"""Operations on a cluster in use: processes are stopped and restarted one after the other, and killed.

Receivers stand behind a load balancer and lose no request; another worker takes over the partitions of a stopped one,
and no record takes effect twice. Requests come at a constant rate, whether they are answered or not.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiohttp import ClientSession

from deploy.load.corpus import Mix
from deploy.local import ports
from deploy.local.directory import Directory
from deploy.local.engine import EngineSpec
from deploy.local.machine import Machine
from deploy.local.roles import Role
from tests.support import balancers
from tests.support import cluster as clusters
from tests.support.cluster import SESSION_S, Cluster, Note, is_ready, metrics, partitions, until

WISHED = EngineSpec(receivers=2, workers=2, console=True, balancer=True)

PER_S = 200
EXIT_S = 10.0
OUT_OF_ROTATION_S = 3.0
TAKEOVER_S = 3.0
STUCK_S = 2.0  # of a request that a frozen receiver had
BEHIND_A_FROZEN_RECEIVER_S = 5.0  # HAProxy's limit for a receiver's answer, and a second for the machine

Running = Callable[[Directory, Machine, Sequence[Role]], AbstractAsyncContextManager[str]]


class Watched:
    """When a receiver was seen unready first, and its public port closed first."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self.unready_at = self.closed_at = float("inf")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Watched"]:
        looking = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            if not await is_ready(self._role):
                self.unready_at = min(self.unready_at, time.monotonic())
            if not await ports.answers(ports.LOOPBACK, self._role.port):
                self.closed_at = min(self.closed_at, time.monotonic())
            await asyncio.sleep(0.02)


async def ended(role: Role) -> float:
    """How long it took from SIGTERM to its end, which has to be a good one."""
    began = time.monotonic()
    await role.process.stop()
    took = time.monotonic() - began
    assert role.process.code == 0, role.process.with_log("did not end well")
    return took


@asynccontextmanager
async def haproxy(directory: Directory, machine: Machine, receivers: Sequence[Role]) -> AsyncIterator[str]:
    """The engine's own."""
    yield ""


@pytest.mark.parametrize("balancer", [haproxy, balancers.nginx, balancers.envoy], ids=lambda each: each.__name__)
async def test_receivers_restarted_in_turn_lose_no_request(cluster: Cluster, measured: Note, balancer: Running) -> None:
    exits, warnings = [], []
    async with (
        balancer(cluster.directory, cluster.machine, cluster.engine.receivers) as url,
        cluster.sending(to=url, rate=PER_S, seconds=45, connections=64) as load,
    ):
        await asyncio.sleep(1)
        for role in cluster.engine.receivers:
            async with Watched(role).watching() as watched:
                exits.append(await ended(role))
            warnings.append(watched.closed_at - watched.unready_at)
            await role.process.start()
            await asyncio.sleep(1.5)  # until the balancer has found it: an operator waits for that too
    assert load.failed() == []
    assert len(load.attempts) > PER_S * 2 * 3
    measured("requests", len(load.attempts))
    measured("worst answer", load.worst_s())
    measured("p99", load.percentile_s(0.99))
    measured("exit", max(exits))
    measured("unready before the port closes", min(warnings))
    assert max(exits) < EXIT_S
    assert min(warnings) > 1.0, "longer than the balancer needs to notice"


async def test_killed_receiver_leaves_rotation_soon_and_retries_succeed(cluster: Cluster, measured: Note) -> None:
    role = cluster.engine.receivers[0]
    async with cluster.sending(rate=PER_S, seconds=30) as load:
        await asyncio.sleep(1.5)
        killed_at = time.monotonic()
        await role.process.kill()
        await until(lambda: is_out(cluster, 1), 2 * OUT_OF_ROTATION_S)
        out_s = time.monotonic() - killed_at
        await asyncio.sleep(2)
        await role.process.start()
        await asyncio.sleep(1.5)
        assert not await is_out(cluster, 1)
    failed = load.failed()
    measured("out of rotation", out_s)
    measured("failed at the first try", len(failed))
    measured("last failure after the kill", max((each.ended - killed_at for each in failed), default=0.0))
    measured("worst answer", load.worst_s())
    assert out_s < OUT_OF_ROTATION_S
    assert load.failed(since=killed_at + OUT_OF_ROTATION_S) == []
    assert [each for each in failed if each.number > 1] == [], "no sender fails twice"
    await load.judged()


async def test_frozen_receiver_delays_no_request_beyond_the_balancers_limit(cluster: Cluster, measured: Note) -> None:
    role = cluster.engine.receivers[0]
    async with cluster.sending(rate=PER_S, seconds=30) as load:
        await asyncio.sleep(1.5)
        role.process.freeze()
        frozen_at = time.monotonic()
        await until(lambda: is_out(cluster, 1), 3 * OUT_OF_ROTATION_S)
        out_s = time.monotonic() - frozen_at
        await asyncio.sleep(BEHIND_A_FROZEN_RECEIVER_S)
        role.process.thaw()
        await asyncio.sleep(1.5)
    waited = max(each.ended - each.began for each in load.attempts)
    measured("out of rotation", out_s)
    measured("failed at the first try", len(load.failed()))
    measured("longest answer", waited)
    assert any(each.ended - each.began > STUCK_S for each in load.failed()), "the frozen receiver had requests"
    assert waited < BEHIND_A_FROZEN_RECEIVER_S
    assert load.failed(since=frozen_at + out_s + 0.5) == []
    await load.judged()


async def test_stopping_worker_hands_its_partitions_over_at_once(cluster: Cluster, measured: Note) -> None:
    leaver, heir = cluster.engine.workers
    async with cluster.sending(rate=PER_S, seconds=40) as load:
        await until(lambda: clusters.share_all(cluster), 10 * TAKEOVER_S)
        left = partitions(await metrics(leaver))
        await asyncio.sleep(1)
        told_at, told_at_s = time.time(), time.monotonic()
        stopping = asyncio.create_task(ended(leaver))
        await until(lambda: clusters.has_all(heir), 10.0)
        has_all_at_s = time.monotonic()
        exit_s = await stopping
        await asyncio.sleep(2)
    taken_over_s = await first_settled(cluster, left, received_after=told_at + exit_s) - told_at
    measured("the others have all partitions after", has_all_at_s - told_at_s)
    measured("takeover", taken_over_s)
    measured("exit", exit_s)
    measured("longest from receipt to disposition", await longest_wait_s(cluster, since=told_at - 1))
    assert taken_over_s < TAKEOVER_S
    assert exit_s < EXIT_S
    await load.judged()


async def test_partitions_of_a_killed_worker_move_when_its_session_ends(cluster: Cluster, measured: Note) -> None:
    killed, heir = cluster.engine.workers
    async with cluster.sending(rate=PER_S, seconds=60) as load:
        await until(lambda: clusters.share_all(cluster), 10 * TAKEOVER_S)
        left = partitions(await metrics(killed))
        await asyncio.sleep(1)
        killed_at = time.time()
        await killed.process.kill()
        await until(lambda: clusters.has_all(heir), SESSION_S + 5)
        # Records that arrived for its partitions meanwhile are waited for.
        await asyncio.sleep(2)
    taken_over_s = await first_settled(cluster, left, received_after=killed_at + 0.5) - killed_at
    measured("takeover", taken_over_s)
    assert taken_over_s < SESSION_S + 5
    await load.judged()


async def test_console_lists_who_runs_and_shows_what_happens(cluster: Cluster, measured: Note) -> None:
    receiver, worker = cluster.engine.receivers[1], cluster.engine.workers[1]
    ours = {role.admin_address for role in (*cluster.engine.receivers, *cluster.engine.workers)}
    await until(lambda: listed(cluster, dict.fromkeys(ours, "ready")), 60)
    mixed = Mix(duplicates=0.0, lifecycles=0.0, forgeries=0.1)
    async with cluster.sending(rate=20, seconds=60, mixed=mixed) as load:
        lines = await first_lines(cluster)
        refused = lines["refused"]
        path = f"/orders/{refused['account']}/{refused['order']}"
        await until(lambda: shows(cluster, path, "A request was refused"), 60)

        stopping = asyncio.create_task(receiver.process.stop())
        seen: set[str] = set()
        await until(lambda: listed(cluster, {receiver.admin_address: ""}, seen), 60)
        await stopping
        await worker.process.kill()
        # Until then the one that stopped would be gone as well, if it were still waited for.
        gone = {worker.admin_address: "gone", receiver.admin_address: ""}
        measured("gone after", await until(lambda: listed(cluster, gone), 60))
        assert "gone" not in seen
    assert load.attempts


async def shows(cluster: Cluster, path: str, text: str) -> bool:
    return text in await ports.body(cluster.console.admin_port, path)


async def listed(cluster: Cluster, wanted: dict[str, str], seen: set[str] | None = None) -> bool:
    """Whether the console's first page has these states by address, empty if it is not listed; `seen` gets them."""
    page = await ports.body(cluster.console.admin_port, "/")
    rows = page.partition('id="processes"')[2].partition("</section>")[0].split("<tr ")[1:]
    found = {}
    for row in rows:
        address = re.search(r"muted\">([^<]+:\d+)<", row)
        state = re.search(r"tag (ready|not_ready|gone|unknown)\"", row)
        assert address is not None, row
        assert state is not None, row
        found[address[1]] = state[1]
    if seen is not None:
        seen |= {found[address] for address in wanted if address in found}
    return all(found.get(address, "") == state for address, state in wanted.items())


async def first_lines(cluster: Cluster) -> dict[str, dict[str, str]]:
    """The tail's first line of each kind."""
    lines: dict[str, dict[str, str]] = {}
    async with (
        asyncio.timeout(90),
        ClientSession(cluster.console.admin_url) as session,
        session.get("/api/tail") as answer,
    ):
        async for part in answer.content:
            if part.startswith(b"data: {"):
                line = json.loads(part.removeprefix(b"data: "))
                if line["order"]:
                    lines.setdefault(line["kind"], line)
            if len(lines) == 4:
                break
    assert lines["received"]["process"] != lines["settled"]["process"], "a receiver and a worker"
    return lines


async def is_out(cluster: Cluster, number: int) -> bool:
    """Whether the balancer sends this receiver nothing, by its own checks."""
    assert cluster.engine.balancer is not None
    said = await ports.body(cluster.engine.balancer.stats_port, "/metrics")
    status = f'haproxy_server_status{{proxy="receivers",server="receiver-{number}",state="UP"}} '
    return f"{status}0" in said


async def first_settled(cluster: Cluster, left: set[int], *, received_after: float) -> float:
    """When the last of these partitions saw its first disposition of a record that was received after the moment."""
    found = await cluster.sql(
        "SELECT log_partition, extract(epoch FROM min(decided_at))::float8 AS at FROM deliveries "
        "WHERE received_at > to_timestamp($1) AND log_partition = ANY($2) GROUP BY log_partition",
        received_after,
        sorted(left),
    )
    firsts = {row["log_partition"]: row["at"] for row in found}
    assert firsts.keys() == left, "in each of them something came"
    return float(max(firsts.values()))


async def longest_wait_s(cluster: Cluster, *, since: float) -> float:
    waited = await cluster.one(
        "SELECT extract(epoch FROM max(decided_at - received_at))::float8 FROM deliveries "
        "WHERE received_at > to_timestamp($1)",
        since,
    )
    return float(waited)
