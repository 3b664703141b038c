"""Compose the sender of callbacks, for a process of either engine that has a worker."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial

from prometheus_client import CollectorRegistry

from deploy import process
from deploy.callbacks_file import CallbacksFile
from deploy.process import Chore
from deploy.settings import EngineSettings
from ingest.log_port import Logger
from workers.admin.probes import Check
from workers.callbacks import addresses, telemetry
from workers.callbacks.addresses import Allowed
from workers.callbacks.deliveries import DeliveriesPort
from workers.callbacks.http import HttpPoster
from workers.callbacks.sender import CallbackSender
from workers.callbacks.telemetry import CallbackTelemetry
from workers.errors import InfrastructureDown
from workers.sweeper import always_leads

LOOK_EVERY_S = 60.0  # for endpoints that a process without any finds noted as configured


def read_file(settings: EngineSettings) -> CallbacksFile | None:
    """Return the endpoints in the file that the settings name; `None` if they name none.

    Raises:
        BadCallbacks: with every fault of the file.
    """
    return None if settings.callbacks is None else CallbacksFile(settings.callbacks)


def checks(file: CallbacksFile | None) -> list[Check]:
    """Return the check of the file, if there is one: a process with a faulty one works on with the old endpoints."""
    return [] if file is None else [process.check("callbacks", file.trouble, is_needed=False)]


async def note_none(
    store: DeliveriesPort,
    *,
    logger: Logger,
    now_ms: Callable[[], int],
    leads: Callable[[], Awaitable[bool]] = always_leads,
    look_every_s: float = LOOK_EVERY_S,
) -> None:
    """Note for ever that no endpoint is configured any more, so that none is shown as active, if no process sends.

    It is a chore of a process whose settings name no file. `leads` is asked only if an endpoint is left: a worker that
    has the file keeps the lease. A store that does not answer is asked again, and delays no start.
    """
    while True:
        with suppress(InfrastructureDown):  # the loops that need the store report it
            if await store.has_configured() and await leads():
                for name in await store.configure([], now_ms=now_ms()):
                    telemetry.log_removed(logger, name)
        await asyncio.sleep(look_every_s)


async def chores(
    stack: AsyncExitStack,
    file: CallbacksFile,
    settings: EngineSettings,
    *,
    store: DeliveriesPort,
    registry: CollectorRegistry,
    logger: Logger,
    now_ms: Callable[[], int],
    leads: Callable[[], Awaitable[bool]],
    is_clock_trusted: Callable[[], bool],
) -> Sequence[Chore]:
    """Return the background loops: the sender, its gauges, the reload of the file, the deletion of old rows.

    The connections to the endpoints are closed when the stack is left.
    """
    allowed = Allowed(addresses.networks(settings.callback_networks))
    poster = await stack.enter_async_context(HttpPoster(allowed, now_ms=now_ms))
    observer = CallbackTelemetry(registry, logger)
    sender = CallbackSender(
        endpoints=lambda: file.endpoints,
        store=store,
        post=poster.post,
        names=settings.event_names,
        observer=observer,
        now_ms=now_ms,
        leads=leads,
        is_clock_trusted=is_clock_trusted,
    )
    return (
        sender.run,
        sender.prune,
        partial(observer.keep_fresh, store, lambda: sender.is_sending),
        partial(file.run, logger, interval_s=settings.key_reload_interval_s),
    )
