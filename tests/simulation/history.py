"""One history: a few orders are notified, processes die and places fail, then all is well again, and the end is judged.

    sender ─► Publisher ─► log ─► Worker (consumer, sweeper, replayer, relay) ─► order store ─► topics

Publisher and Worker are the product's own; `tests.simulation.ports` has what is around them. All chance comes from the
seed. Alipay's retries come after seconds instead of minutes.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from random import Random
from typing import Any, NamedTuple

from ingest.errors import Unavailable
from ingest.kafka.publisher import Publisher
from ingest.kafka.supervisor import SupervisorTiming
from schemas.accounts import Account
from schemas.events import Outgoing
from schemas.record_format import Record, RecordContents
from tests.simulation import judge, ports
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.ports import (
    Group,
    Log,
    Redis,
    SimulatedBegun,
    SimulatedLocks,
    SimulatedProducer,
    SimulatedSource,
    SimulatedStore,
    SimulatedTopics,
)
from tests.simulation.weather import Killed, Process, Weather
from tests.support import facts, log_records
from tests.support.begun import MemoryBegun
from tests.support.fakes import MemoryLogger, ProducerObserver
from tests.support.histories import HISTORIES
from tests.support.stores import MemoryStore
from workers.app import Worker
from workers.consumer import Consumer
from workers.errors import InfrastructureDown
from workers.fatal_records import CarefulRetry, FatalRecords, OneInHand
from workers.held_decisions import HeldDecisions
from workers.outbox_relay import Relay
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.replays import NewTask, Replayer, Retry
from workers.restarts import Loop, LoopName, RestartedLoop
from workers.settlement import decision
from workers.settlement.plan import Position, Registration
from workers.sweeper import Sweeper

WORKERS = 2
TROUBLE_S = 15.0  # processes die and places fail for so long
LONG_AWAY_S = 60.0
RECOVERED_WITHIN_S = 30.0  # a session that ends, a slow call, and the longest pause of a backoff
QUIET_WITHIN_S = 65.0  # after it: a first retry after 30 s, and the pauses of all loops
RESEND_S = 4.0
FATAL_SHARE = 0.05
SURELY_ENDED_S = 20.0
SET_ASIDE_WITHIN_S = 300.0  # some endings of each copy, each with a session that ends
LOOK_EVERY_S = 10.0
COPIES = 3  # of a notification, each with a notify_time of its own


class Notice(NamedTuple):
    """One notification to send: the account's name, the fact's id, and its copies as records."""

    account: str
    id: str
    records: tuple[Record, ...]

    @property
    def bodies(self) -> set[bytes]:
        """The bytes that Alipay signed, of each copy."""
        return {record.value for record in self.records}


class Seed(NamedTuple):
    """What a history is made of: its number, the faults and the notifications that are left out to make it shorter."""

    number: int
    skip: frozenset[int] = frozenset()
    drop: frozenset[int] = frozenset()


class Verdict(NamedTuple):
    """What was wrong at the end, the faults that happened, and how much happened."""

    wrong: list[str]
    happened: list[tuple[int, str]]
    notices: int


def play(seed: Seed) -> Verdict:
    """Play the history to its end, and judge it."""
    random.seed(seed.number)  # tenacity's jitter
    loop = VirtualLoop()
    unhandled: list[str] = []

    def on_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Killed):
            unhandled.append(f"unhandled: {context.get('exception') or context['message']!r}")

    loop.set_exception_handler(on_unhandled)
    world = World(seed)
    try:
        wrong = loop.run_until_complete(world.run())
    except Stuck as error:
        wrong = [f"stuck: {error}"]
    finally:
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
    return Verdict(wrong + unhandled, world.weather.happened, len(world.notices))


class World:
    """Everything of one history."""

    def __init__(self, seed: Seed) -> None:
        self.chance = Random(seed.number)
        self.weather = Weather(seed.number, share=self.chance.choice((0.0, 0.02, 0.1)), skip=seed.skip)
        self.registered: dict[str, Mapping[str, Any]] = {}
        self.facts: dict[str, list[facts.Fact]] = {}
        chosen = _chosen(self.chance)
        notices = [notice for account, name in chosen for notice in _notices(account, name)]
        self.notices = [notice for index, notice in enumerate(notices) if index not in seed.drop]
        kept = {(notice.account, notice.id) for notice in self.notices}
        for account, name in chosen:
            own = HISTORIES[name]
            self.facts[account] = [fact for fact in own.facts if (account, fact["id"]) in kept]
            if own.registered is not None or account.endswith("registered"):
                self.registered[account] = own.registered or {}
        self.acknowledged: set[tuple[str, str]] = set()
        self.replayed: set[Position] = set()
        self.log = Log()
        self.memory = MemoryStore()
        self.begun = MemoryBegun(surely_s=SURELY_ENDED_S, now_s=lambda: asyncio.get_running_loop().time())
        self.redis = Redis()
        self.sent: list[Outgoing] = []
        self.group = Group(self.log, lambda position: position in self.memory.deliveries)
        self.receiver = Receiver(self)
        self.workers = [WorkerProcess(self, f"worker-{number}") for number in range(WORKERS)]
        # One that ends the process which reads it, each time.
        self.fatal = self.chance.choice(self.notices) if self.notices and self.chance.random() < FATAL_SHARE else None

    async def run(self) -> list[str]:
        await self.receiver.start()
        for worker in self.workers:
            worker.start()
        loop = asyncio.get_running_loop()
        trouble = loop.create_task(self._trouble())
        senders = [loop.create_task(self._register(account)) for account in self.registered]
        senders += [loop.create_task(self._send(notice)) for notice in self.notices]
        await trouble
        if self.fatal is not None:
            await asyncio.sleep(SET_ASIDE_WITHIN_S)
        logged = set(self.log.positions())
        await asyncio.sleep(RECOVERED_WITHIN_S)
        behind = logged - self.memory.deliveries.keys()
        await asyncio.sleep(QUIET_WITHIN_S - RECOVERED_WITHIN_S)
        late = sum(not sender.done() for sender in senders)
        for sender in senders:
            if sender.done():
                sender.result()
        found = judge.wrong(self, late=late, behind=behind)
        # A replay uses up an attempt, so what it retried in vain may wait for minutes. Else nothing waits for a person.
        is_fatal, self.fatal = self.fatal is not None, None  # mended
        before = [] if self.memory.tasks or is_fatal else judge.wrong_orders(self)
        unwoken = self._unwoken()
        await self._replay_all()
        if unwoken - self.memory.held.keys():
            before = []
        if is_fatal:
            await asyncio.sleep(2 * LOOK_EVERY_S)  # its events are sent
        return [*dict.fromkeys(found + before + judge.wrong_orders(self))]

    def _unwoken(self) -> set[Position]:
        """Return the parked rows of orders that are not registered, whose next retry may be minutes away.

        One of them may be a payment that has come by Antom's own number too. It is found at its next retry, and nothing
        wakes it before (`settlement.second_numbers`).
        """
        found: set[Position] = set()
        for position, row in self.memory.held.items():
            kind, _, number = row.waits_for.partition(":")
            order = self.memory.orders.get((row.account, number)) if kind == "order" else None
            if row.attempts and kind == "order" and not (order and order.registered):
                found.add(position)
        return found

    async def _replay_all(self) -> None:
        """Retry all that is held, as a person would after an incident: nothing changes, and nothing happens twice."""
        worker = WorkerProcess(self, "replayer")
        worker.build()
        while rows := [row for position, row in sorted(self.memory.held.items()) if position not in self.replayed]:
            self.replayed.update(row.position for row in rows)
            while True:
                try:
                    await worker.worker.processing.retry(rows)
                    break
                except InfrastructureDown:  # a sweeper wrote first
                    await asyncio.sleep(1.0)

    async def _send(self, notice: Notice) -> None:
        """Send it until it is acknowledged, as Alipay does, and perhaps once more."""
        chance = self.chance
        await asyncio.sleep(chance.uniform(0, TROUBLE_S / 2))
        while True:
            if await self.receiver.receive(chance.choice(notice.records)):
                self.acknowledged.add((notice.account, notice.id))
                if chance.random() < 0.8:
                    return
            await asyncio.sleep(chance.uniform(0.5, 1.5) * RESEND_S)

    async def _register(self, account: str) -> None:
        """Register the account's order, as a merchant's server does."""
        entry = self.registered[account]
        registration = Registration(amounts=facts.amounts(entry), refunds=tuple(entry.get("refunds", ())))
        if account.endswith("any"):  # such an order believes the first amount, so its own has to come before
            self.memory.register_now(account, "A", registration, now_ms=self.now_ms())
            return
        store = SimulatedStore(self.memory, Process("shop"), self.weather)
        await asyncio.sleep(self.chance.uniform(0, TROUBLE_S / 2))
        while True:
            try:
                await store.register(
                    account,
                    "A",
                    registration.refunds,
                    lambda order: decision.register(order, account, "A", registration, now_ms=self.now_ms()),
                )
                return
            except InfrastructureDown:
                await asyncio.sleep(1.0)

    async def _trouble(self) -> None:
        """Let processes die and places fail, and in the end let all be well."""
        loop, chance = asyncio.get_running_loop(), self.chance
        moments = sorted(chance.uniform(0, TROUBLE_S) for _ in range(chance.randint(0, 6)))
        for moment_s in moments:
            await asyncio.sleep(moment_s - loop.time())
            what, act = chance.choice(self._accidents())
            if self.weather.fault(what):
                act()
        await asyncio.sleep(max(0.0, TROUBLE_S - loop.time()))
        if chance.random() < 0.05 and self.weather.fault("store is away for long"):
            self.weather.take_away("store", until_s=loop.time() + LONG_AWAY_S)
            await asyncio.sleep(LONG_AWAY_S)
        self.weather.clear()
        for worker in self.workers:
            worker.process.thaw()

    def _accidents(self) -> list[tuple[str, Callable[[], None]]]:
        chance, now_s = self.chance, asyncio.get_running_loop().time()
        worker = chance.choice(self.workers)
        place, until_s = chance.choice(("log", "store", "redis", "topics")), now_s + chance.uniform(1, 12)
        return [
            (f"{worker.name} is killed", worker.restart),
            (f"{worker.name} is killed", worker.restart),
            (f"{worker.name} stands still", lambda: worker.freeze(chance.uniform(1, 15))),
            (f"{worker.name} is stopped, and started again", worker.roll),
            ("the receiver is killed", self.receiver.restart),
            (f"{place} is away until {until_s:.1f} s", lambda: self.weather.take_away(place, until_s=until_s)),
            ("redis is flushed", self.redis.flush),
            ("held notifications are replayed", self._replay),
        ]

    def _replay(self) -> None:
        new = NewTask(query=HeldQuery(), rate=20, by="ana", why="mended")
        ports.finished(self.memory.start_replay(new, now_ms=self.now_ms()))

    def now_ms(self) -> int:
        return log_records.NOW_MS + int(asyncio.get_running_loop().time() * 1000)


class Receiver:
    """The receiver, run after run: what it acknowledges, it has appended."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process = Process("receiver")
        self._requests: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        world, process = self._world, self._process
        self._publisher = Publisher(
            build=lambda: SimulatedProducer(world.log, process, world.weather, world.chance),
            observer=ProducerObserver(),
            logger=MemoryLogger(),
            timing=SupervisorTiming(tick_s=1.0),
        )
        await self._publisher.start()

    def restart(self) -> None:
        """Kill the process and start it again. Requests in hand get no answer."""
        self._process.kill()
        for request in self._requests:
            request.cancel()
        self._process = Process("receiver")
        _background(self.start())

    async def receive(self, record: Record) -> bool:
        """Return whether the sender reads `success`."""
        request = asyncio.create_task(self._appended(record))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        await asyncio.wait([request])
        return not request.cancelled() and not isinstance(request.exception(), Unavailable)

    async def _appended(self, record: Record) -> None:
        await self._publisher.append(record)


