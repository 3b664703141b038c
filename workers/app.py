"""Composition of a worker: four loops over the log, the store, the locks and the topics of one engine.

The consumer gives every new record its disposition, the sweeper retries held notifications that are due, the replayer
those that an operator wants retried, and the relay sends the events that the three have written. A stop takes them down
in the reverse order.
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
from workers.processing import Events, Processing, Store
from workers.queries import HeldPort
from workers.record_reader import AccountsFiles, Authenticate
from workers.replays import Replayer, ReplaysPort
from workers.settlement.plan import LogRecord
from workers.sweeper import Sweeper, always_leads


class WorkersStore(Store, HeldPort, ReplaysPort, Protocol):
    """The order store, with the ports of all four loops."""


class Worker:
    """The four loops of one worker. `trouble` is the reason why the worker stopped by itself; empty while it works."""

    def __init__(
        self,
        *,
        processing: Processing,
        consumer: Consumer,
        sweeper: Sweeper,
        replayer: Replayer,
        relay: Relay,
        logger: Logger,
    ) -> None:
        self.processing = processing
        self.trouble = ""
        self._consumer = consumer
        self._sweeper = sweeper
        self._replayer = replayer
        self._relay = relay
        self._logger = logger
        self._writing: list[asyncio.Task[None]] = []
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writing = [
            asyncio.create_task(self._run(loop.run)) for loop in (self._consumer, self._sweeper, self._replayer)
        ]
        self._sending = asyncio.create_task(self._run(self._relay.run))

    async def stop(self) -> None:
        """Finish the batch in hand and send its events.

        During an outage it ends all the same: the batch is redelivered, and its events stay in the outbox.
        """
        self._consumer.stop()
        self._sweeper.stop()
        self._replayer.stop()
        await asyncio.gather(*self._writing)
        self._relay.stop()  # last, so that it sends the events of the last batch
        if self._sending is not None:
            await self._sending

    async def _run(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except TooManyDeadLetters as error:
            self._stop_writing(f"{error}: check `alipay-notify held list`, fix the cause, then restart the worker")
        except InfrastructureDown as error:
            self._stop_writing(str(error))
        except Exception as error:
            # Our own bug. Stopping loses nothing, because the log keeps the records; going on could.
            self._logger.error("a loop of the worker failed", **{Field.ERROR: error})
            self._stop_writing(f"failed: {type(error).__name__}")

    def _stop_writing(self, why: str) -> None:
        """Stop the loops that write. The relay goes on: their events are durable and have to go out."""
        self.trouble = why
        self._consumer.stop()
        self._sweeper.stop()
        self._replayer.stop()
        self._logger.error("worker stopped", **{Field.ERROR: why})


@asynccontextmanager
async def working(
    *,
    accounts: Mapping[str, Account],
    authenticate: Authenticate,
    files: AccountsFiles | None = None,
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
    """Run a worker until the block ends; then it finishes its batch. Close log and store only after that.

    `token` names this worker among the lock holders. `woken` is set when held rows came due early or an event was
    written outside the loops. `leads` returns whether sweeping is this worker's turn, `are_settled` whether the store
    has processed these records.
    """
    processing = Processing(
        accounts=accounts,
        authenticate=authenticate,
        store=store,
        events=events,
        observer=observer,
        now_ms=now_ms,
        files=files,
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
    replayer = Replayer(
        store=store,
        retry=processing.retry,
        wake_relay=relay.wake,
        observer=observer,
        now_ms=now_ms,
        leads=leads,
    )
    worker = Worker(
        processing=processing, consumer=consumer, sweeper=sweeper, replayer=replayer, relay=relay, logger=logger
    )
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
