"""Faults of servers and workers under a running cluster: its guarantees hold, and it recovers by itself.

One broker, Redis and PostgreSQL, which other tests use too; two receivers behind HAProxy, two workers, a console. Each
test sends orders of its own, and ends with the verdict on all of them.
"""

import asyncio
import time
from datetime import UTC, datetime
from random import Random
from typing import Any

import asyncpg
import psutil
from aiohttp import ClientSession

from deploy.local import ports, roles
from deploy.local.engine import EngineSpec
from deploy.local.postgres import Postgres
from deploy.local.roles import Role
from deploy.sandbox import planning, scenario_files
from deploy.sandbox.notifications import SignedDelivery
from schemas import topics
from schemas.dispositions import Reason
from tests.support import cluster as clusters
from tests.support import tally
from tests.support.cluster import SESSION_S, Cluster, Note, is_ready, metrics, summed, until
from tests.support.kafka_topics import admin

WISHED = EngineSpec(receivers=2, workers=2, console=True, balancer=True, sandbox=True)

ANSWER_S = 3.5  # the deadline, and half a second for the measurement
BACK_S = 10.0
AWAY_S = 20.0
GROWTH_MAX = 32 << 20
PER_S = 40
WOKEN_S = 1.0


async def test_without_brokers_all_is_answered_and_nothing_acknowledged(cluster: Cluster, measured: Note) -> None:
    (broker,) = cluster.kafka.brokers
    receivers = cluster.engine.receivers
    async with (
        cluster.sending(rate=PER_S, seconds=90) as load,
        cluster.sending(rate=PER_S / 2, seconds=90, to=receivers[0].url) as direct,
    ):
        await asyncio.sleep(1)
        memory = [resident(role) for role in receivers]
        await broker.process.stop()
        gone_at = time.monotonic()
        await asyncio.sleep(AWAY_S / 2)
        assert not any([await is_ready(role) for role in receivers])
        await asyncio.sleep(AWAY_S / 2)
        grown = [resident(role) - before for role, before in zip(receivers, memory, strict=True)]
        back_at = time.monotonic()
        broker.process.spawn()
        await until(lambda: ports.answers(ports.LOOPBACK, broker.node.client), 60)
        accepts_at = time.monotonic()
        await until(lambda: load.first_success_after(back_at) and direct.first_success_after(back_at), 60)
        await broker.process.ready()
        await until(lambda: all_ready(cluster), 30)
        workers_s = time.monotonic() - accepts_at
    for one in (load, direct):
        away = one.failed(since=gone_at, upto=back_at)
        assert one.succeeded(since=gone_at, upto=back_at) == []
        assert {(each.outcome, each.status) for each in away} == {("refused", 503)}
        assert max(each.ended - each.began for each in away) < ANSWER_S
    firsts = [one.first_success_after(back_at) or 0.0 for one in (load, direct)]
    measured("longest refusal", max(each.ended - each.began for each in direct.failed(since=gone_at, upto=back_at)))
    measured("first success after brokers accept, at a receiver", firsts[1] - accepts_at)
    measured("first success after brokers accept, through HAProxy", firsts[0] - accepts_at)
    measured("all ready after", workers_s)
    measured("memory grown, MiB", max(grown) / (1 << 20))
    assert max(firsts) - accepts_at < BACK_S
    assert max(grown) < GROWTH_MAX
    await direct.judged()
    await load.judged()


