"""Where a worker is put together, in order, in one place; taken apart in the reverse order.

The log, the store, the claims and the topics are given: each engine has its own. A worker is three loops: the consumer,
which brings every new record to its disposition; the sweeper, which tries what was parked; the relay, which sends what
the two have written.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from schemas.accounts import Account
from schemas.telemetry import Field
from workers.consumer import Consumer, Source, none_are_settled
from workers.errors import InfrastructureDown, TooManyDeadLetters
from workers.locks import IdempotencyLocks
from workers.log_lines import Logger
from workers.observers import Observers
from workers.outbox_relay import Relay
from workers.processing import Authenticate, Events, Processing, Store
from workers.queries import HeldPort
from workers.settlement.plan import LogRecord
from workers.sweeper import Sweeper, always_leads


class WorkersStore(Store, HeldPort, Protocol):
    """A store as a worker needs it."""


class Worker:
    """A working worker. `trouble` is why it stands still, where it does: somebody has to look."""

    def __init__(
        self, *, processing: Processing, consumer: Consumer, sweeper: Sweeper, relay: Relay, logger: Logger
    ) -> None:
        self.processing = processing
        self.trouble = ""
        self._consumer = consumer
        self._sweeper = sweeper
        self._relay = relay
        self._logger = logger
        self._writing: list[asyncio.Task[None]] = []
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writing = [asyncio.create_task(self._run(loop.run)) for loop in (self._consumer, self._sweeper)]
        self._sending = asyncio.create_task(self._run(self._relay.run))

    async def stop(self) -> None:
        """Finish the batch in hand, and send its events. What is not finished is delivered again, or lies in the
        outbox."""
        self._consumer.stop()
        self._sweeper.stop()
        await asyncio.gather(*self._writing)
        self._relay.stop()
        if self._sending is not None:
            await self._sending

    async def _run(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except TooManyDeadLetters as error:
            self._stand_still(f"stopped after {error}: look at `alipay-notify held list`, then start again")
        except InfrastructureDown as error:
            self._stand_still(str(error))
        except Exception as error:
            # A fault of ours in a loop. Nothing is lost by standing still, and going on blindly could lose something.
            self._logger.error("a loop of the worker failed", **{Field.ERROR: error})
            self._stand_still(f"failed: {type(error).__name__}")

    def _stand_still(self, why: str) -> None:
        self.trouble = why
        self._consumer.stop()
        self._sweeper.stop()
        self._logger.error("the worker stands still", **{Field.ERROR: why})


@asynccontextmanager
async def working(
    *,
    accounts: Mapping[str, Account],
    authenticate: Authenticate,
    source: Source,
    store: WorkersStore,
    locks: IdempotencyLocks,
    events: Events,
    woken: asyncio.Event,
    observer: Observers,
    logger: Logger,
    token: bytes,
    now_ms: Callable[[], int],
    leads: Callable[[], Awaitable[bool]] = always_leads,
    are_settled: Callable[[Sequence[LogRecord]], Awaitable[bool]] = none_are_settled,
) -> AsyncIterator[Worker]:
    """A worker at work; on leaving it finishes its batch, and only then may log and store be closed."""
    processing = Processing(
        accounts=accounts, authenticate=authenticate, store=store, events=events, observer=observer, now_ms=now_ms
    )
    relay = Relay(processing.emit, observer=observer)
    consumer = Consumer(
        source=source,
        locks=locks,
        process=processing.process,
        wake_relay=relay.wake,
        observer=observer,
        token=token,
        are_settled=are_settled,
    )
    sweeper = Sweeper(
        parked=store,
        retry=processing.retry,
        wake_relay=relay.wake,
        woken=woken,
        observer=observer,
        now_ms=now_ms,
        leads=leads,
    )
    worker = Worker(processing=processing, consumer=consumer, sweeper=sweeper, relay=relay, logger=logger)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
