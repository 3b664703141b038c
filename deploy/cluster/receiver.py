"""`alipay-notify ingest`: notifications over HTTP, verified, appended to Kafka, acknowledged.

It needs Kafka and nothing else: neither Redis nor the order store is ever a reason to turn a notification away. Where
the brokers cannot be reached at the start, it comes up all the same, is not ready, answers 503, and is ready as soon as
they are; but topics that were seen to be too weak for what `success` promises refuse the start.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from deploy import accounts_file, process, start_errors
from deploy.authentication import Authenticator
from deploy.cluster import connections, kafka_admin
from deploy.cluster import topics as topics_
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.topic_check import Watched
from deploy.logs import LogWriter
from ingest import app as ingest_app
from ingest.clock import SystemClock
from ingest.errors import Unavailable
from ingest.http.server import Receiver
from ingest.kafka import producer
from ingest.kafka.publisher import Publisher
from ingest.keys import Rings
from ingest.metrics import ReceiverMetrics
from ingest.receive import Log
from ingest.recent_refusals import RecentRefusals
from schemas import topics
from schemas.record_format import Record
from workers.admin import app
from workers.admin.probes import Check

LOG_SHARE = 5 / 6  # of the whole answer's time: the log's own deadline passes first, and its refusal says why


class StrongLog:
    """The log, as long as its topic is as strong as `success` promises. A load balancer's probe is asked now and then;
    this is asked for every notification."""

    def __init__(self, log: Log, strength: Watched) -> None:
        self._log = log
        self._strength = strength

    async def append(self, record: Record) -> None:
        """When this returns, the record is as durable as promised.

        Raises:
            Unavailable: the topic is too weak, or was not seen yet; or the log does not take it.
        """
        if self._strength.trouble is not None:
            raise Unavailable(self._strength.trouble)
        await self._log.append(record)


@asynccontextmanager
async def running(
    settings: ClusterSettings, lines: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[dict[str, str]]:
    """A receiver that serves; what is given is where its ports are. On leaving it drains and closes.

    Raises:
        refusals.REFUSALS: it cannot be started as told.
    """
    clock = SystemClock()
    accounts = accounts_file.read(settings.accounts)
    rings = Rings(accounts, settings.accounts.parent)
    token = process.admin_token(settings)
    connection = connections.kafka(settings)
    topic = topics.named(topics.NOTIFICATION, settings.topic_prefix)
    strength = Watched(
        lambda: kafka_admin.look(connection, [topic]),
        topics_.wanted(prefix=settings.topic_prefix, only=[topics.NOTIFICATION]),
        development=settings.development,
        every_s=settings.topics_look_interval_s,
    )
    await strength.check()
    async with AsyncExitStack() as stack:
        metrics = ReceiverMetrics(registry, accounts)
        publisher = Publisher(
            build=producer.factory(
                connection, topic, client_id=connections.name("ingest"), idempotent=settings.kafka_idempotence
            ),
            observer=metrics,
            logger=lines,
            deadline_s=settings.request_deadline_s * LOG_SHARE,
        )
        stack.push_async_callback(publisher.stop)
        await publisher.start()
        health = _ReceiverHealth(publisher, strength)
        application = app.probes(readiness=health.checks, registry=registry, log=lines, token=token)
        admin_url = await process.serve_admin(stack, application, settings, lines)
        await stack.enter_async_context(process.background_tasks(registry, health.checks, lines, strength.run))
        with start_errors.binding("public port", settings.host, settings.port, "port"):
            health.receiver = await stack.enter_async_context(
                ingest_app.serving(
                    settings=settings,
                    accounts=accounts,
                    rings=rings,
                    log=StrongLog(publisher, strength),
                    logger=lines,
                    metrics=metrics,
                    recent=RecentRefusals(),
                    clock=clock,
                    receipts=Authenticator(rings, connections.receipt_keys(settings)).receipt,
                )
            )
        public_url = process.url(settings.host, health.receiver.port)
        yield {"public": public_url, "admin": admin_url}


class _ReceiverHealth:
    """What has to be so for the receiver to take notifications."""

    def __init__(self, publisher: Publisher, strength: Watched) -> None:
        self.receiver: Receiver | None = None
        self._publisher = publisher
        self._strength = strength

    async def checks(self) -> Sequence[Check]:
        return [
            process.accepting(self.receiver),
            process.check("kafka", self._publisher.trouble),
            process.check("topics", self._strength.trouble),
        ]
