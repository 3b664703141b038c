"""Two workers of a cluster, of which the leader asks: the answer goes through Kafka, and counts once."""

import secrets
import time as clock
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.cluster import kafka_admin, settings, topics, worker
from deploy.cluster.settings import ClusterSettings
from deploy.local.kafka.cluster import Kafka
from deploy.logs import LogWriter
from deploy.sandbox import server
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.planning import Wishes
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from ingest.checkout import requests
from schemas.money import Money
from tests.contract.engines import Cluster
from tests.support.cluster import until
from tests.support.log_records import Time
from workers.postgres.store import PostgresOrderStore
from workers.settlement import decision
from workers.settlement.plan import Registration

ASKING = [one for one in IDENTITIES if one.name in ("demo-web", "demo-antom")]  # the shop is one of every world
WITHIN_S = 120.0


@pytest.fixture
async def configured(local_kafka: Kafka, cluster: Cluster, tmp_path: Path) -> AsyncIterator[ClusterSettings]:
    """Topics, a schema and a group of their own; workers ask after a second."""
    prefix = f"t{secrets.token_hex(6)}"
    await cluster.prepare()
    async with kafka_admin.connected({"bootstrap_servers": local_kafka.bootstrap}) as admin:
        for topic in topics.wanted(prefix=prefix, development=True):
            await admin.create(topic)
    key = tmp_path / "receipt.key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    yield settings.load(
        {}, accounts=tmp_path / "world" / "merchant" / "accounts.toml", kafka=local_kafka.bootstrap,
        postgres=cluster.url, topic_prefix=prefix, group=prefix, development=True, admin_port=0, receipt_key_file=key,
        query_after_s=1,
    )  # fmt: skip
    await cluster.close()


async def sold(store: PostgresOrderStore, account: str) -> None:
    registration = Registration(amounts=(Money(1280, "USD"),))
    await store.register(
        account,
        "K-1",
        (),
        lambda known: decision.register(known, account, "K-1", registration, now_ms=round(clock.time() * 1000)),
        by="tests",
        why="sold",
    )


async def test_lost_notification_is_asked_for_by_the_leader_and_settled_from_the_topic(
    configured: ClusterSettings, cluster: Cluster, time: Time, tmp_path: Path
) -> None:
    time.now_ms = round(clock.time() * 1000)
    sock = server.listening("127.0.0.1", 0)
    world = World.create(
        tmp_path / "world", gateway_url=server.url_of(sock), notify_base="http://127.0.0.1:1", identities=ASKING,
        queries=True,
    )  # fmt: skip
    sandbox = SandboxServer(
        world, sock=sock, admin_url="http://127.0.0.1:1", request_url=requests.redirect_url, drop=1.0
    )
    registries = [CollectorRegistry(), CollectorRegistry()]

    def count(name: str, account: str, **labels: str) -> list[float]:
        found = [each.get_sample_value(f"{name}_total", {"account": account, **labels}) for each in registries]
        return sorted(value or 0.0 for value in found)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sandbox)
        store = await stack.enter_async_context(cluster.store())
        for registry in registries:
            log_writer = LogWriter(StringIO(), service="worker")
            await stack.enter_async_context(worker.running(configured, log_writer, registry))
        for account in ("demo-web", "demo-antom"):
            await sandbox.play("paid", account, wishes=Wishes(order="K-1"))
            await sold(store, account)

        async def are_paid() -> bool:
            pages = [await store.order_page(account, "K-1") for account in ("demo-web", "demo-antom")]
            return all(
                page is not None and page.view is not None and page.view.status in ("PAID", "FINISHED")
                for page in pages
            )

        await until(are_paid, WITHIN_S, every_s=0.2)
        for account in ("demo-web", "demo-antom"):
            page = await store.order_page(account, "K-1")
            assert page is not None
            assert [each.type in ("single_trade_query", "inquiryPayment") for each in page.deliveries] == [True]
            await until(lambda name=account: sum(count("alipay_notify_recovered", name)) == 1, WITHIN_S)  # type: ignore[misc]
            assert count("alipay_notify_questions", account, outcome="news") == [0.0, 1.0], "one worker asks, once"
