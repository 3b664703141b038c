"""Everything that all processes of the engines have in common: configuration, event loop, signals, admin port, chores.

The composition roots (`embedded.up`, `cluster.receiver`, `cluster.worker`, `cluster.console`) put their parts on one
`AsyncExitStack`; `run_until_signal` runs the result. A signal leaves the stack, so the parts stop in the reverse order
of their start. This is the order of a stop, with the longest time that each step may take by default:

A receiver:
  1. readiness goes off; the public port still serves, each answer with `Connection: close`    5 s  DRAIN_DELAY_S
  2. the public port stops listening; requests in progress finish                              8 s  SHUTDOWN_TIMEOUT_S
  3. background tasks are cancelled; the admin port closes                                     4 s
  4. the producer sends its pending records and closes (embedded: worker, then the files)      7 s
  5. the last spans are exported, if the process traces                                        3 s
  6. queued log lines are written                                                              2 s
  In all at most 29 s.

A worker:
  1. background tasks are cancelled, attempts at callbacks finish or are dropped;
     the admin port closes, so readiness is gone                                              10 s
  2. consumer and sweeper finish the batch in hand, or drop it at the next retry              12 s
  3. the relay sends what lies in the outbox, once more                                       10 s
  4. the consumer leaves its group; the event producer closes                              8 + 8 s
  5. the store gives its leases back and closes                                               30 s
  6. the last spans are exported, if the process traces                                        3 s
  7. queued log lines are written                                                              2 s
  In all a few seconds if PostgreSQL and Kafka answer, about 84 s if both hang.

Service managers send SIGKILL after 45 s. That loses nothing: records in hand are not committed and are redelivered,
events that are not acknowledged stay in the outbox. A second signal exits at once.

A process whose event loop stands still is ended by `deploy.watchdog`, without these steps.

A worker whose consumer fails ends by itself: it is not ready, leaves its group at once, and then goes through the steps
above, within 45 s, to exit code 4.
"""

import asyncio
import gc
import os
import platform
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import msgspec
import prometheus_client
from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry, GCCollector, Info, ProcessCollector

from deploy import exits, start_errors, watchdog
from deploy.accounts_reload import AccountsReloader, ReloadGauges
from deploy.clock_watch import ClockWatch, Reference
from deploy.logs import LogWriter
from deploy.receipt_keys import ReceiptKeys
from deploy.settings import AdminSettings, EngineSettings
from ingest.accounts_in_use import AccountsInUse
from ingest.clock import SystemClock
from ingest.http.server import Receiver
from ingest.log_port import Logger
from ingest.settings import ReceiverSettings
from schemas import telemetry
from schemas.telemetry import Field
from workers import metrics
from workers.admin import guard, probes, server
from workers.admin.guard import Access
from workers.admin.probes import Check, Readiness
from workers.admin.process_state import ProcessIdentity, ProcessRole

DISTRIBUTION = "alipay-notify"
SWITCH = "ALIPAY_NOTIFY_UVLOOP"

# More objects than a batch of 500 records creates. All of them are freed with the batch and none is part of a cycle, so
# a collection in the middle of a batch would find nothing.
YOUNG_MAX = 50_000

LOOK_EVERY_S = 1.0
END_MAX_S = 45.0  # for a process that ends by itself; the same as service managers give to one that they stop
RESTART_AFTER_S = 5.0  # for a chore that failed
DEPENDENCIES = frozenset({"kafka", "redis", "store", "journal", "worker"})

T = TypeVar("T")
Chore = Callable[[], Coroutine[Any, Any, None]]  # a background loop; calling it starts it


class ProcessConfig(Struct, frozen=True):
    """Everything that a process reads at its start besides its settings, and its clock."""

    clock: SystemClock
    clock_watch: ClockWatch
    reloader: AccountsReloader
    admin_access: Access

    @property
    def accounts(self) -> AccountsInUse:
        return self.reloader.in_use


def read_config(settings: EngineSettings, receipt_keys: ReceiptKeys | None = None) -> ProcessConfig:
    """Read accounts, keys and the admin token. `receipt_keys` are reloaded together with accounts and keys.

    Raises:
        BadAccounts: accounts.toml or a key file cannot be used.
        OpenAdmin: the admin token cannot be used, or is missing although other machines reach the admin port.
    """
    reloader = AccountsReloader(settings.accounts, receipt_keys)
    return ProcessConfig(SystemClock(), ClockWatch(), reloader, admin_access(settings))


