"""Traces of a running engine, as a collector gets them: from the request to the order event, and nothing in its way."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from deploy.sandbox.world import World
from tests.acceptance.conftest import NOTIFY_BASE
from tests.acceptance.test_up import deliveries, post, state
from tests.support.collector import Collector, collecting, connected
from tests.support.processes import Engine, eventually

ALL = {"ALIPAY_NOTIFY_TRACES": "true", "OTEL_TRACES_SAMPLER": "always_on", "OTEL_BSP_SCHEDULE_DELAY": "100"}
WITHIN_S = 60.0
FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for both tests: its keys take a second."""
    directory = tmp_path_factory.mktemp("traces") / "world"
    return World.create(directory, gateway_url=NOTIFY_BASE, notify_base=NOTIFY_BASE)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def traced(world: World, directory: Path, collector: Collector, **more: str) -> Engine:
    return Engine(world.accounts_file, directory, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, **ALL, **more)


def lines(engine: Engine, event: str) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in engine.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in found if line["event"] == event]


def openmetrics(engine: Engine) -> str:
    with urlopen(Request(f"{engine.admin}/metrics", headers={"Accept": "application/openmetrics-text"})) as answer:
        text: str = answer.read().decode()
        return text


def test_trace_leads_from_the_request_to_the_order_event(tmp_path: Path, world: World, collector: Collector) -> None:
    (paid,) = deliveries(world, "paid", "demo-cn", "TR-1")
    with traced(world, tmp_path / "engine", collector) as engine:
        headers = dict(paid.headers) | {"traceparent": FOREIGN}
        address = urlsplit(engine.public)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        connection.request("POST", paid.path, paid.body, headers)
        assert connection.getresponse().read() == b"success"
        connection.close()
        eventually(lambda: state(engine, "demo-cn", "TR-1").get("status") == "PAID", within_s=WITHIN_S)
        eventually(lambda: collector.named("send payments.order.event.v1"), within_s=WITHIN_S)
        shown = openmetrics(engine)
        plain = urlopen(f"{engine.admin}/metrics").read().decode()
        assert engine.stop() == 0

    (request,) = collector.named("send payments.alipay.notification.v1")
    (batch,) = collector.named("process payments.alipay.notification.v1")
    (event,) = collector.named("send payments.order.event.v1")
    assert [each.kind for each in (request, batch, event)] == ["PRODUCER", "CONSUMER", "PRODUCER"]
    assert (request.parent, batch.links, event.parent) == ("", (request.span_id,), batch.span_id)
    assert {"read", "decide", "apply", "commit payments.alipay.notification.v1"} <= {
        each.name for each in collector.spans if each.parent == batch.span_id
    }
    assert len(connected(collector.spans, request)) == len(collector.spans)
    assert {each.service for each in collector.spans} == {"alipay-notify-up"}
    assert FOREIGN[3:35] not in {each.trace_id for each in collector.spans}
    assert batch.attributes["messaging.batch.message_count"] == 1
    assert request.attributes["alipay.notify_id"]
    texts = json.dumps([[each.name, *map(str, each.attributes.values())] for each in collector.spans])
    assert not re.search("TR-1|buyer|2088", texts.replace(str(request.attributes["alipay.notify_id"]), ""))

    (received,), (settled,) = lines(engine, "notification"), lines(engine, "settled")
    assert (received["trace_id"], received["span_id"]) == (request.trace_id, request.span_id)
    assert (settled["trace_id"], settled["span_id"]) == (batch.trace_id, batch.span_id)
    exemplars = dict(re.findall(r'^(\w+)_bucket\{.* # \{trace_id="(\w+)"\}', shown, re.MULTILINE))
    assert exemplars == {
        "http_server_request_duration_seconds": request.trace_id,
        "alipay_notify_end_to_end_duration_seconds": event.trace_id,
    }
    assert "trace_id" not in plain


def test_collector_that_answers_nothing_delays_nothing(tmp_path: Path, world: World, collector: Collector) -> None:
    collector.may_answer.clear()
    with traced(world, tmp_path / "engine", collector) as engine:
        for account in ("demo-cn", "demo-app"):
            (paid,) = deliveries(world, "paid", account, "TR-2")
            assert post(engine, paid)[0] == 200
            eventually(
                lambda account=account: state(engine, account, "TR-2").get("status") == "PAID", within_s=WITHIN_S
            )
        eventually(lambda: collector.requests, within_s=WITHIN_S)
        assert engine.stop(WITHIN_S) == 0