class WorkerProcess:
    """A worker, run after run."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.process = Process(name)
        self._world = world
        self._runs = 0

    def start(self) -> None:
        self.build()
        self.worker.start()

    def build(self) -> None:
        self._runs += 1
        self.process = Process(self.name)
        self.worker = self._built(self.process, b"%s:%d" % (self.name.encode(), self._runs))

    def restart(self) -> None:
        self.process.kill()
        self.start()

    def end(self, process: Process) -> None:
        """End this run, by a fault of memory; the service manager starts another one."""
        process.kill()

        def start() -> None:
            if self.process is process:
                self.start()

        asyncio.get_running_loop().call_later(self._world.chance.uniform(1, 3), start)

    def freeze(self, seconds: float) -> None:
        self.process.freeze()
        asyncio.get_running_loop().call_later(seconds, self.process.thaw)

    def roll(self) -> None:
        """Stop it as SIGTERM does, and start it again."""
        process, worker = self.process, self.worker

        async def stop() -> None:
            await worker.stop()
            self._world.group.leave(process)
            process.kill()

        _background(stop())
        self.start()

    def _built(self, process: Process, token: bytes) -> Worker:
        world = self._world
        store: Any = SimulatedStore(world.memory, process, world.weather)
        observer: Any = Quiet()

        def authenticate(contents: RecordContents, account: Account, *, anew: bool = False) -> bool:
            is_fatal = world.fatal is not None and contents.body in world.fatal.bodies
            if is_fatal and world.weather.fault(f"{self.name} ends at a fatal record"):
                self.end(process)
                raise Killed(self.name)
            return log_records.anybody_signed_this(contents, account, anew=anew)

        processing = Processing(
            accounts=facts.ACCOUNTS,
            authenticate=authenticate,
            store=store,
            events=SimulatedTopics(world.sent, process, world.weather, world.chance),
            observer=observer,
            now_ms=world.now_ms,
            chance=world.chance.random,
        )
        relay = Relay(processing.emit, observer=observer, look_every_s=LOOK_EVERY_S)
        begun = SimulatedBegun(world.begun, process, world.weather, token.decode())
        one_in_hand = OneInHand()
        common: dict[str, Any] = {"wake_relay": relay.wake, "observer": observer}
        # Each worker leads: two that sweep at once must do no harm.
        looking = common | {"now_ms": world.now_ms, "look_every_s": LOOK_EVERY_S}

        def careful(handle: Retry) -> CarefulRetry:
            return CarefulRetry(FatalRecords(begun, one_in_hand, processing.set_aside_row), handle)

        decisions = HeldDecisions(
            accounts=facts.ACCOUNTS, read=processing.read, store=store, observer=observer, now_ms=world.now_ms
        )
        replayer = Replayer(store=store, retry=processing.retry, decisions=decisions, careful=careful, **looking)

        loops: dict[LoopName, Loop] = {
            LoopName.CONSUMER: Consumer(
                source=SimulatedSource(world.group, process, world.weather, world.chance),
                locks=SimulatedLocks(world.redis, process, world.weather),
                process=processing.process,
                token=token,
                are_settled=store.are_settled,
                fatal=FatalRecords(begun, one_in_hand, processing.set_aside),
                **common,
            ),
            LoopName.SWEEPER: Sweeper(parked=store, woken=asyncio.Event(), retry=careful(processing.retry), **looking),
            LoopName.REPLAYER: replayer,
            LoopName.RELAY: relay,
        }
        # Not restarted, so that the judge sees each failure.
        return Worker(
            processing,
            decisions,
            [RestartedLoop(name, loop, observer=observer, is_restarted=False) for name, loop in loops.items()],
        )


class Quiet:
    """An observer that keeps nothing."""

    def settled(self, plan: object, parsed_records: object) -> None: ...
    def emitted(self, events: object) -> None: ...
    def step(self, name: str, seconds: float) -> None: ...
    def lock_outcome(self, outcome: str, count: int) -> None: ...

    def lock_span(self, span: str, seconds: float) -> None: ...
    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None: ...
    def loop_failed(self, *failure: object, **more: object) -> None: ...
    def could_not_let_go(self, loop: LoopName, error: BaseException) -> None: ...
    def task_ended(self, task: object) -> None: ...


_TASKS: set[asyncio.Task[Any]] = set()


def _background(work: Coroutine[Any, Any, None]) -> None:
    async def until_killed() -> None:
        try:
            await work
        except Killed:
            return

    task = asyncio.create_task(until_killed())
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


def _chosen(chance: Random) -> list[tuple[str, str]]:
    """Return one to three (account, history), each account once."""
    names = chance.sample(sorted(HISTORIES), chance.randint(1, 3))
    chosen = {f"{HISTORIES[name].family}-{chance.choice(('any', 'registered'))}": name for name in names}
    return list(chosen.items())


@cache
def _notices(account: str, name: str) -> tuple[Notice, ...]:
    of = facts.account(*account.split("-"))
    return tuple(Notice(account, fact["id"], _copies(fact, of)) for fact in HISTORIES[name].facts)


def _copies(fact: facts.Fact, account: Account) -> tuple[Record, ...]:
    bodies = dict.fromkeys(facts.body(fact, resend=resend) for resend in range(COPIES))
    return tuple(facts.record(body, account, number=_number(fact)) for body in bodies)


def _number(fact: facts.Fact) -> str:
    """Return the number by which a receiver would route it: the same order may then be in two partitions."""
    fields = fact.get("fields") or fact["message"]
    names = ("out_trade_no", "batch_no", "paymentRequestId", "paymentId", "refundRequestId")
    return next(str(fields[name]) for name in names if name in fields)