def admin_access(settings: AdminSettings) -> Access:
    """Return the requests that the admin port accepts.

    Raises:
        OpenAdmin: as `guard.access`.
    """
    return guard.access(host=settings.admin_host, token_file=settings.admin_token_file, names=settings.admin_names)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory, or `None` for asyncio's own loop if uvloop is missing or switched off."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def run_until_signal(
    running: Callable[[CollectorRegistry], AbstractAsyncContextManager[T]],
    log_writer: LogWriter,
    started: Callable[[T], Awaitable[None]],
    *,
    standstill_limit_s: float = 0.0,
) -> None:
    """Run the process until SIGTERM or SIGINT, then leave `running`; a second signal exits at once.

    `started` is called once, with the value of `running`. Exceptions of `running` propagate. From then on, an event
    loop that stands still for `standstill_limit_s` ends the process (`deploy.watchdog`).

    Raises:
        StoppedItself: a part of the process has stopped by itself, and the others have ended in good order. If they do
            not end within `END_MAX_S`, the process exits all the same.
    """
    registry = CollectorRegistry()
    _register_process(registry)
    log_writer.count_dropped(metrics.counter(telemetry.LOG_LINES_DROPPED, registry).inc)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # A signal's sender kills a process that does not end. Nobody does that to one that ends by itself.
    forced = threading.Timer(END_MAX_S, os._exit, [exits.STOPPED_ITSELF])
    forced.daemon = True
    try:
        async with running(registry) as process:
            try:
                await started(process)
                freeze_heap()
                async with watchdog.watching(standstill_limit_s, log_writer):
                    await stop.wait()
            except asyncio.CancelledError:
                forced.start()
                raise
    finally:
        forced.cancel()


class StoppedItself(Exception):
    """A part of the process has stopped by itself; a fresh process has to be started."""


@asynccontextmanager
async def ending_when(stopped: asyncio.Event, why: Callable[[], str]) -> AsyncIterator[None]:
    """Run the block. When `stopped` is set, cancel it.

    Raises:
        StoppedItself: instead of the cancellation.
    """
    task = asyncio.current_task()
    assert task is not None

    async def cancel_when_stopped() -> None:
        await stopped.wait()
        task.cancel()

    watching = asyncio.create_task(cancel_when_stopped())
    try:
        yield
    except asyncio.CancelledError:
        # Without our own request, someone else has cancelled the block.
        if not (stopped.is_set() and watching.done() and task.uncancel() == 0):
            raise
        raise StoppedItself(why()) from None
    finally:
        watching.cancel()


def freeze_heap() -> None:
    """Exclude all present objects from garbage collection. Call it when everything is built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)


def version_text() -> str:
    """Return the installed version, or `0+unknown` if the program runs without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def _register_process(registry: CollectorRegistry) -> None:
    """Export what every process has: build, memory, open files, garbage collection."""
    # Else each counter and histogram has a `_created` sample too: a quarter of the text, which no query here reads.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    _register_build_info(registry)


def _register_build_info(registry: CollectorRegistry) -> None:
    family = telemetry.BUILD_INFO
    info = Info(family.name.removesuffix("_info"), family.help, registry=registry)
    info.info({"version": version_text(), "python": platform.python_version(), "commit": ""})


def identity(role: ProcessRole, config: ProcessConfig, instance: str = "") -> ProcessIdentity:
    """Return the identity of this process, which the console shows."""
    return ProcessIdentity(
        role=role,
        instance=instance or f"{socket.gethostname()}-{os.getpid()}",
        version=version_text(),
        started_at_ms=config.clock.epoch_ms(),
    )


def ready_line(**addresses: str) -> str:
    """Return the JSON line for stdout that tells a calling program how to reach this process."""
    return msgspec.json.encode({"event": "ready"} | addresses).decode()


