"""Run the cluster engine on this machine: our processes over given servers, with HAProxy and Prometheus.

The order of the start: accounts and secrets, schema and topics, our processes together, HAProxy, Alertmanager,
Prometheus. HAProxy comes after the receivers, because it takes them for ready until its first check. The stop is in
reverse, so no request comes in any more when the receivers are asked to stop.

The servers may be those of the local stack or any others. A test can put its own engine on shared servers, with a
prefix for its topics and a schema for its tables.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from msgspec import Struct

from deploy.local import alertmanager, haproxy, ports, processes, prometheus, roles
from deploy.local.alertmanager import Alertmanager
from deploy.local.directory import Directory
from deploy.local.haproxy import Backend, Balancer
from deploy.local.machine import Machine
from deploy.local.processes import Process
from deploy.local.prometheus import Prometheus
from deploy.local.roles import Program, Role
from deploy.local.steps import NoSteps, Steps
from deploy.sandbox.world import World

PUBLIC_PORT, STATS_PORT, SANDBOX_PORT = 8080, 8404, 8089
CONSOLE_PORT = 9464  # the default of the commands' --admin; the other processes get the next ports
DRAIN_DELAY_S = 2.0  # HAProxy notices a draining receiver within one second; a longer delay only makes the stop slow


class EngineServers(Struct, frozen=True, kw_only=True):
    """The servers' addresses; empty if there is no such server. `brokers` decides the topics' durability."""

    kafka: str = ""
    brokers: int = 1
    redis: str = ""
    postgres: str = ""


class EngineSpec(Struct, frozen=True, kw_only=True):
    """The processes of an engine. `well_known`: use the documented ports if they are free. `prometheus` comes with an
    Alertmanager."""

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
    """A running engine with the processes of its spec."""

    world: World
    receivers: tuple[Role, ...] = ()
    workers: tuple[Role, ...] = ()
    console: Role | None = None
    sandbox: Role | None = None
    balancer: Balancer | None = None
    alertmanager: Alertmanager | None = None
    prometheus: Prometheus | None = None

    @property
    def public_url(self) -> str:
        """The URL for notifications: HAProxy's, or the first receiver's; empty if there is neither."""
        public: Sequence[Balancer | Role] = (self.balancer,) if self.balancer else self.receivers
        return public[0].url if public else ""

    def addresses(self) -> dict[str, str]:
        """Return each address by name; several of a kind are separated by commas."""
        addresses = {
            "public": self.public_url,
            "receivers": _joined(role.url for role in self.receivers),
            "receivers_admin": _joined(role.admin_url for role in self.receivers),
            "workers": _joined(role.admin_url for role in self.workers),
            "console": self.console.admin_url if self.console else "",
            "sandbox": self.sandbox.url if self.sandbox else "",
            "haproxy": self.balancer.stats_url if self.balancer else "",
            "prometheus": self.prometheus.url if self.prometheus else "",
            "alertmanager": self.alertmanager.url if self.alertmanager else "",
            "world": str(self.world.directory),
            "accounts": str(self.world.accounts_file),
        }
        return {name: address for name, address in addresses.items() if address}

    def processes(self) -> list[Process]:
        """Return every process, in the order of their start."""
        ours = (*self.receivers, *self.workers, self.console, self.sandbox)
        return [each.process for each in (*ours, self.balancer, self.alertmanager, self.prometheus) if each is not None]


class _Ports(Struct, frozen=True, kw_only=True):
    """The ports of all processes, chosen before any of them starts."""

    receivers: Sequence[int]
    receivers_admin: Sequence[int]
    workers: Sequence[int]
    public: int
    stats: int
    console: int
    sandbox: int
    prometheus: int
    alertmanager: int


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    servers: EngineServers,
    spec: EngineSpec,
    *,
    argv: tuple[str, ...] = roles.PROGRAM,
    settings: Mapping[str, str] | None = None,
    rules: Mapping[str, str] | None = None,
    steps: Steps | None = None,
) -> AsyncIterator[ClusterEngine]:
    """Update schema and topics, then start the engine over these servers. It is healthy inside the context.

    `settings` override our processes' settings, by name in lower case without prefix. `argv` is the command line of
    our program. `rules` replace Prometheus' rules, by file name.

    Raises:
        Missing: HAProxy, Prometheus or Alertmanager is not on this machine and cannot be installed.
        DidNotStart: a process did not start; nothing of the engine runs then.
    """
    steps = steps or NoSteps()
    chosen = _ports(spec)
    world = World.create(
        directory.home("world"),
        gateway_url=f"http://{ports.LOOPBACK}:{chosen.sandbox}",
        notify_base=f"http://{ports.LOOPBACK}:{chosen.public}",
    )
    own = _settings(directory, servers, spec, world) | _peers(chosen)
    program = Program(argv=argv, settings=own | dict(settings or {}))
    engine = _unstarted(directory, machine, program, spec, chosen, world)
    async with AsyncExitStack() as stack:
        await _prepare(directory, machine, program, servers, steps)
        ours = [role for role in (*engine.receivers, *engine.workers, engine.console, engine.sandbox) if role]
        if ours:
            with steps.doing(", ".join(role.name for role in ours)):
                await stack.enter_async_context(roles.together(ours))
        if spec.balancer:
            engine = await _with_balancer(stack, directory, machine, engine, chosen, steps)
        if spec.prometheus:
            engine = await _with_prometheus(stack, directory, machine, engine, chosen, rules, steps)
        yield engine


def _ports(spec: EngineSpec) -> _Ports:
    receivers, workers = spec.receivers, spec.workers
    drawn = iter(ports.free(6 + 2 * receivers + workers))
    wanted = (PUBLIC_PORT, STATS_PORT, CONSOLE_PORT, SANDBOX_PORT, prometheus.PORT, alertmanager.PORT)
    public, stats, console, sandbox, metrics, alerts = (
        ports.preferred(wanted) if spec.well_known else [next(drawn) for _ in wanted]
    )
    own = [next(drawn) for _ in range(receivers)]
    if not spec.balancer and own:
        # Without HAProxy the first receiver has the public port, to which the sandbox sends.
        own[0] = public
    return _Ports(
        receivers=own,
        receivers_admin=[next(drawn) for _ in range(receivers)],
        workers=[next(drawn) for _ in range(workers)],
        public=public,
        stats=stats,
        console=console,
        sandbox=sandbox,
        prometheus=metrics,
        alertmanager=alerts,
    )


def _settings(directory: Directory, servers: EngineServers, spec: EngineSpec, world: World) -> dict[str, str]:
    """Return the settings of all processes. Secrets are in files, because other users can read an environment."""
    receipts = directory.home("secrets") / "receipt-key"
    if not receipts.exists():
        directory.secret(receipts.name, secrets.token_hex(32))
    settings = {
        "accounts": str(world.accounts_file),
        "receipt_key_file": str(receipts),
        "drain_delay_s": str(DRAIN_DELAY_S if spec.balancer else 0.0),
    }
    if servers.kafka:
        settings["kafka"] = servers.kafka
        settings["development"] = str(servers.brokers < 3).lower()
    if servers.redis:
        settings["redis"] = servers.redis
    if servers.postgres:
        settings["postgres_file"] = str(directory.secret("postgres", servers.postgres))
    return settings


def _peers(chosen: _Ports) -> dict[str, str]:
    """Return the setting by which the console finds the receivers and workers."""
    return {"peers": _joined(f"{ports.LOOPBACK}:{port}" for port in (*chosen.receivers_admin, *chosen.workers))}


def _unstarted(
    directory: Directory, machine: Machine, program: Program, spec: EngineSpec, chosen: _Ports, world: World
) -> ClusterEngine:
    """Return the engine with our own processes, which are not started yet."""
    receivers = tuple(
        roles.receiver(directory, machine, program, name=f"ingest-{number}", port=port, admin=admin)
        for number, (port, admin) in enumerate(zip(chosen.receivers, chosen.receivers_admin, strict=True), start=1)
    )
    workers = tuple(
        roles.inner(directory, machine, program, command="worker", name=f"worker-{number}", admin=admin)
        for number, admin in enumerate(chosen.workers, start=1)
    )
    console = roles.inner(directory, machine, program, command="console", name="console", admin=chosen.console)
    sandbox = roles.sandbox(
        directory,
        machine,
        program,
        port=chosen.sandbox,
        world=world.directory,
        public=world.notify_base,
        admin=console.admin_url,
    )
    return ClusterEngine(
        world=world,
        receivers=receivers,
        workers=workers,
        console=console if spec.console else None,
        sandbox=sandbox if spec.sandbox else None,
    )


async def _prepare(
    directory: Directory, machine: Machine, program: Program, servers: EngineServers, steps: Steps
) -> None:
    """Update the schema and the topics with our own commands, as an operator would."""
    if servers.postgres:
        with steps.doing("schema"):
            arguments = ("db", "upgrade", "--postgres-file", program.settings["postgres_file"])
            await processes.finish(directory, program.spec("migrate", machine, *arguments))
    if servers.kafka:
        with steps.doing("topics"):
            prefix = program.settings.get("topic_prefix")
            more = (*(("--topic-prefix", prefix) if prefix else ()), *(("--development",) * (servers.brokers < 3)))
            arguments = ("topics", "apply", "--kafka", servers.kafka, *more, "--yes")
            await processes.finish(directory, program.spec("topics", machine, *arguments))


async def _with_balancer(
    stack: AsyncExitStack, directory: Directory, machine: Machine, engine: ClusterEngine, chosen: _Ports, steps: Steps
) -> ClusterEngine:
    backends = [Backend(public=role.address, admin=role.admin_address) for role in engine.receivers]
    with steps.doing("HAProxy"):
        started = haproxy.balancing(directory, machine, backends, port=chosen.public, stats_port=chosen.stats)
        return msgspec.structs.replace(engine, balancer=await stack.enter_async_context(started))


async def _with_prometheus(
    stack: AsyncExitStack,
    directory: Directory,
    machine: Machine,
    engine: ClusterEngine,
    chosen: _Ports,
    rules: Mapping[str, str] | None,
    steps: Steps,
) -> ClusterEngine:
    with steps.doing("Alertmanager"):
        alerting = alertmanager.running(directory, machine, port=chosen.alertmanager)
        engine = msgspec.structs.replace(engine, alertmanager=await stack.enter_async_context(alerting))
    assert engine.alertmanager is not None
    with steps.doing("Prometheus"):
        started = prometheus.running(
            directory,
            machine,
            jobs=_jobs(engine),
            port=chosen.prometheus,
            alertmanager=engine.alertmanager.address,
            rules=rules,
        )
        return msgspec.structs.replace(engine, prometheus=await stack.enter_async_context(started))


def _jobs(engine: ClusterEngine) -> dict[str, list[str]]:
    """Return the addresses that Prometheus scrapes, by the job names in deploy/prometheus."""
    jobs = {
        "ingest": [role.admin_address for role in engine.receivers],
        "worker": [role.admin_address for role in engine.workers],
        "console": [engine.console.admin_address] if engine.console else [],
        "haproxy": [engine.balancer.stats_address] if engine.balancer else [],
    }
    return {job: addresses for job, addresses in jobs.items() if addresses}


def _joined(addresses: Iterable[str]) -> str:
    return ",".join(addresses)
