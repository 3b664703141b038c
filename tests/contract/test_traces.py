"""A trace over a real Kafka: one connected graph from the request to the order event that consumers read."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from random import Random

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from deploy import tracing
from deploy.cluster import kafka_admin, receiver, settings, topics, worker
from deploy.cluster.settings import ClusterSettings
from deploy.local.kafka.cluster import Kafka
from deploy.logs import LogWriter
from deploy.sandbox import planning, scenario_files
from deploy.sandbox.notifications import SignedDelivery
from deploy.sandbox.world import World
from deploy.spans import Places, ProcessTraces
from schemas import topics as names
from schemas import trace_context
from tests.contract.engines import Cluster
from tests.support.cluster import until
from tests.support.collector import Seen, connected, in_memory

WITHIN_S = 120.0


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where both processes export their spans, each with traces of its own."""
    exporter = InMemorySpanExporter()

    def begin(log_writer: LogWriter, *, system: str, group: str, prefix: str) -> ProcessTraces:
        places = Places(system=system, group=group, prefix=prefix)
        processor = SimpleSpanProcessor(exporter)
        return ProcessTraces(processor, ratio=1.0, places=places, service=log_writer.service, version="1")

    monkeypatch.setattr(tracing, "_begin", begin)
    return exporter


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path / "world", gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


@pytest.fixture
async def configured(local_kafka: Kafka, cluster: Cluster, world: World) -> AsyncIterator[ClusterSettings]:
    """Topics, a schema and a group of their own."""
    prefix = f"t{secrets.token_hex(6)}"
    await cluster.prepare()
    async with kafka_admin.connected({"bootstrap_servers": local_kafka.bootstrap}) as admin:
        for topic in topics.wanted(prefix=prefix, development=True):
            await admin.create(topic)
    yield settings.load(
        {}, accounts=world.accounts_file, kafka=local_kafka.bootstrap, postgres=cluster.url, topic_prefix=prefix,
        group=prefix, development=True, host="127.0.0.1", port=0, admin_port=0, drain_delay_s=0.0, traces=True,
    )  # fmt: skip
    await cluster.close()


def payment(world: World) -> SignedDelivery:
    (course, *_) = planning.Planner(Random(1)).plan(
        scenario_files.load_all()["paid"],
        world.account("demo-cn"),
        now=datetime.now(UTC),
        base_url="http://127.0.0.1:1",
        wishes=planning.Wishes(order="TR-1"),
    )
    return course.steps[0].job.notification.delivery(datetime.now(UTC))


async def accepted(url: str, delivery: SignedDelivery) -> bool:
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url + delivery.path, data=delivery.body, headers=dict(delivery.headers))
        return answer.status == 200


async def headers_of_the_event(told: ClusterSettings) -> tuple[tuple[str, bytes], ...]:
    reader = AIOKafkaConsumer(
        names.named(names.ORDER_EVENT, told.topic_prefix), bootstrap_servers=told.kafka, auto_offset_reset="earliest"
    )
    await reader.start()
    try:
        async with asyncio.timeout(WITHIN_S):
            return tuple((await reader.getone()).headers)
    finally:
        await reader.stop()


async def test_trace_leads_from_the_request_over_kafka_to_the_event_of_consumers(
    configured: ClusterSettings, exporter: InMemorySpanExporter, world: World
) -> None:
    delivery, prefix = payment(world), configured.topic_prefix

    def named(name: str) -> list[Seen]:
        return [seen for span in exporter.get_finished_spans() if (seen := in_memory(span)).name == name]

    async with AsyncExitStack() as stack:
        for process in (worker.running, receiver.running):
            service = process.__module__.rpartition(".")[2]
            log_writer = LogWriter(StringIO(), service=service)
            where = await stack.enter_async_context(process(configured, log_writer, CollectorRegistry()))
        await until(lambda: accepted(where["public"], delivery), WITHIN_S, every_s=0.2)
        await until(lambda: named(f"send {prefix}.order.event.v1"), WITHIN_S)
        # The first process that stops ends the exporter for both, and the event may be sent before the batch is over.
        await until(lambda: named(f"process {prefix}.alipay.notification.v1"), WITHIN_S)
        written = trace_context.of(await headers_of_the_event(configured))
    spans = [in_memory(span) for span in exporter.get_finished_spans()]
    (event,) = named(f"send {prefix}.order.event.v1")
    (batch,) = (span for span in spans if span.span_id == event.parent)
    (request,) = (span for span in spans if span.span_id in batch.links)
    assert [span.name for span in (request, batch)] == [
        f"send {prefix}.alipay.notification.v1", f"process {prefix}.alipay.notification.v1"
    ]  # fmt: skip
    assert [span.service for span in (request, batch, event)] == ["receiver", "worker", "worker"]
    assert {"claim", "read", "decide", "apply", "release", f"commit {prefix}.alipay.notification.v1"} == {
        span.name for span in spans if span.parent == batch.span_id and span is not event and span.kind != "PRODUCER"
    }
    assert event in connected(spans, request)
    assert written is not None
    assert (written.trace_id, written.span_id) == (event.trace_id, event.span_id)
    assert {span.attributes["messaging.system"] for span in (request, batch, event)} == {"kafka"}
    assert batch.attributes["messaging.consumer.group.name"] == prefix
