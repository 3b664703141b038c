"""`alipay-notify ingest`: receive notifications over HTTP, verify them, append them to Kafka, acknowledge them.

A receiver depends on Kafka alone; Redis and the order store are never a reason to refuse a notification. If the brokers
are unreachable at the start, it starts anyway, is not ready and answers 503 until they are reachable. It refuses to
start only if the topic is seen to be less durable than `success` promises.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from deploy import process, start_errors, tracing
from deploy.authentication import Authenticator
from deploy.cluster import connections, kafka_admin
from deploy.cluster import topics as topics_
from deploy.cluster.client_log import ClientLog
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.topic_check import TopicWatch
from deploy.logs import LogWriter
from ingest import app as ingest_app
from ingest.http.server import Receiver
from ingest.kafka import producer
from ingest.kafka.publisher import Publisher
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from schemas import topics
from workers.admin import app
from workers.admin.probes import Check
from workers.admin.process_state import OwnProcess, ProcessRole
from workers.tail import Tail

LOG_SHARE = 5 / 6  # of the request deadline: the append's own deadline expires first, and its refusal has a reason


@asynccontextmanager
async def running(
    settings: ClusterSettings, log_writer: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[dict[str, str]]:
    """Run a receiver; yield the URLs of its ports by `public` and `admin`. On leaving it drains and closes.

    Raises:
        start_errors.REFUSALS: it cannot start.
    """
    receipt_keys = connections.receipt_keys_in_use(settings)
    config = process.read_config(settings, receipt_keys)
    connection = connections.kafka(settings)
    topic = topics.named(topics.NOTIFICATION, settings.topic_prefix)
    metrics = ReceiverMetrics(registry)
    watch = TopicWatch(
        lambda: kafka_admin.look(connection, [topic]),
        topics_.wanted(prefix=settings.topic_prefix, only=[topics.NOTIFICATION]),
        development=settings.development,
        every_s=settings.topics_look_interval_s,
        seen=lambda found: metrics.replicated({name: there.under_replicated for name, there in found.items()}),
    )
    await watch.check()
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(
            tracing.running(settings, log_writer, system="kafka", group=settings.group, prefix=settings.topic_prefix)
        )
        client_log = stack.enter_context(ClientLog())
        publisher = Publisher(
            build=producer.factory(
                connection, topic, client_id=connections.name("ingest"), idempotent=settings.kafka_idempotence
            ),
            observer=metrics,
            logger=log_writer,
            deadline_s=settings.request_deadline_s * LOG_SHARE,
            # Readiness alone is not enough, because a load balancer reads it only now and then.
            refuse_if=lambda: watch.trouble,
        )
        stack.push_async_callback(publisher.stop)
        await publisher.start()
        health = _ReceiverHealth(publisher, watch, client_log)
        readiness = process.with_accounts(config, health.checks)
        recent, tail = RecentRefusals(), Tail(now_ms=config.clock.epoch_ms)
        own = OwnProcess(
            identity=process.identity(ProcessRole.RECEIVER, config),
            readiness=readiness,
            registry=registry,
            tail=tail,
            refused=recent,
        )
        application = app.probes(
            own=own, readiness=readiness, registry=registry, log=log_writer, access=config.admin_access
        )
        admin_url = await process.serve_admin(stack, application, settings, log_writer)
        chores = (
            watch.run,
            process.reloading(config, settings, registry, log_writer),
            process.watching_clock(config, registry, log_writer),
        )
        await stack.enter_async_context(process.background_tasks(registry, readiness, log_writer, *chores))
        with start_errors.binding("public port", settings.host, settings.port, "port"):
            health.receiver = await stack.enter_async_context(
                ingest_app.serving(
                    settings=settings,
                    accounts=config.accounts,
                    log=publisher,
                    logger=log_writer,
                    metrics=metrics,
                    recent=recent,
                    viewers=tail,
                    clock=config.clock,
                    receipts=Authenticator(config.accounts, receipt_keys).receipt,
                    spans=traces,
                )
            )
        yield {"public": process.url(settings.host, health.receiver.port), "admin": admin_url}


class _ReceiverHealth:
    """The checks that a receiver must pass to be ready."""

    def __init__(self, publisher: Publisher, watch: TopicWatch, client_log: ClientLog) -> None:
        self.receiver: Receiver | None = None
        self._publisher = publisher
        self._watch = watch
        self._client_log = client_log

    async def checks(self) -> Sequence[Check]:
        return [
            process.accepting(self.receiver),
            process.check("kafka", self._client_log.explain(self._publisher.trouble)),
            process.check("topics", self._watch.trouble),
        ]