async def test_event_without_its_topic_waits_in_the_outbox_and_orders_go_on(cluster: Cluster, measured: Note) -> None:
    event_topic = cluster.topic(topics.ORDER_EVENT)
    await until(lambda: outbox_is_empty(cluster), 30)
    async with admin({"bootstrap_servers": cluster.kafka.bootstrap}) as asked:
        await asked.delete_topics([event_topic])
        await until(lambda: is_gone(asked, event_topic), 20)
    async with cluster.sending(rate=PER_S, seconds=30) as load:
        await asyncio.sleep(5)
    assert load.failed() == []
    await until(lambda: nothing_is_behind(cluster), 20)
    waiting = await cluster.one("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
    assert waiting > PER_S
    assert await all_ready(cluster)
    applied_at = time.monotonic()
    await cluster.apply_topics()
    await until(lambda: outbox_is_empty(cluster), 60)
    measured("events that waited", waiting)
    measured("drained, from the call of `topics apply` on", time.monotonic() - applied_at)
    await load.judged()


async def test_receiver_is_ready_soon_after_its_topic_is_created(cluster: Cluster, measured: Note) -> None:
    prefix = f"{cluster.prefix}x"
    early = cluster.another("ingest", "ingest-early", topic_prefix=prefix, drain_delay_s=0)
    early.process.spawn()
    try:
        await until(lambda: ports.answers(ports.LOOPBACK, early.port), 30)
        async with cluster.sending(rate=20, seconds=90, to=early.url) as load:
            await asyncio.sleep(3)
            assert not await is_ready(early)
            assert load.succeeded() == []
            assert {each.status for each in load.failed()} == {503}
            applied_at = time.monotonic()
            await cluster.apply_topics(prefix)
            await until(lambda: is_ready(early), 30)
            measured("ready, from the call of `topics apply` on", time.monotonic() - applied_at)
            await until(lambda: load.first_success_after(applied_at), 30)
    finally:
        await early.process.stop()
    assert early.process.code == 0


async def test_every_guarantee_holds_without_redis(cluster: Cluster, measured: Note) -> None:
    """With an unreachable Redis, and without one, no worker waits for a lock."""
    await asyncio.gather(*(role.process.stop() for role in cluster.engine.workers))
    dead, none, late = [
        cluster.another("worker", f"worker-{name}", redis=redis)
        for name, redis in (("dead", "redis://127.0.0.1:1/0"), ("none", ""), ("late", ""))
    ]
    async with roles.together([dead]):
        async with roles.together([none]), cluster.sending(rate=4 * PER_S, seconds=40) as load:
            await asyncio.sleep(2)
            # Joining and leaving workers make records redelivered, to two workers at a time.
            async with roles.together([late]):
                await asyncio.sleep(1)
                await none.process.kill()
                await asyncio.sleep(1)
        assert load.failed() == []
        verified = await load.judged()
    measured("records", verified.records)


async def test_without_postgres_acks_go_on_and_nothing_is_held(
    cluster: Cluster, local_postgres: Postgres, measured: Note
) -> None:
    # A capture that comes before its payment waits for it, outage or not, and the load may end before it sends that.
    held = "SELECT count(*) FROM held WHERE first_at > to_timestamp($1) AND reason <> $2"
    began_at = time.time()
    async with cluster.sending(rate=PER_S, seconds=60) as load:
        await asyncio.sleep(1)
        await local_postgres.process.kill()
        await asyncio.sleep(8)
        assert not any([await is_ready(role) for role in cluster.engine.workers])
        await asyncio.sleep(2)
        await local_postgres.start_again()
        back_at, back_at_s = time.time(), time.monotonic()
        settled = "SELECT count(*) FROM deliveries WHERE decided_at > to_timestamp($1)"
        await until(lambda: cluster.one(settled, back_at), 30, every_s=0.1)
        drains_s = time.monotonic() - back_at_s
        await until(lambda: all_ready(cluster), 30)
    measured("drain begins", drains_s)
    measured("worst answer", load.worst_s())
    assert load.failed() == []
    assert drains_s < BACK_S
    await load.judged()
    assert await cluster.one(held, began_at, Reason.UNKNOWN_TRADE) == 0


async def test_worker_frozen_beyond_its_session_in_a_batch_changes_nothing(cluster: Cluster, measured: Note) -> None:
    zombie, heir = cluster.engine.workers
    async with cluster.sending(rate=4 * PER_S, seconds=60) as load:
        await until(lambda: clusters.share_all(cluster), 30)
        await asyncio.sleep(1)
        before = await turned_away(zombie)
        await freeze_in_a_batch(cluster, zombie)
        frozen_at = time.monotonic()
        await until(lambda: clusters.has_all(heir), SESSION_S + 5)
        taken_over_s = time.monotonic() - frozen_at
        await asyncio.sleep(SESSION_S)
    await until(lambda: nothing_is_behind(cluster), 30)
    zombie.process.thaw()

    async def is_turned_away() -> bool:
        return await turned_away(zombie) > before

    noticed_s = await until(is_turned_away, 20)
    measured("taken over", taken_over_s)
    measured("the zombie notices", noticed_s)
    await until(lambda: clusters.share_all(cluster), 30)
    await load.judged()


async def test_notification_at_three_receivers_at_once_has_one_effect(cluster: Cluster) -> None:
    third = cluster.another("ingest", "ingest-3")
    planner, now = planning.Planner(Random(time.time_ns())), datetime.now(UTC)
    account, paid = cluster.engine.world.account("demo-cn"), scenario_files.load_all()["paid"]
    courses = [planner.plan(paid, account, now=now, base_url="http://x")[0] for _ in range(40)]
    receivers = [*cluster.engine.receivers, third]
    async with roles.together([third]), ClientSession() as http:
        for course in courses:
            delivery = course.steps[0].job.notification.delivery(now)
            answers = await asyncio.gather(*(posted(http, role, delivery) for role in receivers))
            assert answers == [(200, b"success")] * 3
    await until(lambda: nothing_is_behind(cluster), 60)
    orders = [course.order for course in courses]
    found = "SELECT {} FROM deliveries WHERE order_number = ANY($1)"
    ends = {tuple(row) for row in await cluster.sql(found.format("order_number, disposition"), orders)}
    assert ends == {(order, end) for order in orders for end in ("applied", "duplicate")}
    assert await cluster.one(found.format("count(*)"), orders) == 3 * len(orders)
    states = await cluster.sql("SELECT order_number, status, version FROM orders WHERE order_number = ANY($1)", orders)
    assert sorted(map(tuple, states)) == sorted((order, "PAID", 1) for order in orders)
    tally.add(3 * len(orders))


async def posted(http: ClientSession, receiver: Role, delivery: SignedDelivery) -> tuple[int, bytes]:
    async with http.post(receiver.url + delivery.path, data=delivery.body, headers=dict(delivery.headers)) as answer:
        return answer.status, await answer.read()


async def test_registration_at_one_console_wakes_a_long_poll_at_another(cluster: Cluster, measured: Note) -> None:
    other = cluster.another("console", "console-2")
    public, world = cluster.engine.public_url, str(cluster.engine.world.directory)
    paid = ("--amount", "12.80", "--to", public, "--dir", world)
    async with roles.together([other]), ClientSession() as http:
        # Paid already, and then registered with another amount: the order is flagged, which is a version.
        await cluster.command("trigger", "paid", "--account", "demo-cn", "--order", "TWO-1", *paid)
        await until(lambda: version(http, other, "demo-cn/TWO-1"), 10)
        flagged_s = await woken_s(http, cluster.console, other, "demo-cn/TWO-1", version=1, amount="11.00")
        # Parked, because the order was not registered: now it is.
        await cluster.command("trigger", "paid", "--account", "demo-web", "--order", "TWO-2", *paid)
        await until(lambda: cluster.one("SELECT count(*) FROM held WHERE order_number = 'TWO-2'"), 10)
        released_s = await woken_s(http, cluster.console, other, "demo-web/TWO-2", version=0, amount="12.80")
    measured("woken by a registration", flagged_s)
    measured("woken by the parked notification", released_s)
    assert flagged_s < WOKEN_S
    assert released_s < WOKEN_S


async def version(http: ClientSession, console: Role, order: str) -> int:
    async with http.get(f"{console.admin_url}/api/orders/{order}") as answer:
        return int((await answer.json())["version"]) if answer.status == 200 else 0


async def woken_s(
    http: ClientSession, registering: Role, waiting: Role, order: str, *, version: int, amount: str
) -> float:
    """How long after a registration at one console a long poll at another is answered."""

    async def wait() -> dict[str, Any]:
        async with http.get(f"{waiting.admin_url}/api/orders/{order}?wait=20s&version={version}") as answer:
            page: dict[str, Any] = await answer.json()
            return page

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0.5)
    assert not waiter.done()
    began = time.monotonic()
    async with http.put(f"{registering.admin_url}/api/orders/{order}", json={"amount": amount}) as answer:
        assert answer.status in (200, 201), await answer.text()
    page = await waiter
    took = time.monotonic() - began
    assert page["version"] == version + 1
    return took


