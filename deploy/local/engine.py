"""The cluster engine on this machine: our processes over given servers, with HAProxy before and Prometheus beside them.

In the order in which things need each other: the accounts and secrets, the schema and the topics, then the processes
together, then the balancer, which takes its receivers for ready until it has asked them, then Prometheus. It ends in
the reverse order, so nothing comes in any more by the time the receivers are told to stop.

The servers may be the local stack's or anybody's: a test may put an engine of its own on servers that others use too,
with a prefix for its topics and a schema for its tables.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.local import haproxy, ports, processes, prometheus, roles
from deploy.local.directory import Directory
from deploy.local.haproxy import Balancer, Behind
from deploy.local.machine import Machine
from deploy.local.processes import Process
from deploy.local.prometheus import Prometheus
from deploy.local.roles import Program, Role
from deploy.local.steps import Steps, Untold
from deploy.sandbox.world import World

PUBLIC_PORT, STATS_PORT, SANDBOX_PORT = 8080, 8404, 8089
CONSOLE_PORT = 9464  # where the commands look for an admin port; the other processes' are the next ones
DRAIN_DELAY_S = 2.0  # HAProxy notices within one second, and a person who stops a stack waits for all of it


class EngineServers(Struct, frozen=True, kw_only=True):
    """Where each is; empty for one that there is none of. How many brokers there are decides what can be promised."""

    kafka: str = ""
    brokers: int = 1
    redis: str = ""
    postgres: str = ""


class EngineSpec(Struct, frozen=True, kw_only=True):
    """Which processes of ours, and what around them. `well_known` is for people: ports that can be remembered."""

    receivers: int = 0
    workers: int = 0
    console: bool = False
    sandbox: bool = False
    balancer: bool = False
    prometheus: bool = False
    well_known: bool = False

    @property
    def is_nothing(self) -> bool:
        return not (self.receivers or self.workers or self.console or self.sandbox or self.prometheus)


class ClusterEngine(Struct, frozen=True, kw_only=True):
    """What was wished for, running."""

    world: World
    receivers: tuple[Role, ...] = ()
    workers: tuple[Role, ...] = ()
    console: Role | None = None
    sandbox: Role | None = None
    balancer: Balancer | None = None
    prometheus: Prometheus | None = None

    @property
    def public_url(self) -> str:
        """Where notifications are sent: to the balancer, or the first receiver; empty where there is neither."""
        before: Sequence[Balancer | Role] = (self.balancer,) if self.balancer else self.receivers
        return before[0].url if before else ""

    def addresses(self) -> dict[str, str]:
        """Where each is found; several of a kind with commas between them."""
        told = {
            "public": self.public_url,
            "receivers": _joined(role.url for role in self.receivers),
            "receivers_admin": _joined(role.admin_url for role in self.receivers),
            "workers": _joined(role.admin_url for role in self.workers),
            "console": self.console.admin_url if self.console else "",
            "sandbox": self.sandbox.url if self.sandbox else "",
            "haproxy": self.balancer.stats_url if self.balancer else "",
            "prometheus": self.prometheus.url if self.prometheus else "",
            "world": str(self.world.directory),
            "accounts": str(self.world.accounts_file),
        }
        return {name: address for name, address in told.items() if address}

    def processes(self) -> list[Process]:
        """Every process of it, in the order of their start."""
        ours = (*self.receivers, *self.workers, self.console, self.sandbox)
        around = (self.balancer, self.prometheus)
        return [each.process for each in (*ours, *around) if each is not None]


class _Places(Struct, frozen=True, kw_only=True):
    """The ports of everything, chosen before anything starts."""

    receivers: Sequence[int]
    receivers_admin: Sequence[int]
    workers: Sequence[int]
    public: int
    stats: int
    console: int
    sandbox: int
    prometheus: int


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    servers: EngineServers,
    wished: EngineSpec,
    *,
    argv: tuple[str, ...] = roles.PROGRAM,
    told: Mapping[str, str] | None = None,
    steps: Steps | None = None,
) -> AsyncIterator[ClusterEngine]:
    """What is wished for over these servers, all of it healthy; schema and topics are brought up to date before.

    `told` are more settings of our processes, by their names in small letters without prefix, with the last word;
    `argv` is how the program is called.

    Raises:
        Missing: HAProxy or Prometheus is not to be had on this machine.
        DidNotStart: something did not come up; nothing of it runs then.
    """
    steps = steps or Untold()
    places = _places(wished)
    world = World.create(
        directory.home("world"),
        gateway_url=f"http://{ports.LOOPBACK}:{places.sandbox}",
        notify_base=f"http://{ports.LOOPBACK}:{places.public}",
    )
    program = Program(argv=argv, told=_settings(directory, servers, wished, world) | dict(told or {}))
    engine = _planned(directory, machine, program, wished, places, world)
    async with AsyncExitStack() as stack:
        await _prepare(directory, machine, program, servers, steps)
        ours = [role for role in (*engine.receivers, *engine.workers, engine.console, engine.sandbox) if role]
        if ours:
            with steps.doing(", ".join(role.name for role in ours)):
                await stack.enter_async_context(roles.together(ours))
        if wished.balancer:
            engine = await _with_balancer(stack, directory, machine, engine, places, steps)
        if wished.prometheus:
            engine = await _with_prometheus(stack, directory, machine, engine, places, steps)
        yield engine


def _places(wished: EngineSpec) -> _Places:
    receivers, workers = wished.receivers, wished.workers
    drawn = iter(ports.free(5 + 2 * receivers + workers))
    wanted = (PUBLIC_PORT, STATS_PORT, CONSOLE_PORT, SANDBOX_PORT, prometheus.PORT)
    public, stats, console, sandbox, metrics = (
        ports.preferred(wanted) if wished.well_known else [next(drawn) for _ in wanted]
    )
    behind = [next(drawn) for _ in range(receivers)]
    if not wished.balancer and behind:
        # Without a balancer the first receiver is what the world is told to send to.
        behind[0] = public
    return _Places(
        receivers=behind,
        receivers_admin=[next(drawn) for _ in range(receivers)],
        workers=[next(drawn) for _ in range(workers)],
        public=public,
        stats=stats,
        console=console,
        sandbox=sandbox,
        prometheus=metrics,
    )


def _settings(directory: Directory, servers: EngineServers, wished: EngineSpec, world: World) -> dict[str, str]:
    """What all processes of the engine are told. Secrets are in files: a process's environment is shown to others."""
    home = directory.home("secrets")
    home.chmod(0o700)
    receipts = home / "receipt-key"
    if not receipts.exists():
        _write(receipts, secrets.token_hex(32))
    settings = {
        "accounts": str(world.accounts_file),
        "receipt_key_file": str(receipts),
        "drain_delay_s": str(DRAIN_DELAY_S if wished.balancer else 0.0),
    }
    if servers.kafka:
        settings["kafka"] = servers.kafka
        settings["development"] = str(servers.brokers < 3).lower()
    if servers.redis:
        settings["redis"] = servers.redis
    if servers.postgres:
        _write(home / "postgres", servers.postgres)
        settings["postgres_file"] = str(home / "postgres")
    return settings


