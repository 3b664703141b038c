"""What is running: its version, for metrics and for people.

The event loop: uvloop where it is installed, unless told otherwise. And what the collector should leave alone.

The life of each process of ours: up, ready, at work until a signal, down in good order. And what it shows meanwhile.

The composition roots differ in what they put together; this is what they have in common.
"""

import asyncio
import gc
import os
import platform
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Info

from deploy import start_errors
from deploy.logs import LogWriter
from deploy.settings import AdminSettings
from ingest.http.server import Receiver
from ingest.log_port import Logger
from schemas import telemetry
from schemas.telemetry import Field
from workers import metrics
from workers.admin import guard, probes, server
from workers.admin.probes import Check

DISTRIBUTION = "alipay-notify"


def version_text() -> str:
    """The installed version, `0+unknown` where the program runs without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def info(registry: CollectorRegistry) -> None:
    """Put the build's information on the registry."""
    family = telemetry.BUILD_INFO
    info = Info(family.name.removesuffix("_info"), family.help, registry=registry)
    info.info({"version": version_text(), "python": platform.python_version(), "commit": ""})


SWITCH = "ALIPAY_NOTIFY_UVLOOP"

# More than a batch of 500 records holds at once, all of which goes when the batch is done, and none of it in a circle:
# a collector that looks in the middle of it, as it would in each, finds nothing.
YOUNG_MAX = 50_000


def factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop, or `None` for asyncio's own."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def settle_garbage() -> None:
    """Called once everything is built: what lives as long as the process is not looked through again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)


LOOK_EVERY_S = 1.0
DEPENDENCIES = frozenset({"kafka", "redis", "store", "journal", "worker"})

AGAIN_S = 5.0  # after which a small loop that failed begins anew

T = TypeVar("T")
Chore = Callable[[], Coroutine[Any, Any, None]]  # a small loop, begun by calling it


async def run_until_signal(
    running: Callable[[CollectorRegistry], AbstractAsyncContextManager[T]],
    lines: LogWriter,
    started: Callable[[T], Awaitable[None]],
) -> None:
    """Run the process until SIGTERM or SIGINT, then end in good order; a second signal ends it at once.

    `started` is called once with what runs. What `running` raises is raised.
    """
    registry = CollectorRegistry()
    info(registry)
    _count_dropped(lines, registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    async with running(registry) as process:
        await started(process)
        settle_garbage()
        await stop.wait()


def ready_line(**where: str) -> str:
    """The one line that tells a program how to reach what has started."""
    return msgspec.json.encode({"event": "ready"} | where).decode()


def url(host: str, port: int) -> str:
    """Where this process is reached from the same machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def admin_token(settings: AdminSettings) -> str | None:
    """The token that writes to the admin port need, where one is named.

    Raises:
        OpenAdmin: it cannot be used, or the port would be open to others without one.
    """
    token = guard.read_token(settings.admin_token_file) if settings.admin_token_file else None
    guard.check_bind(settings.admin_host, has_token=token is not None)
    return token


async def serve_admin(
    stack: AsyncExitStack, application: web.Application, settings: AdminSettings, lines: LogWriter
) -> str:
    """Where the application answers, from now until the stack is left.

    Raises:
        CannotBind: the admin port cannot be had.
    """
    with start_errors.binding("admin port", settings.admin_host, settings.admin_port, "admin-port"):
        number = await stack.enter_async_context(
            server.serving(application, host=settings.admin_host, port=settings.admin_port, log=lines)
        )
    return url(settings.admin_host, number)


def accepting(receiver: Receiver | None) -> Check:
    """Whether the public port takes notifications; not before it is up, and not when it drains."""
    is_accepting = receiver is not None and receiver.is_accepting
    return check("receiver", None if is_accepting else "not accepting: starting or draining")


def check(name: str, trouble: str | None, *, is_needed: bool = True) -> Check:
    """The check of a dependency that says itself what is wrong with it."""
    return Check(name=name, ok=not trouble, detail=trouble or "", is_needed=is_needed)


@asynccontextmanager
async def background_tasks(
    registry: CollectorRegistry,
    health: Callable[[], Awaitable[Sequence[Check]]],
    lines: Logger,
    *chores: Chore,
) -> AsyncIterator[None]:
    """Until the block ends: readiness, dependencies and the loop's lateness as gauges, and the given small loops."""
    ours: list[Chore] = [partial(_watch_loop, registry), partial(_watch_health, registry, health)]
    running = [asyncio.create_task(_kept_up(each, lines)) for each in (*ours, *chores)]
    try:
        yield
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _kept_up(chore: Chore, lines: Logger) -> None:
    """None of them is a guarantee; but gauges that stand still, where one failed once, would tell untruths for ever."""
    while True:
        try:
            await chore()
        except Exception as error:
            lines.error("a housekeeping loop failed", **{Field.ERROR: error})
        await asyncio.sleep(AGAIN_S)


def _count_dropped(lines: LogWriter, registry: CollectorRegistry) -> None:
    lines.tell_dropped(metrics.counter(telemetry.LOG_LINES_DROPPED, registry).inc)


async def _watch_loop(registry: CollectorRegistry) -> None:
    lag = metrics.gauge(telemetry.LOOP_LAG, registry)
    loop = asyncio.get_running_loop()
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
