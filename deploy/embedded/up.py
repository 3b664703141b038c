"""`alipay-notify up`: the one-machine engine. Receiver, worker and admin API in one process, on one event loop.

Composition, in the order in which things need each other: settings and keys (any fault refuses the start), the data
directory with its two files, the receiver's log, the worker, the admin port, and last the public port, so that the
first notification finds everything in place. It ends in the reverse order: the public port drains, the worker finishes
its batch, the files are closed. SIGKILL at any moment leaves files that the next start goes on from.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hmac import compare_digest

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter

from deploy import accounts_file, build
from deploy.embedded import directory, faults, loops, upkeep
from deploy.embedded.claims import LocalClaims
from deploy.embedded.directory import Opened
from deploy.embedded.source import JournalSource
from deploy.logs import Lines
from ingest import app as ingest_app
from ingest import authenticity, returns
from ingest.clock import SystemClock
from ingest.http import Receiver
from ingest.keys import Rings
from ingest.refused import RecentlyRefused
from ingest.settings import Settings
from schemas import envelope, telemetry
from schemas.accounts import Account
from schemas.envelope import Sealed
from schemas.events import Outgoing
from workers import api, metrics
from workers import app as workers_app
from workers.admin import guard, port
from workers.admin.probes import Check
from workers.admin.returns import Returned
from workers.app import Worker
from workers.changes import Changes
from workers.lines import Lines as WorkerLines
from workers.watching import Everyone


class Engine(Struct, frozen=True):
    """A running engine, as others reach it."""

    public_url: str
    admin_url: str


class Feed:
    """The engine's topics: the outbox itself, which programs on this machine read over the API.

    An event is published by being committed there, so nothing is left to do; acknowledging it lets the API show it.
    """

    async def publish(self, events: Sequence[Outgoing]) -> None:
        return


@asynccontextmanager
async def running(settings: Settings, lines: Lines, registry: CollectorRegistry) -> AsyncIterator[Engine]:
    """An engine that receives, works and answers; on leaving it drains and closes.

    Raises:
        BadAccounts: accounts or keys cannot be used.
        OpenAdmin: the admin port would be open to others.
        AlreadyRunning, NotUsable, Damaged, Infrastructure: the data directory cannot be used.
        CannotBind: a port cannot be had.
    """
    clock = SystemClock()
    accounts = accounts_file.read(settings.accounts)
    rings = Rings(accounts, settings.accounts.parent)
    token = guard.read_token(settings.admin_token_file) if settings.admin_token_file else None
    guard.check_bind(settings.admin_host, has_token=token is not None)
    _count_dropped(lines, registry)
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(directory.opened(settings.data_dir, now_ms=clock.epoch_ms))
        recent = RecentlyRefused()
        changes = Changes()
        counted = metrics.Metrics(registry, accounts, now_ms=clock.epoch_ms)
        source = JournalSource(opened.journal, cursor=opened.cursor)

        secret = os.urandom(32)  # of this process only: what another one received is verified again

        def receipts(sealed: Sealed) -> bytes:
            return envelope.receipt(sealed, secret)

        def authenticate(sealed: Sealed, account: Account) -> None:
            if not sealed.receipt or not compare_digest(sealed.receipt, receipts(sealed)):
                authenticity.recheck(sealed, account, rings.current(account.name))

        worker = await stack.enter_async_context(
            workers_app.working(
                accounts=accounts,
                authenticate=authenticate,
                source=source,
                store=opened.store,
                claims=LocalClaims(),
                events=Feed(),
                woken=opened.store.woken,
                watch=Everyone(metrics=counted, lines=WorkerLines(lines, sample=settings.log_sample), changes=changes),
                logger=lines,
                token=f"embedded:{os.getpid()}".encode(),
                now_ms=clock.epoch_ms,
            )
        )
        health = _Health(opened, worker)
        application = api.application(
            accounts=accounts,
            orders=opened.store,
            held=opened.store,
            events=opened.store,
            retry=worker.processing.retry,
            authenticate=authenticate,
            check_return=lambda text, account: _returned(returns.check(text, account, rings.current(account.name))),
            refusals=recent,
            replays=counted,
            readiness=health.checks,
            registry=registry,
            changes=changes,
            wake=opened.store.woken.set,
            now_ms=clock.epoch_ms,
            log=lines,
            token=token,
        )
        with faults.binding("admin port", settings.admin_host, settings.admin_port, "admin-port"):
            admin_port = await stack.enter_async_context(
                port.serving(application, host=settings.admin_host, port=settings.admin_port, log=lines)
            )
        await stack.enter_async_context(
            upkeep.kept(
                opened, source=source, metrics=counted, registry=registry, health=health.checks, now_ms=clock.epoch_ms
            )
        )
        with faults.binding("public port", settings.host, settings.port, "port"):
            health.receiver = await stack.enter_async_context(
                ingest_app.serving(
                    settings=settings,
                    accounts=accounts,
                    rings=rings,
                    log=opened.journal,
                    logger=lines,
                    registry=registry,
                    recent=recent,
                    clock=clock,
                    receipts=receipts,
                )
            )
        public_url = _url(settings.host, health.receiver.port)
        yield Engine(public_url, _url(settings.admin_host, admin_port))


class _Health:
    """What has to be so for the engine to take notifications; and how the rest of it is.

    What is in the journal is safe whether or not somebody works on it: a worker that stands still, or a store that
    does not answer, is no reason to turn notifications away.
    """

    def __init__(self, opened: Opened, worker: Worker) -> None:
        self.receiver: Receiver | None = None
        self._opened = opened
        self._worker = worker

    async def checks(self) -> Sequence[Check]:
        accepting = self.receiver is not None and self.receiver.is_accepting
        return [
            Check(name="receiver", ok=accepting, detail="" if accepting else "not accepting: starting or draining"),
            _check("journal", self._opened.journal.trouble),
            _check("store", self._opened.store.trouble, is_needed=False),
            _check("worker", self._worker.trouble, is_needed=False),
        ]


def _count_dropped(lines: Lines, registry: CollectorRegistry) -> None:
    dropped = telemetry.LOG_LINES_DROPPED
    lines.tell_dropped(Counter(dropped.name, dropped.help, registry=registry).inc)


def _check(name: str, trouble: str | None, *, is_needed: bool = True) -> Check:
    return Check(name=name, ok=not trouble, detail=trouble or "", is_needed=is_needed)


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _returned(checked: returns.Return) -> Returned:
    return Returned(
        authentic=checked.verdict is returns.Verdict.AUTHENTIC,
        reason=checked.detail or (checked.reason.value if checked.reason else ""),
        result_status=checked.result_status,
        meaning=checked.result_meaning,
        claims=checked.claims,
    )


async def until_told(
    settings: Settings, lines: Lines, started: Callable[[Engine], Awaitable[None]] | None = None
) -> None:
    """Run the engine until SIGTERM or SIGINT, then end in good order; a second signal ends it at once.

    `started` is called once with the running engine. What `running` raises is raised.
    """
    registry = CollectorRegistry()
    build.info(registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    async with running(settings, lines, registry) as engine:
        if started is not None:
            await started(engine)
        loops.settle_garbage()
        await stop.wait()


def ready_line(engine: Engine, **more: str) -> str:
    """The one line that tells a program how to reach the engine."""
    return msgspec.json.encode(
        {"event": "ready", "public": engine.public_url, "admin": engine.admin_url} | more
    ).decode()
