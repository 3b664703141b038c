"""A cluster engine for a test: real processes with a name of their own, on servers that other tests use too.

Load is sent by `deploy.load`'s open loop until the test has seen enough, and judged by `deploy.load`'s verification:
every order's page and every event of the topic are compared with the requests and their answers.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, overload

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from deploy.load import corpus, generator, judge, origin, topic, verification
from deploy.load.api import Api
from deploy.load.corpus import Mix, Share, SignedRequest
from deploy.load.generator import Call, LoadLimits, Schedule, SendAttempt, Target
from deploy.load.progress import NoProgress
from deploy.load.verification import Verified
from deploy.load.wire import WireAnswer
from deploy.local import engine, ports, processes, roles
from deploy.local.directory import Directory
from deploy.local.engine import ClusterEngine, EngineServers, EngineSpec
from deploy.local.kafka.cluster import Kafka
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.roles import Program, Role
from deploy.sandbox import delivery
from deploy.sandbox.world import SandboxAccount
from schemas import topics
from tests.support import real_servers, tally
from workers.postgres.database import Database
from workers.postgres.database import DatabaseLimits as StoreLimits

PARTITIONS = 12  # of each topic, by `schemas/topics.yaml`
SESSION_S = 6.0  # the minimum of the brokers; the shipped value is longer, and bounds move with it
LOOK_S = 0.02
QUIET_WITHIN_S = 60.0
AGAIN_S_MAX = 3.0
SEED_MAX = 2**32
PAYMENTS = Mix(duplicates=0.1, lifecycles=0.2, forgeries=0.02)

_numbers = itertools.count()


class Cluster(Struct, frozen=True, kw_only=True):
    """A running engine and its servers."""

    engine: ClusterEngine
    directory: Directory
    machine: Machine
    program: Program
    kafka: Kafka
    postgres: Postgres
    dsn: str
    prefix: str

    @property
    def console(self) -> Role:
        assert self.engine.console is not None
        return self.engine.console

    @property
    def ours(self) -> list[Role]:
        """Our own processes."""
        return [*self.engine.receivers, *self.engine.workers, self.console]

    def topic(self, name: str) -> str:
        return topics.named(name, self.prefix)

    async def sql(self, query: str, *args: Any) -> list[Any]:
        """Query the order store on a connection of its own."""
        connection = await asyncpg.connect(self.dsn)
        try:
            found: list[Any] = await connection.fetch(query, *args)
            return found
        finally:
            await connection.close()

    async def one(self, query: str, *args: Any) -> Any:
        """Query one value of the order store."""
        ((value,),) = await self.sql(query, *args)
        return value

    async def command(self, *arguments: str) -> None:
        """Run `alipay-notify …` as an operator would; fail the test if it fails."""
        plan = self.program.spec(f"{arguments[0]}-{next(_numbers)}", self.machine, *arguments)
        await processes.finish(self.directory, plan)

    async def apply_topics(self, prefix: str = "") -> None:
        """Run `topics apply`."""
        more = ("--development",) * (self.program.settings["development"] == "true")
        where = ("--kafka", self.kafka.bootstrap, "--topic-prefix", prefix or self.prefix)
        await self.command("topics", "apply", *where, *more, "--yes")

    async def behind(self) -> int:
        """Return how many records of the log the group has not committed."""
        stranger = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap, group_id=self.prefix, enable_auto_commit=False
        )
        asked = [TopicPartition(self.topic(topics.NOTIFICATION), number) for number in range(PARTITIONS)]
        stranger.assign(asked)
        await stranger.start()
        try:
            ends = await stranger.end_offsets(asked)
            committed = [await stranger.committed(each) or 0 for each in asked]
            return int(sum(ends.values()) - sum(committed))
        finally:
            await stranger.stop()

    async def whole(self) -> None:
        """Thaw and start every process again, and return when all are ready."""
        for role in self.ours:
            role.process.thaw()
            if not role.process.runs:
                role.process.spawn()
        for role in self.ours:
            await role.process.ready()

    def another(self, command: str, name: str, **settings: object) -> Role:
        """One more process of the engine, not started; `settings` override those of the engine."""
        program = msgspec.structs.replace(
            self.program, settings={**self.program.settings, **{each: str(value) for each, value in settings.items()}}
        )
        public, admin = ports.free(2)
        if command == "ingest":
            return roles.receiver(self.directory, self.machine, program, name=name, port=public, admin=admin)
        return roles.inner(self.directory, self.machine, program, command=command, name=name, admin=admin)

    def sending(
        self, *, rate: float, seconds: float, to: str = "", mixed: Mix = PAYMENTS, connections: int = 128
    ) -> "AbstractAsyncContextManager[Sending]":
        """Send load while the block lasts, and at most for so many seconds; see `Sending`."""
        return sending(
            self, to or self.engine.public_url, rate=rate, seconds=seconds, mixed=mixed, connections=connections
        )


Note = Callable[[str, float], None]  # records a figure by its name


@contextmanager
def of_a_module(
    wished: EngineSpec,
    *,
    kafka: Kafka,
    postgres: Postgres,
    redis: Redis | None = None,
    rules: Mapping[str, str] | None = None,
    **settings: str,
) -> Iterator[Cluster]:
    """An engine for the tests of one module; it has an event loop of its own, as each test has."""
    servers = real_servers.Servers()

    def start(directory: Directory, machine: Machine) -> AbstractAsyncContextManager[Cluster]:
        return running(directory, machine, wished, kafka=kafka, postgres=postgres, redis=redis, rules=rules, **settings)

    try:
        yield servers.start(start)
    finally:
        servers.end()


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    wished: EngineSpec,
    *,
    kafka: Kafka,
    postgres: Postgres,
    redis: Redis | None = None,
    rules: Mapping[str, str] | None = None,
    **settings: str,
) -> AsyncIterator[Cluster]:
    """The engine over these servers, ready; `settings` override the defaults, and `rules` those of Prometheus."""
    name = f"t{secrets.token_hex(6)}"
    dsn = f"{postgres.dsn}?search_path={name}"
    await _make_schema(dsn, name)
    shared = {
        "topic_prefix": name,
        "group": name,
        "kafka_session_s": str(SESSION_S),
        **settings,
    }
    servers = EngineServers(
        kafka=kafka.bootstrap,
        brokers=len(kafka.brokers) or 3,
        redis=redis.url if redis else "",
        postgres=dsn,
    )
    async with engine.running(directory, machine, servers, wished, settings=shared, rules=rules) as started:
        all_settings = {
            "accounts": str(started.world.accounts_file),
            "kafka": servers.kafka,
            "postgres": dsn,
            "redis": servers.redis,
            "development": str(servers.brokers < 3).lower(),
            **shared,
        }
        yield Cluster(
            engine=started,
            directory=directory,
            machine=machine,
            program=Program(settings=all_settings),
            kafka=kafka,
            postgres=postgres,
            dsn=dsn,
            prefix=name,
        )


async def _make_schema(dsn: str, name: str) -> None:
    database = await Database.open(dsn, limits=StoreLimits())
    try:
        await database.write(lambda connection: connection.execute(f"CREATE SCHEMA {name}"))
    finally:
        await database.close()


class Supply(Sequence[bytes]):
    """Requests for the open loop. After `end` there are no more than those that it has taken."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._length = len(requests)

    def end(self, taken: int) -> None:
        self._length = taken

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        return self._requests[place]


