"""`alipay-notify worker`: records from Kafka to their dispositions in the order store, and events back to Kafka.

Composition, in the order in which things need each other: the store, the locks, the ends at Kafka, the loops. It ends
in the reverse order: the batch in hand is finished, its events are sent, the group is left, so that others take the
partitions over at once, and what this worker led is handed on.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry

from deploy import accounts_file, process
from deploy.authentication import Authenticator, believing_the_log, keep_keys
from deploy.cluster import connections, housekeeping, settings
from deploy.cluster.settings import ClusterSettings
from deploy.embedded.locks import LocalLocks
from deploy.logs import LogWriter
from ingest.clock import SystemClock
from ingest.keys import Rings
from schemas import topics
from schemas.telemetry import Field
from workers import app as workers_app
from workers import metrics
from workers.admin import app
from workers.admin.probes import Check, Readiness
from workers.app import Worker
from workers.kafka import clients
from workers.kafka.events import KafkaEvents
from workers.kafka.source import KafkaSource
from workers.kafka.telemetry import GroupTelemetry
from workers.locks import IdempotencyLocks
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.postgres.store import PostgresOrderStore
from workers.redis import clients as redis_clients
from workers.redis.locks import RedisLocks, spread

BELIEVES_LOG = (
    "whoever may write to the log can say for this account that Alipay confirmed a notification: "
    "give all processes one ALIPAY_NOTIFY_RECEIPT_KEY_FILE"
)


@asynccontextmanager
async def running(
    told: ClusterSettings, lines: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[dict[str, str]]:
    """A worker at work; what is given is where its admin port is.

    Raises:
        refusals.REFUSALS: it cannot be started as told.
    """
    clock = SystemClock()
    accounts = accounts_file.read(told.accounts)
    rings = Rings(accounts, told.accounts.parent)
    token = process.admin_token(told)
    connection, name = connections.kafka(told), connections.name("worker")
    receipt_keys = connections.receipt_keys(told)
    for account in believing_the_log(accounts.values(), receipt_keys):
        lines.warning(BELIEVES_LOG, **{Field.ACCOUNT: account})
    async with AsyncExitStack() as stack:
        store = await PostgresOrderStore.open(settings.postgres_address(told), holder=name, now_ms=clock.epoch_ms)
        stack.push_async_callback(store.close)
        locks = await _locks(told, stack)
        counted = metrics.WorkerMetrics(registry, accounts, now_ms=clock.epoch_ms)
        events = KafkaEvents(
            lambda: clients.producer(connection, client_id=name),
            named=lambda topic: topics.named(topic, told.topic_prefix),
        )
        stack.push_async_callback(events.stop)
        source = KafkaSource(
            lambda: clients.consumer(connection, group=told.group, client_id=name, session_s=told.kafka_session_s),
            topic=topics.named(topics.NOTIFICATION, told.topic_prefix),
            last_settled=store.last_settled,
            all_settled=store.all_settled,
            observer=GroupTelemetry(registry, group=told.group, logger=lines),
            accept_loss=told.accept_log_loss,
        )
        stack.push_async_callback(source.stop)
        worker = await stack.enter_async_context(
            workers_app.working(
                accounts=accounts,
                authenticate=Authenticator(rings, receipt_keys).authenticate,
                source=source,
                store=store,
                locks=locks,
                events=events,
                woken=store.woken,
                observer=Observers(
                    metrics=counted, log=WorkerLog(lines, sample=told.log_sample), changes=OrderChanges()
                ),
                logger=lines,
                token=name.encode(),
                now_ms=clock.epoch_ms,
                leads=store.leadership.leads,
                are_settled=store.are_settled,
            )
        )
        health = _health(store, source, events, worker)
        application = app.probes(readiness=health, registry=registry, log=lines, token=token)
        admin_url = await process.serve_admin(stack, application, told, lines)
        chores = (
            partial(counted.keep_fresh, store),
            partial(housekeeping.watch_lag, source, counted, group=told.group),
            partial(housekeeping.prune, store, clock.epoch_ms),
            partial(keep_keys, rings, accounts, lines, interval_s=told.key_reload_interval_s),
        )
        await stack.enter_async_context(process.background_tasks(registry, health, lines, *chores))
        yield {"admin": admin_url}


async def _locks(told: ClusterSettings, stack: AsyncExitStack) -> IdempotencyLocks:
    """Redis, or locks of this process alone."""
    address = settings.redis_address(told)
    if address is None:
        return LocalLocks()
    try:
        client = redis_clients.connect(address)
        locks = RedisLocks(client, slot_of=spread) if redis_clients.is_cluster(address) else RedisLocks(client)
    except ValueError as error:
        raise settings.UnreadableFile(str(error)) from None
    stack.push_async_callback(locks.close)
    return locks


def _health(store: PostgresOrderStore, source: KafkaSource, events: KafkaEvents, worker: Worker) -> Readiness:
    """An event topic that is away keeps no order from its changes, so it is no reason to be unready."""

    async def checks() -> Sequence[Check]:
        return [
            process.check("kafka", source.trouble),
            process.check("store", store.trouble),
            process.check("worker", worker.trouble),
            process.check("events", events.trouble, is_needed=False),
        ]

    return checks
