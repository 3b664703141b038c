"""`alipay-notify worker`: process records from Kafka into the order store, and publish order events to Kafka.

The parts are started in the order of their dependencies: store, locks, event producer, consumer, loops, admin port. On
a stop the worker finishes its batch, sends the events, and leaves the consumer group, so that other workers take over
its partitions at once (`deploy.process` has the whole order). If its consumer fails, it leaves the group at once, and
the process ends with an exit code of its own, so that its service manager starts a fresh one.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry

from deploy import asking, callbacks, process, tracing
from deploy.authentication import Authenticator, FilesInUse, forgeable_confirmations
from deploy.callbacks_file import CallbacksFile
from deploy.cluster import callback_store, connections, housekeeping
from deploy.cluster.client_log import ClientLog
from deploy.cluster.settings import ClusterSettings, UnreadableFile, redis_address, rotating_postgres_address
from deploy.embedded.locks import LocalLocks
from deploy.logs import LogWriter
from deploy.process import Chore
from ingest.accounts_in_use import AccountsChange
from schemas import telemetry, topics
from schemas.telemetry import Field
from workers import app as workers_app
from workers import erasure, metrics
from workers.admin import app
from workers.admin.held_amounts import HeldAmounts
from workers.admin.money_at_risk import MoneyAtRisk
from workers.admin.probes import Check, Readiness
from workers.admin.process_state import OwnProcess, ProcessRole
from workers.app import Worker
from workers.kafka import clients
from workers.kafka.appending import KafkaAppending
from workers.kafka.events import KafkaEvents
from workers.kafka.source import KafkaSource
from workers.kafka.telemetry import GroupTelemetry
from workers.key_uses import KeyUses
from workers.learnt_accounts import LearntAccounts
from workers.locks import IdempotencyLocks
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.postgres.clock import DatabaseClock
from workers.postgres.erasure import PostgresErasure
from workers.postgres.fatal_records import PostgresBegunNotes
from workers.postgres.key_uses import PostgresKeyUses
from workers.postgres.leadership import ASK_EVERY_S
from workers.postgres.store import PostgresOrderStore
from workers.postgres.wake_listener import WakeListener
from workers.redis import clients as redis_clients
from workers.redis.locks import RedisLocks, spread
from workers.restarts import LoopName
from workers.tail import Tail
from workers.traces import NOT_TRACED

ASIDE_S = 3 * ASK_EVERY_S  # each other worker has asked for the lease by then

FORGEABLE = (
    "this account uses notify_verify or queries, but no receipt key is set: anyone who can write to the topic can fake "
    "a confirmation; set ALIPAY_NOTIFY_RECEIPT_KEY_FILE to the same file on all processes"
)


@asynccontextmanager
async def running(
    settings: ClusterSettings, log_writer: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[dict[str, str]]:
    """Run a worker; yield the URL of its admin port by `admin`.

    Raises:
        start_errors.REFUSALS: it cannot start.
        StoppedItself: its consumer has failed.
    """
    receipt_keys = connections.receipt_keys_in_use(settings)
    config = process.read_config(settings, receipt_keys)
    callbacks_file = callbacks.read_file(settings)
    accounts = config.accounts
    connection, name = connections.kafka(settings), connections.name("worker")
    clock = DatabaseClock()
    now_ms = clock.epoch_ms
    authenticator = Authenticator(accounts, receipt_keys, clock=clock)

    def warn(change: AccountsChange) -> None:
        for account in forgeable_confirmations((accounts[name] for name in change.learnt), receipt_keys):
            log_writer.warning(FORGEABLE, **{Field.ACCOUNT: account})

    accounts.watch(warn)
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(
            tracing.running(settings, log_writer, system="kafka", group=settings.group, prefix=settings.topic_prefix)
        )
        client_log = stack.enter_context(ClientLog())
        store = await PostgresOrderStore.open(rotating_postgres_address(settings), holder=name, clock=clock)
        stack.push_async_callback(store.close)
        locks = await _locks(settings, stack)
        worker_metrics = metrics.WorkerMetrics(registry, accounts, now_ms=now_ms)
        worker_log = WorkerLog(log_writer, sample=settings.log_sample)
        key_uses = KeyUses(PostgresKeyUses(store.database, store.reads), accounts.has_key)
        stack.push_async_callback(key_uses.write_last)
        tail = Tail(now_ms=now_ms)
        events, notices = [
            KafkaEvents(
                lambda: clients.producer(connection, client_id=name),
                named=lambda topic: topics.named(topic, settings.topic_prefix),
                names=settings.event_names,
            )
            for _ in range(2)
        ]
        stack.push_async_callback(events.stop)
        stack.push_async_callback(notices.stop)
        source = KafkaSource(
            lambda: clients.consumer(
                connection, group=settings.group, client_id=name, session_s=settings.kafka_session_s
            ),
            topic=topics.named(topics.NOTIFICATION, settings.topic_prefix),
            last_settled=store.last_settled,
            all_settled=store.all_settled,
            observer=GroupTelemetry(registry, group=settings.group, logger=log_writer),
            accept_loss=settings.accept_log_loss,
        )
        stack.push_async_callback(source.stop)
        worker = await stack.enter_async_context(
            workers_app.working(
                accounts=accounts,
                authenticate=authenticator.authenticate,
                files=FilesInUse(authenticator, config.reloader),
                source=source,
                store=store,
                locks=locks,
                events=events,
                notices=notices,
                woken=store.woken,
                observer=Observers(
                    metrics=worker_metrics,
                    log=worker_log,
                    changes=OrderChanges(),
                    key_uses=key_uses,
                    tail=tail,
                    tracing=traces or NOT_TRACED,
                ),
                token=name.encode(),
                now_ms=now_ms,
                let_go=partial(_let_go, source, store),
                is_consumer_restarted=False,
                begun=PostgresBegunNotes(store.database, holder=name),
                handling_limit_s=settings.handling_limit_s,
                leads=store.leadership.leads,
                are_settled=store.are_settled,
                tracing=traces or NOT_TRACED,
            )
        )
        learnt = LearntAccounts(accounts, store)
        accounts.watch(lambda change: learnt.learn(change.learnt))
        receipt_keys.watch(lambda: learnt.learn(accounts))
        health = process.with_accounts(
            config, _health(store, source, events, notices, worker, client_log, callbacks_file)
        )
        own = OwnProcess(
            identity=process.identity(ProcessRole.WORKER, config),
            readiness=health,
            registry=registry,
            tail=tail,
            has_failed=worker.has_stopped.is_set,
        )
        application = app.probes(
            own=own, readiness=health, registry=registry, log=log_writer, access=config.admin_access
        )
        admin_url = await process.serve_admin(stack, application, settings, log_writer)
        at_risk = MoneyAtRisk(
            amounts=HeldAmounts(accounts=accounts, held=store, time_limit=worker.time_limit),
            accounts=accounts,
            registry=registry,
            now_ms=now_ms,
            leads=lambda: store.leadership.is_leading,
        )
        appending = KafkaAppending(
            lambda: clients.producer(connection, client_id=name),
            topic=topics.named(topics.NOTIFICATION, settings.topic_prefix),
        )
        stack.push_async_callback(appending.stop)
        sending: Sequence[Chore]
        if callbacks_file is None:
            deliveries, candidacy = callback_store.without_endpoints(stack, store, holder=name)
            sending = (
                partial(callbacks.note_none, deliveries, logger=log_writer, now_ms=now_ms, leads=candidacy.leads),
            )
        else:
            deliveries, candidacy = await callback_store.opened(stack, settings, holder=name)
            sending = await callbacks.chores(
                stack,
                callbacks_file,
                settings,
                store=deliveries,
                registry=registry,
                logger=log_writer,
                now_ms=now_ms,
                leads=candidacy.leads,
                is_clock_trusted=lambda: config.clock_watch.is_trusted,
            )
        chores: tuple[Chore, ...] = (
            *sending,
            partial(worker_metrics.keep_fresh, store),
            partial(housekeeping.watch_lag, source, worker_metrics, group=settings.group),
            partial(housekeeping.prune, store, now_ms, lambda: config.clock_watch.is_trusted),
            partial(housekeeping.add_up_counts, store),
            WakeListener(rotating_postgres_address(settings), store.woken).run,
            process.reloading(config, settings, registry, log_writer),
            process.watching_clock(config, registry, log_writer, clock),
            learnt.run,
            at_risk.run,
            key_uses.run,
            asking.reconciling(
                accounts=accounts,
                directory=settings.accounts.parent,
                orders=store,
                append=appending.append,
                receipts=authenticator.receipt,
                leads=lambda: store.leadership.is_leading,
                now_ms=now_ms,
                after_s=settings.query_after_s,
                per_s=settings.queries_per_s,
                registry=registry,
                log=log_writer,
            ),
            partial(
                erasure.erase_for_ever,
                PostgresErasure(store.database),
                days=settings.raw_retention_days,
                now_ms=now_ms,
                is_clock_trusted=lambda: config.clock_watch.is_trusted,
                leads=store.sending.leads,
                counter=metrics.counter(telemetry.RAW_ERASED, registry),
            ),
        )
        await stack.enter_async_context(process.background_tasks(registry, health, log_writer, *chores))
        await stack.enter_async_context(process.ending_when(worker.has_stopped, lambda: worker.trouble))
        yield {"admin": admin_url}


async def _let_go(source: KafkaSource, store: PostgresOrderStore, loop: LoopName) -> None:
    """Give back the partitions, or the lease, of a failed loop, so that other workers take over at once."""
    match loop:
        case LoopName.CONSUMER:
            await source.stop()
        case LoopName.RELAY:
            await store.sending.step_aside(ASIDE_S)
        case LoopName.SWEEPER | LoopName.REPLAYER:
            await store.leadership.step_aside(ASIDE_S)


async def _locks(settings: ClusterSettings, stack: AsyncExitStack) -> IdempotencyLocks:
    """Return the locks in Redis, or locks within this process if no Redis is configured."""
    address = redis_address(settings)
    if address is None:
        return LocalLocks()
    try:
        client = redis_clients.connect(address)
        locks = RedisLocks(client, slot_of=spread) if redis_clients.is_cluster(address) else RedisLocks(client)
    except ValueError as error:
        raise UnreadableFile(str(error)) from None
    stack.push_async_callback(locks.close)
    return locks


def _health(
    store: PostgresOrderStore,
    source: KafkaSource,
    events: KafkaEvents,
    notices: KafkaEvents,
    worker: Worker,
    client_log: ClientLog,
    callbacks_file: CallbacksFile | None,
) -> Readiness:
    """Return the checks. `events` is not needed: without the event topics, orders still change and the outbox fills."""

    async def checks() -> Sequence[Check]:
        return [
            process.check("kafka", client_log.explain(source.trouble)),
            process.check("store", store.trouble),
            process.check("worker", worker.trouble),
            process.check("loops", worker.loops_trouble, is_needed=False),
            process.check("events", "; ".join(filter(None, (events.trouble, notices.trouble))), is_needed=False),
            *callbacks.checks(callbacks_file),
        ]

    return checks