def url(host: str, port: int) -> str:
    """Return the URL by which programs on the same machine reach this address."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


async def serve_admin(
    stack: AsyncExitStack, application: web.Application, settings: AdminSettings, log_writer: LogWriter
) -> str:
    """Serve the application on the admin port until the stack is left. Return its URL.

    Raises:
        CannotBind: the admin port cannot be bound.
    """
    with start_errors.binding("admin port", settings.admin_host, settings.admin_port, "admin-port"):
        number = await stack.enter_async_context(
            server.serving(application, host=settings.admin_host, port=settings.admin_port, log=log_writer)
        )
    return url(settings.admin_host, number)


def accepting(receiver: Receiver | None) -> Check:
    """Return the check of the public port. It fails before the port is up and while it drains."""
    is_accepting = receiver is not None and receiver.is_accepting
    return check("receiver", None if is_accepting else "not accepting: starting or draining")


def check(name: str, trouble: str | None, *, is_needed: bool = True) -> Check:
    """Return the check of a dependency from its own report: `trouble` is empty or `None` if all is well."""
    return Check(name=name, ok=not trouble, detail=trouble or "", is_needed=is_needed)


def with_accounts(config: ProcessConfig, health: Callable[[], Awaitable[Sequence[Check]]]) -> Readiness:
    """Add the checks of the accounts' and keys' files, and of the clock. A process with faulty files works on with the
    old ones, and the clock gives up nothing by itself."""

    async def checks() -> Sequence[Check]:
        return [
            *await health(),
            check("accounts", config.reloader.trouble, is_needed=False),
            check("clock", config.clock_watch.trouble, is_needed=False),
        ]

    return checks


def reloading(config: ProcessConfig, settings: ReceiverSettings, registry: CollectorRegistry, logger: Logger) -> Chore:
    """Return the chore that reloads accounts and keys; from now on SIGHUP hurries it."""
    config.reloader.hurry_at_sighup()
    gauges = ReloadGauges(registry, config.clock)
    return partial(config.reloader.run, gauges=gauges, logger=logger, interval_s=settings.key_reload_interval_s)


def watching_clock(
    config: ProcessConfig, registry: CollectorRegistry, logger: Logger, reference: Reference | None = None
) -> Chore:
    """Return the chore that watches the wall clock. `reference` is the clock that decides, if it is another one."""
    return partial(config.clock_watch.run, registry, logger, reference)


@asynccontextmanager
async def background_tasks(
    registry: CollectorRegistry,
    health: Callable[[], Awaitable[Sequence[Check]]],
    logger: Logger,
    *chores: Chore,
) -> AsyncIterator[None]:
    """Run the chores until the block ends, and export readiness, dependencies and event-loop lag as gauges."""
    ours: list[Chore] = [partial(_watch_loop, registry), partial(_watch_health, registry, health)]
    running = [asyncio.create_task(_restarted(each, logger)) for each in (*ours, *chores)]
    try:
        yield
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _restarted(chore: Chore, logger: Logger) -> None:
    """Run the chore for ever, and start it again if it fails: a gauge that is no longer updated shows a wrong value."""
    while True:
        try:
            await chore()
        except Exception as error:
            logger.error("a housekeeping loop failed", **{Field.ERROR: error})
        await asyncio.sleep(RESTART_AFTER_S)


async def _watch_loop(registry: CollectorRegistry) -> None:
    lag = metrics.gauge(telemetry.LOOP_LAG, registry)
    loop = asyncio.get_running_loop()
    # Scrapes are answered on a thread: `all_tasks` works there too, for a loop that is given.
    metrics.gauge(telemetry.ASYNC_TASKS, registry).set_function(lambda: len(asyncio.all_tasks(loop)))
    while True:
        due = loop.time() + LOOK_EVERY_S
        await asyncio.sleep(LOOK_EVERY_S)
        lag.set(max(0.0, loop.time() - due))


async def _watch_health(registry: CollectorRegistry, health: Callable[[], Awaitable[Sequence[Check]]]) -> None:
    up = metrics.gauge(telemetry.DEPENDENCY_UP, registry)
    ready = metrics.gauge(telemetry.READY, registry)
    while True:
        checks = await health()
        for each in checks:
            if each.name in DEPENDENCIES:
                up.labels(each.name).set(each.ok)
        ready.set(probes.is_ready(checks))
        await asyncio.sleep(LOOK_EVERY_S)
