"""Composition of a worker: four loops over the log, the store, the locks and the topics of one engine.

The consumer gives every new record its disposition, the sweeper retries held notifications that are due, the replayer
those that an operator wants retried, accepted or discarded by a task, and the relay sends the events that the three
have written. A stop takes them down in the reverse order.

A loop that fails stands alone; the others go on. Sweeper, replayer and relay are restarted in place, with growing waits
(`workers.restarts`). A consumer that fails in a process of its own leaves the consumer group at once, and the process
ends, so that its service manager starts a fresh one; in the embedded engine, whose receiver has to go on, the consumer
is restarted in place too.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from schemas.accounts import Account
from workers import dead_letters
from workers.consumer import Consumer, Source, none_are_settled
from workers.emission import Events
from workers.errors import InfrastructureDown
from workers.fatal_records import BegunNotes, CarefulRetry, FatalRecords, OneInHand
from workers.held_decisions import HeldDecisions
from workers.locks import IdempotencyLocks
from workers.observers import Observers
from workers.outbox_relay import Relay, Relays
from workers.processing import LIMIT_S, Processing, Store
from workers.queries import HeldPort
from workers.record_reader import AccountsFiles, Authenticate
from workers.replays import Replayer, ReplaysPort, Retry
from workers.restarts import Loop, LoopName, RestartedLoop
from workers.settlement.plan import LogRecord
from workers.sweeper import Sweeper, always_leads
from workers.time_limit import TimeLimit
from workers.traces import NOT_TRACED, Tracing


class WorkersStore(Store, HeldPort, ReplaysPort, Protocol):
    """The order store, with the ports of all four loops."""


class Worker:
    """The four loops of one worker. `has_stopped` is set when its consumer has failed for good."""

    def __init__(self, processing: Processing, decisions: HeldDecisions, loops: Sequence[RestartedLoop]) -> None:
        self.processing = processing
        self.decisions = decisions
        self._loops = {loop.name: loop for loop in loops}
        self._running: dict[LoopName, asyncio.Task[None]] = {}

    @property
    def trouble(self) -> str:
        """Why the consumer stands: new records get no disposition. Empty while it works."""
        return self._loops[LoopName.CONSUMER].trouble

    @property
    def loops_trouble(self) -> str:
        """The other loops that failed, and why; empty while all work."""
        others = (loop for loop in self._loops.values() if loop.name is not LoopName.CONSUMER)
        return "; ".join(f"{loop.name} {loop.trouble}" for loop in others if loop.trouble)

    @property
    def has_stopped(self) -> asyncio.Event:
        return self._loops[LoopName.CONSUMER].has_ended

    @property
    def time_limit(self) -> TimeLimit:
        """The limit of reading and deciding, and what runs under it."""
        return self.processing.time_limit

    def start(self) -> None:
        for loop in self._loops.values():
            self._run(loop, None)

    def _run(self, loop: RestartedLoop, error: BaseException | None) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            # Only a mistake cancels the task of a loop. It would end, and nothing would notice.
            if task.cancelled() and not loop.is_stopping:
                self._run(loop, asyncio.CancelledError())

        task = self._running[loop.name] = asyncio.create_task(loop.run(error))
        task.add_done_callback(ended)

    async def stop(self) -> None:
        """Finish the batch in hand and send its events.

        During an outage it ends all the same: the batch is redelivered, and its events stay in the outbox.
        """
        for loop in self._loops.values():
            if loop.name is not LoopName.RELAY:
                loop.stop()
        await asyncio.gather(*(task for name, task in self._running.items() if name is not LoopName.RELAY))
        self._loops[LoopName.RELAY].stop()  # last, so that it sends the events of the last batch
        if LoopName.RELAY in self._running:
            await self._running[LoopName.RELAY]


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
    token: bytes,
    now_ms: Callable[[], int],
    let_go: Callable[[LoopName], Awaitable[None]],
    is_consumer_restarted: bool,
    begun: BegunNotes,
    handling_limit_s: float = LIMIT_S,
    notices: Events | None = None,
    leads: Callable[[], Awaitable[bool]] = always_leads,
    are_settled: Callable[[Sequence[LogRecord]], Awaitable[bool]] = none_are_settled,
    tracing: Tracing = NOT_TRACED,
) -> AsyncIterator[Worker]:
    """Run a worker until the block ends; then it finishes its batch. Close log and store only after that.

    `token` names this worker among the lock holders. `woken` is set when held rows came due early or an event was
    written outside the loops. `notices` are the topics of notices, if they are not among `events`. `leads` returns
    whether sweeping is this worker's turn, `are_settled` whether the store has processed these records. `let_go` is
    called with the name of a loop that has failed: it gives back all that the loop holds. After it a restarted consumer
    polls from its committed offsets again. `begun` keeps the notes on records that may end the process
    (`workers.fatal_records`). Reading a record or deciding a batch is interrupted after `handling_limit_s`.
    """
    processing = Processing(
        accounts=accounts,
        authenticate=authenticate,
        store=store,
        events=events,
        notices=notices,
        observer=observer,
        now_ms=now_ms,
        files=files,
        time_limit=TimeLimit(handling_limit_s, interrupted=observer.interrupted),
        tracing=tracing,
    )
    relay = Relays([Relay(emit, observer=observer) for emit in (processing.emit, processing.emit_notices)])
    one_in_hand = OneInHand()

    def careful(handle: Retry) -> CarefulRetry:
        return CarefulRetry(FatalRecords(begun, one_in_hand, processing.set_aside_row), handle)

    consumer = Consumer(
        source=source,
        locks=locks,
        process=processing.process,
        wake_relay=relay.wake,
        observer=observer,
        token=token,
        are_settled=are_settled,
        fatal=FatalRecords(begun, one_in_hand, processing.set_aside),
        tracing=tracing,
    )
    sweeper = Sweeper(
        parked=store,
        retry=careful(processing.retry),
        wake_relay=relay.wake,
        woken=woken,
        observer=observer,
        now_ms=now_ms,
        leads=leads,
    )
    decisions = HeldDecisions(
        accounts=accounts,
        read=processing.read,
        store=store,
        observer=observer,
        now_ms=now_ms,
        time_limit=processing.time_limit,
        tracing=tracing,
    )
    replayer = Replayer(
        store=store,
        retry=processing.retry,
        decisions=decisions,
        wake_relay=relay.wake,
        observer=observer,
        now_ms=now_ms,
        leads=leads,
        careful=careful,
    )
    loops: dict[LoopName, Loop] = {
        LoopName.CONSUMER: consumer,
        LoopName.SWEEPER: sweeper,
        LoopName.REPLAYER: replayer,
        LoopName.RELAY: relay,
    }
    worker = Worker(
        processing,
        decisions,
        [
            RestartedLoop(
                name,
                loop,
                observer=observer,
                let_go=let_go,
                is_restarted=is_consumer_restarted or name is not LoopName.CONSUMER,
            )
            for name, loop in loops.items()
        ],
    )
    with suppress(InfrastructureDown):
        processing.dead_letters.count_earlier(await dead_letters.recent(store, now_ms=now_ms()))
    with worker.time_limit.watching():
        worker.start()
        try:
            yield worker
        finally:
            await worker.stop()