class Sending:
    """Requests sent at a constant rate and retried as Alipay does, with the outcome of each attempt.

    Moments are by `time.monotonic`.
    """

    def __init__(self, cluster: Cluster, signed: Sequence[SignedRequest], seed: int, host: str, *, rate: float) -> None:
        self.attempts: list[SendAttempt] = []
        self._cluster = cluster
        self._signed = signed
        self._seed = seed
        self._host = host
        self._rate = rate
        self._supply = Supply([one.request for one in signed])
        self._called = 0
        self._is_over = False

    async def run(self, target: Target, limits: LoadLimits) -> None:
        # A schedule begins a moment later, so that connections are there.
        schedule = Schedule(start=time.monotonic() + 0.3, rate=self._rate)
        await generator.run(
            self._supply, target, schedule=schedule, limits=limits, judge=self._is_right, observer=self, retries=self
        )

    def end(self) -> None:
        """Send no new request from now on."""
        self._supply.end(self._called)

    @property
    def ran_dry(self) -> bool:
        """Whether everything that was signed has been sent."""
        return self._called == len(self._signed)

    # generator.LoadObserver

    def dispatched(self, late_s: float) -> None:
        self._called += 1

    def called(self, call: Call) -> None: ...

    def ended(self, attempt: SendAttempt) -> None:
        self.attempts.append(attempt)

    # generator.RetryPolicy

    def delay_s(self, attempt: SendAttempt) -> float | None:
        if self._signed[attempt.index].sent.forged or attempt.outcome == "unsent":
            return None
        return min(0.2 * 2.0 ** min(attempt.number - 1, 10), AGAIN_S_MAX)

    def request(self, index: int, number: int) -> bytes:
        one = self._signed[index]
        # A form's times are whole seconds, and no two attempts of Alipay's have the same one.
        at = datetime.now(UTC) + timedelta(seconds=number)
        return corpus.signed_again(one.request, self._account(index), host=self._host, at=at)

    def _account(self, index: int) -> SandboxAccount:
        return self._cluster.engine.world.account(self._signed[index].sent.account)

    def _is_right(self, index: int, answer: WireAnswer) -> bool:
        """Whether the answer is right: `success` to a genuine request, 401 to a forged one."""
        if self._signed[index].sent.forged:
            return answer.status == 401
        is_antom = self._account(index).identity.product == "antom"
        return delivery.judge(answer.status, answer.body, antom=is_antom)[0] == "ok"

    # outcomes

    def failed(self, *, since: float = 0.0, upto: float = float("inf")) -> list[SendAttempt]:
        """Attempts without the right answer, of those called in this time."""
        return [each for each in self.attempts if each.outcome != "ok" and since <= each.began < upto]

    def succeeded(self, *, since: float = 0.0, upto: float = float("inf")) -> list[SendAttempt]:
        """Acknowledged attempts of those called in this time."""
        return [
            each
            for each in self.attempts
            if each.outcome == "ok" and since <= each.began < upto and not self._signed[each.index].sent.forged
        ]

    def first_success_after(self, moment: float) -> float | None:
        """When the first attempt called after this moment was acknowledged."""
        return min((each.ended for each in self.succeeded(since=moment)), default=None)

    def worst_s(self) -> float:
        """The slowest answer, from the due time of its request."""
        return max(each.ended - each.due for each in self.attempts)

    def acknowledged(self) -> dict[str, int]:
        """The amounts of the orders whose payments were acknowledged, by number."""
        sent = (self._signed[each.index].sent for each in self.succeeded())
        return {each.order: each.amount_minor for each in sent}

    def percentile_s(self, share: float) -> float:
        took = sorted(each.ended - each.due for each in self.attempts)
        return took[min(len(took) - 1, int(len(took) * share))]

    async def judged(self, *, within_s: float = QUIET_WITHIN_S, console: Role | None = None) -> Verified:
        """Verify all orders once the engine is quiet, by this console or the engine's own; fail the test with the
        findings."""
        # A forgery's 401 is right, but no acknowledgement to the ledger.
        attempts = [
            msgspec.structs.replace(each, outcome="refused") if self._signed[each.index].sent.forged else each
            for each in self.attempts
        ]
        orders = judge.orders([one.sent for one in self._signed[: self._called]], attempts)
        touched = {named: order for named, order in orders.items() if order.was_called}
        until = time.monotonic() + within_s
        connection = {"bootstrap_servers": self._cluster.kafka.bootstrap}
        events = topic.feed(connection, self._cluster.topic(topics.ORDER_EVENT), {})
        pages_of = console or self._cluster.console
        async with Api(pages_of.admin_url, until=until) as pages, events as feed:
            verified = await verification.verify(
                touched,
                prefix=f"{corpus.run_name(self._seed)}-",
                pages=pages,
                feed=feed,
                until=until,
                stage=NoProgress(),
            )
        found = [*judge.check_answers(touched.values(), repeated=True), *verified.findings]
        assert found == [], f"{len(found)} findings, the first: {found[:5]}"
        tally.add(self._called)
        return verified