def _planned(
    directory: Directory, machine: Machine, program: Program, wished: EngineSpec, places: _Places, world: World
) -> ClusterEngine:
    """Everything of ours, not started yet."""
    receivers = tuple(
        roles.receiver(directory, machine, program, name=f"ingest-{number}", port=port, admin=admin)
        for number, (port, admin) in enumerate(zip(places.receivers, places.receivers_admin, strict=True), start=1)
    )
    workers = tuple(
        roles.inner(directory, machine, program, command="worker", name=f"worker-{number}", admin=admin)
        for number, admin in enumerate(places.workers, start=1)
    )
    console = roles.inner(directory, machine, program, command="console", name="console", admin=places.console)
    sandbox = roles.sandbox(
        directory,
        machine,
        program,
        port=places.sandbox,
        world=world.directory,
        public=world.notify_base,
        admin=console.admin_url,
    )
    return ClusterEngine(
        world=world,
        receivers=receivers,
        workers=workers,
        console=console if wished.console else None,
        sandbox=sandbox if wished.sandbox else None,
    )


async def _prepare(
    directory: Directory, machine: Machine, program: Program, servers: EngineServers, steps: Steps
) -> None:
    """The schema and the topics, as whoever installs the engine has them made."""
    if servers.postgres:
        with steps.doing("schema"):
            arguments = ("db", "upgrade", "--postgres-file", program.told["postgres_file"])
            await processes.finish(directory, program.plan("migrate", machine, *arguments))
    if servers.kafka:
        with steps.doing("topics"):
            prefix = program.told.get("topic_prefix")
            more = (*(("--topic-prefix", prefix) if prefix else ()), *(("--development",) * (servers.brokers < 3)))
            arguments = ("topics", "apply", "--kafka", servers.kafka, *more, "--yes")
            await processes.finish(directory, program.plan("topics", machine, *arguments))


async def _with_balancer(
    stack: AsyncExitStack, directory: Directory, machine: Machine, engine: ClusterEngine, places: _Places, steps: Steps
) -> ClusterEngine:
    behind = [Behind(public=role.address, admin=role.admin_address) for role in engine.receivers]
    with steps.doing("HAProxy"):
        started = haproxy.balancing(directory, machine, behind, port=places.public, stats_port=places.stats)
        return msgspec.structs.replace(engine, balancer=await stack.enter_async_context(started))


async def _with_prometheus(
    stack: AsyncExitStack, directory: Directory, machine: Machine, engine: ClusterEngine, places: _Places, steps: Steps
) -> ClusterEngine:
    with steps.doing("Prometheus"):
        started = prometheus.running(
            directory, machine, jobs=_jobs(engine), rules=prometheus.shipped_rules(), port=places.prometheus
        )
        return msgspec.structs.replace(engine, prometheus=await stack.enter_async_context(started))


def _jobs(engine: ClusterEngine) -> dict[str, list[str]]:
    """Whom Prometheus asks, by the jobs' names in deploy/prometheus."""
    jobs = {
        "ingest": [role.admin_address for role in engine.receivers],
        "worker": [role.admin_address for role in engine.workers],
        "console": [engine.console.admin_address] if engine.console else [],
        "haproxy": [engine.balancer.stats_address] if engine.balancer else [],
    }
    return {job: addresses for job, addresses in jobs.items() if addresses}


def _joined(addresses: Iterable[str]) -> str:
    return ",".join(addresses)


def _write(path: Path, secret: str) -> None:
    """A file that at no moment anybody else can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret)
