"""`alipay-notify console`: the admin API and the console, on the order store that the workers share.

It consumes no topic and publishes nothing. Its writes (a registration, a replay of a held notification) go to the
outbox, and the leading worker sends them. The state of receivers and workers it asks from them (`peers`). Several
consoles may run beside each other.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry

from deploy import process, tracing
from deploy.authentication import Authenticator, FilesInUse
from deploy.cluster import connections, housekeeping
from deploy.cluster.peers import PeerAddress, Peers
from deploy.cluster.settings import ClusterSettings, peer_addresses, rotating_postgres_address
from deploy.key_inventory import KeyInventory
from deploy.logs import LogWriter
from deploy.request_signing import RequestSigner
from schemas.events import Outgoing
from workers import metrics
from workers.admin import app
from workers.admin.app import LiveParts
from workers.admin.probes import Check
from workers.admin.process_state import OwnProcess, ProcessRole
from workers.backoff import retry_conflicts
from workers.emission import NOTHING_AWAY, Published
from workers.held_decisions import HeldDecisions
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.postgres.audit_list import PostgresAudit
from workers.postgres.bills import PostgresBills
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.erasure import PostgresErasure
from workers.postgres.key_uses import PostgresKeyUses
from workers.postgres.recent import RecentRows
from workers.postgres.resends import PostgresResends
from workers.postgres.snoozes import PostgresSnoozes
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement.plan import HeldRow
from workers.tail import Tail
from workers.time_limit import TimeLimit
from workers.traces import NOT_TRACED


class NoTopics:
    """Publishes nothing: workers send the events from the outbox."""

    away = NOTHING_AWAY

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        raise NotImplementedError("a console has no relay")


@asynccontextmanager
async def running(
    settings: ClusterSettings, log_writer: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[dict[str, str]]:
    """Run a console; yield the URL of its admin port by `admin`.

    Raises:
        start_errors.REFUSALS: it cannot start.
    """
    receipt_keys = connections.receipt_keys_in_use(settings)
    config = process.read_config(settings, receipt_keys)
    addresses = [PeerAddress(host, port) for host, port in peer_addresses(settings)]
    accounts = config.accounts
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(
            tracing.running(settings, log_writer, system="kafka", group=settings.group, prefix=settings.topic_prefix)
        )
        store = await PostgresOrderStore.open(
            rotating_postgres_address(settings),
            holder=connections.name("console"),
            has_relay=False,
        )
        stack.push_async_callback(store.close)
        now_ms = store.clock.epoch_ms
        changes = OrderChanges()
        worker_metrics = metrics.WorkerMetrics(registry, accounts, now_ms=now_ms)
        worker_log = WorkerLog(log_writer, sample=settings.log_sample)
        authenticator = Authenticator(accounts, receipt_keys, clock=store.clock)
        observer = Observers(metrics=worker_metrics, log=worker_log, changes=changes, tracing=traces or NOT_TRACED)
        processing = Processing(
            accounts=accounts,
            authenticate=authenticator.authenticate,
            store=store,
            events=NoTopics(),
            observer=observer,
            now_ms=now_ms,
            files=FilesInUse(authenticator, config.reloader),
            time_limit=TimeLimit(settings.handling_limit_s, interrupted=observer.interrupted),
            tracing=traces or NOT_TRACED,
        )
        stack.enter_context(processing.time_limit.watching())

        async def retry(rows: Sequence[HeldRow]) -> None:
            await retry_conflicts(lambda: processing.retry(rows))

        async def health() -> Sequence[Check]:
            return [process.check("store", store.trouble or store.reads_trouble)]

        readiness = process.with_accounts(config, health)
        tail = Tail(now_ms=now_ms)
        peers = Peers(addresses, tail=tail, now_ms=now_ms, token=config.admin_access.first_token)
        own = OwnProcess(
            identity=process.identity(ProcessRole.CONSOLE, config), readiness=readiness, registry=registry, tail=tail
        )
        application = app.application(
            accounts=accounts,
            own=own,
            live=LiveParts(processes=peers, recent=RecentRows(store.reads)),
            orders=store,
            held=store,
            replays=store,
            snoozes=PostgresSnoozes(store.database),
            events=store,
            audit=PostgresAudit(store.database, store.reads),
            erasure=PostgresErasure(store.database),
            resends=PostgresResends(store.database),
            callbacks=PostgresCallbacks(store.database, store.reads),
            bills=PostgresBills(store.database, store.reads),
            keys=KeyInventory(accounts, settings.accounts.parent, receipt_keys),
            key_uses=PostgresKeyUses(store.database, store.reads),
            retry=retry,
            decisions=HeldDecisions(
                accounts=accounts,
                read=processing.read,
                store=store,
                observer=observer,
                now_ms=now_ms,
                time_limit=processing.time_limit,
                tracing=traces or NOT_TRACED,
            ),
            verify=authenticator.verify,
            check_return=authenticator.check_return,
            sign_request=RequestSigner(settings.accounts.parent, now_ms=config.clock.epoch_ms),
            refusals=peers,
            retries=worker_metrics,
            readiness=readiness,
            time_limit=processing.time_limit,
            registry=registry,
            changes=changes,
            wake=store.woken.set,
            now_ms=now_ms,
            log=log_writer,
            access=config.admin_access,
            accounts_faults=lambda: config.reloader.faults,
            names=settings.event_names,
            links=settings.links,
        )
        admin_url = await process.serve_admin(stack, application, settings, log_writer)
        chores = (
            partial(worker_metrics.keep_fresh, store),
            partial(housekeeping.follow, store, changes),
            *((peers.run,) if addresses else ()),
            process.reloading(config, settings, registry, log_writer),
            process.watching_clock(config, registry, log_writer, store.clock),
        )
        await stack.enter_async_context(process.background_tasks(registry, readiness, log_writer, *chores))
        yield {"admin": admin_url}
