"""`alipay-notify up`: the one-machine engine. Receiver, worker and admin API in one process, on one event loop.

The parts start in the order in which they need each other: settings and keys (any fault refuses the start), the data
directory with its two files, the worker, the admin port, and last the public port, so that the first notification finds
everything in place. They stop in the reverse order: the public port drains, the worker finishes its batch, the files
are closed. SIGKILL at any moment leaves files from which the next start continues.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from msgspec import Struct
from prometheus_client import CollectorRegistry

from deploy import asking, callbacks, process, start_errors, tracing, watchdog
from deploy.authentication import Authenticator, FilesInUse
from deploy.callbacks_file import CallbacksFile
from deploy.directory_lock import AlreadyRunning
from deploy.embedded import directory, housekeeping
from deploy.embedded.audit_list import SqliteAudit
from deploy.embedded.bills import SqliteBills
from deploy.embedded.callbacks import SqliteCallbacks
from deploy.embedded.directory import EngineFiles
from deploy.embedded.erasure import SqliteErasure
from deploy.embedded.fatal_records import SqliteBegunNotes
from deploy.embedded.journal import Journal
from deploy.embedded.key_uses import SqliteKeyUses
from deploy.embedded.locks import LocalLocks
from deploy.embedded.migrations import FileNotUsable
from deploy.embedded.recent import LatestRows
from deploy.embedded.resends import SqliteResends
from deploy.embedded.snoozes import SqliteSnoozes
from deploy.embedded.source import JournalSource
from deploy.key_inventory import KeyInventory
from deploy.logs import LogWriter
from deploy.process import Chore
from deploy.request_signing import RequestSigner
from deploy.settings import EmbeddedSettings
from ingest import app as ingest_app
from ingest.errors import Unavailable
from ingest.http.server import Receiver
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from schemas import telemetry
from schemas.events import Outgoing
from schemas.record_format import Record
from workers import app as workers_app
from workers import erasure, metrics
from workers.admin import app
from workers.admin.app import LiveParts
from workers.admin.held_amounts import HeldAmounts
from workers.admin.money_at_risk import MoneyAtRisk
from workers.admin.probes import Check
from workers.admin.process_state import OwnProcess, ProcessRole
from workers.admin.processes import OnlyThisProcess
from workers.app import Worker
from workers.emission import NOTHING_AWAY, Published
from workers.errors import InfrastructureDown
from workers.key_uses import KeyUses
from workers.learnt_accounts import LearntAccounts
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers
from workers.restarts import LoopName
from workers.sweeper import always_leads
from workers.tail import Tail
from workers.traces import NOT_TRACED

REFUSALS = (*start_errors.REFUSALS, AlreadyRunning, FileNotUsable)


class EmbeddedEngine(Struct, frozen=True):
    """The addresses of a running engine."""

    public_url: str
    admin_url: str


class EmbeddedFeed:
    """The engine's event topics: the outbox itself, which programs on this machine read through the API.

    An event is published by its commit to the outbox, so `publish` does nothing. Once acknowledged, the API shows it.
    """

    away = NOTHING_AWAY

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        return Published(acknowledged=range(len(events)))


@asynccontextmanager
async def running(
    settings: EmbeddedSettings, log_writer: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[EmbeddedEngine]:
    """Run the engine; on leaving, drain it and close its files.

    Raises:
        BadAccounts: accounts or keys cannot be used.
        OpenAdmin: the admin port would be reachable by others without a token.
        AlreadyRunning, FileNotUsable, Damaged, InfrastructureDown: the data directory cannot be used.
        CannotBind: a port is not free.
    """
    config = process.read_config(settings)
    clock, accounts = config.clock, config.accounts
    callbacks_file = callbacks.read_file(settings)
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(
            tracing.running(settings, log_writer, system="alipay_notify", group="embedded")
        )
        files = await stack.enter_async_context(directory.open_files(settings.data_dir, now_ms=clock.epoch_ms))
        recent, tail = RecentRefusals(), Tail(now_ms=clock.epoch_ms)
        changes = OrderChanges()
        counted = metrics.WorkerMetrics(registry, accounts, now_ms=clock.epoch_ms)
        erasure_port = SqliteErasure(files.store.database)
        uses_kept = SqliteKeyUses(files.store.database, files.store.reads)
        key_uses = KeyUses(uses_kept, accounts.has_key)
        stack.push_async_callback(key_uses.write_last)
        observer = Observers(
            metrics=counted,
            log=WorkerLog(log_writer, sample=settings.log_sample),
            changes=changes,
            key_uses=key_uses,
            tail=tail,
            tracing=traces or NOT_TRACED,
        )
        source = JournalSource(files.journal, cursor=files.cursor)

        # A receipt key of this process alone: a record that another process received is verified again.
        authenticator = Authenticator(accounts, [os.urandom(32)], is_log_private=True)
        worker = await stack.enter_async_context(
            workers_app.working(
                accounts=accounts,
                authenticate=authenticator.authenticate,
                files=FilesInUse(authenticator, config.reloader),
                source=source,
                store=files.store,
                locks=LocalLocks(),
                events=EmbeddedFeed(),
                woken=files.store.woken,
                observer=observer,
                token=f"embedded:{os.getpid()}".encode(),
                now_ms=clock.epoch_ms,
                let_go=partial(_let_go, source),
                is_consumer_restarted=True,
                begun=SqliteBegunNotes(files.store.database),
                handling_limit_s=settings.handling_limit_s,
                tracing=traces or NOT_TRACED,
            )
        )
        learnt = LearntAccounts(accounts, files.store)
        accounts.watch(lambda change: learnt.learn(change.learnt))
        health = _EngineHealth(files, worker, callbacks_file)
        deliveries = SqliteCallbacks(files.store.database, files.store.reads)
        readiness = process.with_accounts(config, health.checks)
        own = OwnProcess(
            identity=process.identity(ProcessRole.ENGINE, config),
            readiness=readiness,
            registry=registry,
            tail=tail,
            refused=recent,
        )
        application = app.application(
            accounts=accounts,
            own=own,
            live=LiveParts(processes=OnlyThisProcess(own, now_ms=clock.epoch_ms), recent=LatestRows(files.store.reads)),
            orders=files.store,
            held=files.store,
            replays=files.store,
            snoozes=SqliteSnoozes(files.store.database),
            events=files.store,
            audit=SqliteAudit(files.store.database, files.store.reads),
            erasure=erasure_port,
            resends=SqliteResends(files.store.database),
            callbacks=deliveries,
            bills=SqliteBills(files.store.database, files.store.reads),
            keys=KeyInventory(accounts, settings.accounts.parent),
            key_uses=uses_kept,
            retry=worker.processing.retry,
            decisions=worker.decisions,
            verify=authenticator.verify,
            check_return=authenticator.check_return,
            sign_request=RequestSigner(settings.accounts.parent, now_ms=config.clock.epoch_ms),
            refusals=recent,
            retries=counted,
            readiness=readiness,
            registry=registry,
            changes=changes,
            wake=files.store.woken.set,
            now_ms=clock.epoch_ms,
            log=log_writer,
            access=config.admin_access,
            accounts_faults=lambda: config.reloader.faults,
            time_limit=worker.time_limit,
            names=settings.event_names,
            links=settings.links,
        )
        admin_url = await process.serve_admin(stack, application, settings, log_writer)
        at_risk = MoneyAtRisk(
            amounts=HeldAmounts(accounts=accounts, held=files.store, time_limit=worker.time_limit),
            accounts=accounts,
            registry=registry,
            now_ms=clock.epoch_ms,
            leads=lambda: True,
        )
        sending: Sequence[Chore]
        if callbacks_file is None:
            sending = (partial(callbacks.note_none, deliveries, logger=log_writer, now_ms=clock.epoch_ms),)
        else:
            sending = await callbacks.chores(
                stack,
                callbacks_file,
                settings,
                store=deliveries,
                registry=registry,
                logger=log_writer,
                now_ms=clock.epoch_ms,
                leads=always_leads,
                is_clock_trusted=lambda: config.clock_watch.is_trusted,
            )
        chores: tuple[Chore, ...] = (
            *sending,
            *housekeeping.housekeeping(
                files,
                source=source,
                metrics=counted,
                registry=registry,
                logger=log_writer,
                now_ms=clock.epoch_ms,
                is_clock_trusted=lambda: config.clock_watch.is_trusted,
            ),
            process.reloading(config, settings, registry, log_writer),
            process.watching_clock(config, registry, log_writer),
            learnt.run,
            at_risk.run,
            key_uses.run,
            asking.reconciling(
                accounts=accounts,
                directory=settings.accounts.parent,
                orders=files.store,
                append=partial(_append, files.journal),
                receipts=authenticator.receipt,
                leads=lambda: True,
                now_ms=clock.epoch_ms,
                after_s=settings.query_after_s,
                per_s=settings.queries_per_s,
                registry=registry,
                log=log_writer,
            ),
            partial(
                erasure.erase_for_ever,
                erasure_port,
                days=settings.raw_retention_days,
                now_ms=clock.epoch_ms,
                is_clock_trusted=lambda: config.clock_watch.is_trusted,
                leads=always_leads,
                counter=metrics.counter(telemetry.RAW_ERASED, registry),
            ),
            partial(watchdog.end_when_overdue, worker.time_limit, settings.standstill_limit_s, log_writer),
        )
        await stack.enter_async_context(process.background_tasks(registry, readiness, log_writer, *chores))
        with start_errors.binding("public port", settings.host, settings.port, "port"):
            health.receiver = await stack.enter_async_context(
                ingest_app.serving(
                    settings=settings,
                    accounts=accounts,
                    log=files.journal,
                    logger=log_writer,
                    metrics=ReceiverMetrics(registry),
                    recent=recent,
                    viewers=tail,
                    clock=clock,
                    receipts=authenticator.receipt,
                    spans=traces,
                )
            )
        public_url = process.url(settings.host, health.receiver.port)
        yield EmbeddedEngine(public_url, admin_url)


async def _append(journal: Journal, record: Record) -> None:
    """Append the answer to a question; as `workers.reconciliation.Append`."""
    try:
        await journal.append(record)
    except Unavailable as error:
        raise InfrastructureDown(str(error)) from error


async def _let_go(source: JournalSource, loop: LoopName) -> None:
    """Give back the records that the failed consumer had taken from the journal. The other loops hold nothing."""
    if loop is LoopName.CONSUMER:
        source.rewind()


class _EngineHealth:
    """The checks for readiness.

    Records in the journal are safe whether or not they are processed. So a store that does not answer, or a worker that
    stands, is reported and does not make the engine unready: Alipay would only send again later.
    """

    def __init__(self, files: EngineFiles, worker: Worker, callbacks_file: CallbacksFile | None) -> None:
        self.receiver: Receiver | None = None
        self._files = files
        self._worker = worker
        self._callbacks_file = callbacks_file

    async def checks(self) -> Sequence[Check]:
        return [
            process.accepting(self.receiver),
            process.check("journal", self._files.journal.trouble),
            process.check("store", self._files.store.trouble, is_needed=False),
            process.check("write-ahead logs", housekeeping.long_logs(self._files), is_needed=False),
            process.check("worker", self._worker.trouble, is_needed=False),
            process.check("loops", self._worker.loops_trouble, is_needed=False),
            *callbacks.checks(self._callbacks_file),
        ]
