"""Metrics, alerts and boards end to end: real processes of both engines, a real Prometheus and a real Alertmanager."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy import doctor_monitoring
from deploy.doctor import Finding, FindingState
from deploy.local.kafka.cluster import Kafka
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.monitoring.boards import rendering
from deploy.sandbox.world import World
from tests.acceptance import test_telemetry
from tests.support import monitored
from tests.support.cluster import Cluster
from tests.support.processes import Engine

ACCOUNT = "demo-cn"


@pytest.fixture(scope="module")
def cluster(local_kafka: Kafka, local_postgres: Postgres, local_redis: Redis) -> Iterator[Cluster]:
    with monitored.cluster(local_kafka, local_postgres, local_redis) as started:
        yield started


@pytest.fixture
def embedded(tmp_path: Path, world: World) -> Iterator[Engine]:
    """An embedded engine in which everything happens that is counted."""
    engine = test_telemetry.with_all_that_is_measured(world, tmp_path / "engine")
    engine.start()
    yield engine
    engine.end()


@pytest.fixture
def alertmanager(cluster: Cluster) -> str:
    assert cluster.engine.alertmanager is not None
    return cluster.engine.alertmanager.url


async def pay(cluster: Cluster, order: str) -> None:
    one = monitored.delivery(cluster.engine.world, "paid", ACCOUNT, order)
    assert await asyncio.to_thread(monitored.post, cluster.engine.public_url, one) == 200


async def test_metrics_have_no_fault_and_doctor_is_content(cluster: Cluster) -> None:
    promtool = await monitored.promtool(cluster)
    await pay(cluster, "A-0")
    assert cluster.engine.prometheus is not None
    url = cluster.engine.prometheus.url
    await monitored.eventually(lambda: is_good(doctor_monitoring.examine(url)), "doctor finds something")
    found = {role.name: monitored.metrics_fault(promtool, role.admin_url) for role in cluster.ours}
    assert set(found.values()) == {""}, found


def is_good(findings: Sequence[Finding]) -> bool:
    names = {finding.name for finding in findings if finding.state is FindingState.OK}
    return len(findings) == 3 and names == {"Prometheus", "alerts", "Alertmanager"}


async def test_three_alerts_are_seen_in_alertmanager_and_clear(
    cluster: Cluster, alertmanager: str, local_postgres: Postgres
) -> None:
    """A wrong amount first, because it needs PostgreSQL. The others go on side by side: receivers do not need it."""
    await quarantined_amount_alerts_until_it_is_decided(cluster, alertmanager)
    await asyncio.gather(
        stopped_traffic_alerts_until_it_goes_on(cluster, alertmanager),
        killed_postgres_alerts_until_it_is_back(alertmanager, local_postgres),
    )


async def quarantined_amount_alerts_until_it_is_decided(cluster: Cluster, alertmanager: str) -> None:
    console = cluster.console.admin_url
    # What the counter was before, else Prometheus sees no increase.
    await monitored.until_sampled(cluster, 'alipay_notify_held_total{job="worker",reason="amount_mismatch"} == 0')
    monitored.asked(f"{console}/api/orders/{ACCOUNT}/A-1", {"amount": "99.00", "currency": "CNY"}, "PUT")
    await pay(cluster, "A-1")
    await monitored.until_fires(alertmanager, "AmountMismatch", severity="critical", reason="amount_mismatch")
    (held,) = monitored.asked(f"{console}/api/held?order=A-1")["held"]
    monitored.asked(f"{console}/api/held/{held['id']}/discard", {"reason": "the wrong price"})
    await monitored.until_clears(alertmanager, "AmountMismatch")


async def stopped_traffic_alerts_until_it_goes_on(cluster: Cluster, alertmanager: str) -> None:
    for number in range(40):
        await pay(cluster, f"B-{number}")
        await asyncio.sleep(0.1)
    assert "NotificationsStopped" not in monitored.firing(alertmanager)
    # It compares the last moments with those of "last week", when these payments came.
    await monitored.until_fires(alertmanager, "NotificationsStopped", severity="critical")
    await pay(cluster, "B-40")
    await monitored.until_clears(alertmanager, "NotificationsStopped")


async def killed_postgres_alerts_until_it_is_back(alertmanager: str, postgres: Postgres) -> None:
    await postgres.process.kill()
    try:
        await monitored.until_fires(
            alertmanager, "DependencyDown", severity="critical", dependency="store", job="worker"
        )
    finally:
        await postgres.start_again()
    await monitored.until_clears(alertmanager, "DependencyDown")


async def test_every_query_of_every_board_has_a_result(cluster: Cluster, embedded: Engine, world: World) -> None:
    """While payments go on: a quantile or a share of nothing would be no number."""
    prometheus = cluster.engine.prometheus
    assert prometheus is not None
    jobs = {
        "ingest": [role.admin_address for role in cluster.engine.receivers],
        "worker": [role.admin_address for role in cluster.engine.workers],
        "console": [cluster.console.admin_address],
        "alipay-notify": [embedded.admin.removeprefix("http://")],
    }
    prometheus.scrape(jobs)
    assert monitored.metrics_fault(await monitored.promtool(cluster), embedded.admin) == ""
    await asyncio.to_thread(test_telemetry.live, embedded, world)
    open_ = {query.text for board in rendering.BOARDS for panel in board.panels() for query in panel.queries}
    assert len(open_) > 60
    deadline = time.monotonic() + monitored.WITHIN_S
    number = 0
    while open_ and time.monotonic() < deadline:
        number += 1
        await pay(cluster, f"Q-{number}")
        await asyncio.to_thread(
            monitored.post, embedded.public, monitored.delivery(world, "paid", "demo-app", f"Q-{number}")
        )
        open_ -= {query for query in open_ if await asyncio.to_thread(has_a_number, prometheus.url, query)}
    assert open_ == set()


def has_a_number(url: str, text: str) -> bool:
    """Whether the query has a series whose value is a number, with Grafana's variables replaced."""
    for variable, value in {"$job": ".+", "$instance": ".+", "$__rate_interval": "1m"}.items():
        text = text.replace(variable, value)
    return any(not math.isnan(float(series["value"][1])) for series in monitored.query(url, text))