def resident(role: Role) -> int:
    return int(psutil.Process(role.process.pid).memory_info().rss)


async def all_ready(cluster: Cluster) -> bool:
    return all([await is_ready(role) for role in cluster.ours])


async def outbox_is_empty(cluster: Cluster) -> bool:
    return bool(await cluster.one("SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"))


async def nothing_is_behind(cluster: Cluster) -> bool:
    return await cluster.behind() == 0


async def is_gone(asked: Any, topic: str) -> bool:
    return topic not in await asked.list_topics()


async def turned_away(role: Role) -> float:
    """How often the group or the store refused a worker's results."""
    samples = await metrics(role)
    dropped = summed(samples, "alipay_notify_commits_dropped_total")
    return dropped + summed(samples, "alipay_notify_fenced_writes_total")


async def freeze_in_a_batch(cluster: Cluster, role: Role) -> None:
    """Freeze the process while the store works on a transaction of its; the store then waits for the rest of it."""
    stranger = await asyncpg.connect(cluster.dsn)
    try:
        async with stranger.transaction():
            await stranger.execute("LOCK TABLE deliveries IN SHARE MODE")
            await until(lambda: waits_for_a_lock(cluster, role), 10, every_s=0.01)
            role.process.freeze()
    finally:
        await stranger.close()


async def waits_for_a_lock(cluster: Cluster, role: Role) -> bool:
    waiting = await cluster.sql("SELECT client_port FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    own = {connection.laddr.port for connection in psutil.Process(role.process.pid).net_connections()}
    return any(row["client_port"] in own for row in waiting)
