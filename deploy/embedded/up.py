"""`alipay-notify up`: the one-machine engine. Receiver, worker and admin API in one process, on one event loop.

Composition, in the order in which things need each other: settings and keys (any fault refuses the start), the data
directory with its two files, the receiver's log, the worker, the admin port, and last the public port, so that the
first notification finds everything in place. It ends in the reverse order: the public port drains, the worker finishes
its batch, the files are closed. SIGKILL at any moment leaves files that the next start goes on from.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec import Struct
from prometheus_client import CollectorRegistry

from deploy import process, start_errors
from deploy.authentication import Authenticator
from deploy.directory_lock import AlreadyRunning
from deploy.embedded import directory, housekeeping
from deploy.embedded.directory import Opened
from deploy.embedded.locks import LocalLocks
from deploy.embedded.migrations import FileNotUsable
from deploy.embedded.source import JournalSource
from deploy.logs import LogWriter
from deploy.settings import EmbeddedSettings
from ingest import app as ingest_app
from ingest.http.server import Receiver
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from schemas.events import Outgoing
from workers import app as workers_app
from workers import metrics
from workers.admin import app
from workers.admin.probes import Check
from workers.app import Worker
from workers.log_lines import WorkerLog
from workers.long_poll import OrderChanges
from workers.observers import Observers

REFUSALS = (*start_errors.REFUSALS, AlreadyRunning, FileNotUsable)


class EmbeddedEngine(Struct, frozen=True):
    """A running engine, as others reach it."""

    public_url: str
    admin_url: str


class EmbeddedFeed:
    """The engine's topics: the outbox itself, which programs on this machine read over the API.

    An event is published by being committed there, so nothing is left to do; acknowledging it lets the API show it.
    """

    async def publish(self, events: Sequence[Outgoing]) -> None:
        return


@asynccontextmanager
async def running(
    settings: EmbeddedSettings, lines: LogWriter, registry: CollectorRegistry
) -> AsyncIterator[EmbeddedEngine]:
    """An engine that receives, works and answers; on leaving it drains and closes.

    Raises:
        BadAccounts: accounts or keys cannot be used.
        OpenAdmin: the admin port would be open to others.
        AlreadyRunning, FileNotUsable, Damaged, Infrastructure: the data directory cannot be used.
        CannotBind: a port cannot be had.
    """
    config = process.read_config(settings)
    clock, accounts, rings = config.clock, config.accounts, config.rings
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(directory.opened(settings.data_dir, now_ms=clock.epoch_ms))
        recent = RecentRefusals()
        changes = OrderChanges()
        counted = metrics.WorkerMetrics(registry, accounts, now_ms=clock.epoch_ms)
        source = JournalSource(opened.journal, cursor=opened.cursor)

        # The secret is this process's own: what another one received is verified again.
        trust = Authenticator(rings, [os.urandom(32)], is_log_private=True)
        worker = await stack.enter_async_context(
            workers_app.working(
                accounts=accounts,
                authenticate=trust.authenticate,
                source=source,
                store=opened.store,
                locks=LocalLocks(),
                events=EmbeddedFeed(),
                woken=opened.store.woken,
                observer=Observers(metrics=counted, log=WorkerLog(lines, sample=settings.log_sample), changes=changes),
                logger=lines,
                token=f"embedded:{os.getpid()}".encode(),
                now_ms=clock.epoch_ms,
            )
        )
        health = _EngineHealth(opened, worker)
        application = app.application(
            accounts=accounts,
            orders=opened.store,
            held=opened.store,
            events=opened.store,
            retry=worker.processing.retry,
            authenticate=trust.authenticate,
            check_return=trust.check_return,
            refusals=recent,
            retries=counted,
            readiness=health.checks,
            registry=registry,
            changes=changes,
            wake=opened.store.woken.set,
            now_ms=clock.epoch_ms,
            log=lines,
            token=config.admin_token,
        )
        admin_url = await process.serve_admin(stack, application, settings, lines)
        chores = housekeeping.housekeeping(opened, source=source, metrics=counted, now_ms=clock.epoch_ms)
        await stack.enter_async_context(process.background_tasks(registry, health.checks, lines, *chores))
        with start_errors.binding("public port", settings.host, settings.port, "port"):
            health.receiver = await stack.enter_async_context(
                ingest_app.serving(
                    settings=settings,
                    accounts=accounts,
                    rings=rings,
                    log=opened.journal,
                    logger=lines,
                    metrics=ReceiverMetrics(registry, accounts),
                    recent=recent,
                    clock=clock,
                    receipts=trust.receipt,
                )
            )
        public_url = process.url(settings.host, health.receiver.port)
        yield EmbeddedEngine(public_url, admin_url)


class _EngineHealth:
    """What has to be so for the engine to take notifications; and how the rest of it is.

    What is in the journal is safe whether or not somebody works on it: a worker that stands still, or a store that
    does not answer, is no reason to turn notifications away.
    """

    def __init__(self, opened: Opened, worker: Worker) -> None:
        self.receiver: Receiver | None = None
        self._opened = opened
        self._worker = worker

    async def checks(self) -> Sequence[Check]:
        return [
            process.accepting(self.receiver),
            process.check("journal", self._opened.journal.trouble),
            process.check("store", self._opened.store.trouble, is_needed=False),
            process.check("worker", self._worker.trouble, is_needed=False),
        ]
