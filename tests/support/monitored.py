"""A cluster engine that a real Prometheus scrapes, with the shipped rules and a real Alertmanager.

Its rules are rendered from the shipped ones' table with shorter durations. Expressions, thresholds and labels are the
same.
"""

import asyncio
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from deploy.local import programs
from deploy.local.engine import EngineSpec
from deploy.local.kafka.cluster import Kafka
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.monitoring import alerts, files, objectives, rules
from deploy.monitoring.durations import Timing
from deploy.sandbox import planning, scenario_files
from deploy.sandbox.notifications import SignedDelivery
from deploy.sandbox.world import World
from tests.support import cluster as clusters
from tests.support.cluster import Cluster

WISHED = EngineSpec(receivers=1, workers=1, console=True, prometheus=True)
# Minutes become seconds, and a week 20 seconds. A window holds five scrapes.
TIMING = Timing(divisor=60, offset_divisor=30_240, window_min_s=10)
WITHIN_S = 90.0  # Prometheus scrapes every two seconds; a busy machine takes longer


def shorter_rules() -> dict[str, str]:
    """The shipped rules with shorter durations, by file name."""
    return {
        files.RECORDINGS.name: rules.yaml(objectives.recordings(), timing=TIMING),
        files.ALERTS.name: rules.yaml(alerts.groups(), timing=TIMING),
    }


@contextmanager
def cluster(kafka: Kafka, postgres: Postgres, redis: Redis) -> Iterator[Cluster]:
    """The engine, for the tests of a module."""
    with clusters.of_a_module(WISHED, kafka=kafka, postgres=postgres, redis=redis, rules=shorter_rules()) as started:
        yield started


def delivery(world: World, name: str, account: str, order: str) -> SignedDelivery:
    """The first notification of a scenario, at this moment."""
    (course, *_) = planning.Planner(Random(1)).plan(
        scenario_files.load_all()[name],
        world.account(account),
        now=datetime.now(UTC),
        base_url="http://127.0.0.1:1",
        wishes=planning.Wishes(order=order),
    )
    return course.steps[0].job.notification.delivery(datetime.now(UTC))


def post(public_url: str, one: SignedDelivery) -> int:
    """Send it as Alipay does; return the status."""
    address = urlsplit(public_url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.request("POST", one.path, one.body, dict(one.headers))
        return connection.getresponse().status
    finally:
        connection.close()


def asked(url: str, body: Mapping[str, object] | None = None, method: str = "") -> Any:
    """The JSON answer of an API."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(
        url, data=data, method=method or ("POST" if data else "GET"), headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """The series of an instant query."""
    answer = asked(f"{prometheus}/api/v1/query?query={quote(expression)}")
    assert answer["status"] == "success"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def firing(alertmanager: str) -> dict[str, list[dict[str, str]]]:
    """The labels of the alerts that Alertmanager has now, by name."""
    found: dict[str, list[dict[str, str]]] = {}
    for alert in asked(f"{alertmanager}/api/v2/alerts?active=true"):
        name = alert["labels"]["alertname"].removeprefix(rules.PREFIX)
        found.setdefault(name, []).append(alert["labels"])
    return found


async def until_sampled(cluster: Cluster, expression: str) -> None:
    """Return when the query has a result."""
    assert cluster.engine.prometheus is not None
    url = cluster.engine.prometheus.url
    await eventually(lambda: query(url, expression) != [], f"no result: {expression}")


async def until_fires(alertmanager: str, name: str, **labels: str) -> None:
    """Return when Alertmanager has the alert with these labels."""

    def fires() -> bool:
        return any(labels.items() <= each.items() for each in firing(alertmanager).get(name, []))

    await eventually(fires, f"{name} does not fire")


async def until_clears(alertmanager: str, name: str) -> None:
    """Return when Alertmanager does not have the alert any more."""
    await eventually(lambda: name not in firing(alertmanager), f"{name} does not clear")


async def eventually(condition: Callable[[], bool], message: str) -> None:
    """Ask again and again, in a thread, until the condition holds."""
    deadline = time.monotonic() + WITHIN_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, message
        await asyncio.sleep(0.3)


async def promtool(cluster: Cluster) -> Path:
    """The program, which comes with Prometheus."""
    return (await cluster.machine.find(programs.PROMETHEUS)).with_name("promtool")


def metrics_fault(promtool: Path, admin_url: str) -> str:
    """Return what `promtool check metrics` says about a process's /metrics; empty if nothing."""
    with urlopen(f"{admin_url}/metrics", timeout=30) as answer:
        text: bytes = answer.read()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode()