@asynccontextmanager
async def sending(
    cluster: Cluster, to: str, *, rate: float, seconds: float, mixed: Mix, connections: int
) -> AsyncIterator[Sending]:
    """Send load while the block lasts; then finish open requests and retry failed ones until they succeed."""
    host, port = ports.parts(to.removeprefix("http://"))
    seed = secrets.randbelow(SEED_MAX)
    world = cluster.engine.world
    signed = await asyncio.to_thread(
        corpus.make,
        Share(seed=seed),
        total=round(rate * seconds),
        accounts=[world.account(name) for name in origin.verifiable_offline(world)],
        mix=mixed,
        host=f"{host}:{port}",
        now=datetime.now(UTC),
    )
    one = Sending(cluster, signed, seed, f"{host}:{port}", rate=rate)
    limits = LoadLimits(connections=connections, timeout_s=10.0, drain_s=30.0)
    run = asyncio.create_task(one.run(Target(host=host, port=port), limits))
    try:
        yield one
        assert not one.ran_dry, "the load was over before the test was: give it more seconds"
    finally:
        one.end()
        await run


async def until(condition: Callable[[], Any], within_s: float, *, every_s: float = LOOK_S) -> float:
    """How long it took until the condition held; it may be a coroutine function."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return time.monotonic() - began
            await asyncio.sleep(every_s)


async def has_all(role: Role) -> bool:
    """Whether this worker has all partitions."""
    return len(partitions(await metrics(role))) == PARTITIONS


async def share_all(cluster: Cluster) -> bool:
    """Whether each worker has some of the partitions, and together they have all of them."""
    shares = [partitions(await metrics(role)) for role in cluster.engine.workers]
    return all(shares) and sum(map(len, shares)) == PARTITIONS


async def is_ready(role: Role) -> bool:
    return await ports.is_ok(role.admin_port, "/readyz")


async def metrics(role: Role) -> dict[str, float]:
    """Every sample of a process by its name with labels; none if it does not answer."""
    lines = (await ports.body(role.admin_port, "/metrics")).splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def summed(samples: Mapping[str, float], family: str) -> float:
    """All samples of a family together."""
    return sum(value for name, value in samples.items() if name.partition("{")[0] == family)


def partitions(samples: Mapping[str, float]) -> set[int]:
    """The partitions that a worker reads, by its own gauges."""
    marked = (name for name in samples if name.startswith("alipay_notify_consumer_lag_messages{"))
    return {int(name.partition('partition="')[2].partition('"')[0]) for name in marked}
