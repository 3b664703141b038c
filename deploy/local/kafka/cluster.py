"""What a local broker is told: `server.properties`, as production would have it where that can be seen from outside.

Three listeners, because three kinds of callers may be told apart: clients (whose advertised address may be a proxy's,
else they would walk around it), the other brokers, and the controllers. With three nodes everything is kept three
times and acknowledged by two; one node can only be a laptop's.

Whether a Kafka is there: real requests, as a client would send them.

A port that accepts says little about a broker: it may still read its logs, or be alone in its quorum. So it is asked
for the brokers it knows, and for a group's coordinator, which for some seconds after the start is not to be had.

A real Kafka on loopback: one or three combined KRaft nodes, or the cluster that already runs somewhere.

The nodes start one after another, since several JVMs starting at once keep two cores from everything else, and are then
awaited together, since one alone has no quorum. They are stopped together too, but a broker that leaves in good order
asks the controllers for leave, and the last of three would ask in vain: it is killed, and recovers at its next start.

A broker that was killed comes back only when the controllers take it for dead: after `broker.session.timeout.ms`, nine
seconds unless `more` says otherwise.

`ALIPAY_NOTIFY_KAFKA=host:port,…` names a cluster to use instead. Nothing is started then, and nothing stopped.
"""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError
from msgspec import Struct

from deploy.local import ports, processes
from deploy.local.directory import Directory
from deploy.local.kafka import jars
from deploy.local.kafka.jars import Installation
from deploy.local.machine import Machine
from deploy.local.ports import LOOPBACK
from deploy.local.processes import DidNotStart, Process, ProcessSpec


class Node(Struct, frozen=True, kw_only=True):
    """One combined broker and controller, by its ports. `advertised` is where clients are told to find it."""

    number: int
    client: int
    broker: int
    controller: int
    advertised: int


def properties(node: Node, nodes: Sequence[Node], files: Path, more: Mapping[str, str]) -> str:
    """The node's file. What stands in `more` has the last word."""
    told = _who_it_is(node, nodes, files) | _how_safe(len(nodes)) | _how_small() | dict(more)
    return "".join(f"{name}={value}\n" for name, value in told.items())


def _who_it_is(node: Node, nodes: Sequence[Node], files: Path) -> dict[str, str]:
    return {
        "node.id": str(node.number),
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{each.number}@{LOOPBACK}:{each.controller}" for each in nodes),
        "listeners": ",".join(
            f"{name}://{LOOPBACK}:{port}"
            for name, port in (("CLIENT", node.client), ("BROKER", node.broker), ("CONTROLLER", node.controller))
        ),
        "advertised.listeners": f"CLIENT://{LOOPBACK}:{node.advertised},BROKER://{LOOPBACK}:{node.broker}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(files),
    }


def _how_safe(nodes: int) -> dict[str, str]:
    copies = str(min(nodes, 3))
    acknowledged = "2" if nodes >= 3 else "1"
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": acknowledged,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": acknowledged,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": acknowledged,
    }


def _how_small() -> dict[str, str]:
    """What a machine of two cores is spared: threads, partitions of internal topics, buffers, waiting for members."""
    return {
        "num.partitions": "12",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        "log.cleaner.dedupe.buffer.size": str(8 << 20),
        "group.initial.rebalance.delay.ms": "0",
    }


ASK_WITHIN_S = 5.0
PROBE_GROUP = "alipay-notify-probe"  # asked for, never joined


async def brokers(addresses: str) -> Sequence[int]:
    """The brokers that the first of the addresses to answer knows to be up; none where nobody answers."""
    try:
        async with _asked(addresses) as client:
            return tuple(sorted(broker.nodeId for broker in client.cluster.brokers()))
    except (KafkaError, OSError):
        return ()


async def coordinates_groups(addresses: str) -> bool:
    """Whether consumers could join a group now. Asking makes the topic of the groups' offsets where there is none."""
    try:
        async with _asked(addresses) as client:
            await client.coordinator_lookup(CoordinationType.GROUP, PROBE_GROUP)
    except (KafkaError, OSError):
        return False
    return True


@asynccontextmanager
async def _asked(addresses: str) -> AsyncIterator[AIOKafkaClient]:
    """A client that has read the cluster's metadata."""
    there = [address for address in addresses.split(",") if await ports.answers(*ports.parts(address))]
    if not there:  # aiokafka would log an error for each refused connection; while a server starts, that is no error
        raise ConnectionRefusedError(addresses)
    client = AIOKafkaClient(bootstrap_servers=there, request_timeout_ms=int(ASK_WITHIN_S * 1_000))
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()


RUNNING_CLUSTER = "ALIPAY_NOTIFY_KAFKA"
LOGGING = Path(__file__).with_name("log4j2.properties")
# Three of these, with what a JVM needs besides its heap, take a good gigabyte.
BROKER_JVM = ("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")
TOOL_JVM = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1")
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 8.0
ALONE_WITHIN_S = 1.0  # how long the rest may take once the quorum has gone that would let them leave in good order
POLL_S = 0.1


class Broker(Struct, frozen=True, kw_only=True):
    """One node: where clients reach it, and its process to stop, kill, freeze and start again."""

    node: Node
    process: Process

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.node.advertised}"


class Kafka(Struct, frozen=True, kw_only=True):
    """A cluster that answers. `brokers` is empty where it is not ours."""

    bootstrap: str
    brokers: tuple[Broker, ...] = ()

    async def ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Returns when every broker is known to the cluster, and a group finds its coordinator.

        Raises:
            DidNotStart: that does not come about in time.
        """
        try:
            async with asyncio.timeout(within_s):
                while not await self._is_ready():
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DidNotStart(f"the Kafka at {self.bootstrap} was not ready after {within_s:.0f} s") from None

    async def _is_ready(self) -> bool:
        seen = await brokers(self.bootstrap)
        ours = {broker.node.number for broker in self.brokers}
        return bool(seen) and ours <= {*seen} and await coordinates_groups(self.bootstrap)


@asynccontextmanager
async def running(
    directory: Directory,
    machine: Machine,
    *,
    brokers: int = 1,
    nodes: Sequence[Node] = (),
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[Kafka]:
    """A cluster of that many nodes, ready for producers and groups; or the one that the environment names.

    `nodes` are those of `nodes_for`, where somebody has to know their ports before: proxies, which are called as part
    of the health check, or `more`, broker settings that have the last word.

    Raises:
        Missing: Kafka, Java or Maven is not to be had here.
        DidNotStart: a node did not come up, or the running cluster does not answer.
    """
    if named := machine.environ.get(RUNNING_CLUSTER):
        kafka = Kafka(bootstrap=named)
        await kafka.ready(within_s=ASK_WITHIN_S * 4)
        yield kafka
        return
    installed = await jars.installation(machine)
    nodes = tuple(nodes) or nodes_for(brokers)
    started = tuple(_broker(directory, machine, installed, node, nodes, more or {}) for node in nodes)
    kafka = Kafka(bootstrap=",".join(broker.address for broker in started), brokers=started)
    try:
        await _format(directory, machine, installed, nodes)
        await _start(kafka)
        yield kafka
    finally:
        await _stop(started)


def nodes_for(count: int, advertised: Sequence[int] = ()) -> tuple[Node, ...]:
    """That many nodes on free ports."""
    if advertised and len(advertised) != count:
        raise ValueError(f"{count} brokers, and {len(advertised)} advertised ports")
    drawn = ports.free(3 * count)
    clients = drawn[:count]
    return tuple(
        Node(number=number, client=client, broker=broker, controller=controller, advertised=told)
        for number, client, broker, controller, told in zip(
            range(1, count + 1), clients, drawn[count::2], drawn[count + 1 :: 2], advertised or clients, strict=True
        )
    )


def _home(directory: Directory, node: Node, nodes: Sequence[Node]) -> Path:
    # The number of nodes is part of the name: what three have agreed on is no start for one.
    return directory.home(f"kafka-{node.number}-of-{len(nodes)}")


def _broker(
    directory: Directory,
    machine: Machine,
    installed: Installation,
    node: Node,
    nodes: Sequence[Node],
    more: Mapping[str, str],
) -> Broker:
    home = _home(directory, node, nodes)
    file = home / "server.properties"
    file.write_text(properties(node, nodes, home / "files", more), encoding="utf-8")
    logging = f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"
    plan = ProcessSpec(
        name=f"kafka-{node.number}",
        argv=installed.command(*BROKER_JVM, logging, "kafka.Kafka", str(file)),
        environ=machine.environ,
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
    )

    async def healthy() -> bool:
        return node.number in await brokers(f"{ports.LOOPBACK}:{node.client}")

    return Broker(node=node, process=Process(directory, plan, healthy=healthy))


async def _format(directory: Directory, machine: Machine, installed: Installation, nodes: Sequence[Node]) -> None:
    """Prepare the homes that are new; all of a cluster under one id, also where the last run got only half-way."""
    for node in nodes:
        home = _home(directory, node, nodes)
        if (home / "files" / "meta.properties").exists():
            continue
        arguments = ("kafka.tools.StorageTool", "format", "--ignore-formatted")
        naming = ("-t", _cluster_id(directory, nodes), "-c", str(home / "server.properties"))
        plan = ProcessSpec(
            name=f"kafka-{node.number}-format",
            argv=installed.command(*TOOL_JVM, *arguments, *naming),
            environ=machine.environ,
        )
        await processes.finish(directory, plan)


def _cluster_id(directory: Directory, nodes: Sequence[Node]) -> str:
    path = _home(directory, nodes[0], nodes) / "cluster-id"
    if not path.exists():
        # One that began with a dash would be taken for an option.
        drawn = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        path.write_text(drawn.replace("-", "A"), encoding="ascii")
    return path.read_text(encoding="ascii")


async def _start(kafka: Kafka) -> None:
    for broker in kafka.brokers:
        broker.process.spawn()
        # The controller's port opens when most of a node's start is over.
        await broker.process.until(partial(ports.answers, ports.LOOPBACK, broker.node.controller))
    for broker in kafka.brokers:
        await broker.process.ready()
    await kafka.ready()


async def _stop(brokers: Sequence[Broker]) -> None:
    stopping = [asyncio.create_task(broker.process.stop()) for broker in brokers]
    until_no_quorum = len(brokers) // 2 + 1
    for leaving in islice(asyncio.as_completed(stopping), until_no_quorum):
        await leaving
    _, late = await asyncio.wait(stopping, timeout=ALONE_WITHIN_S)
    if late:
        await asyncio.gather(*(broker.process.kill() for broker in brokers))
        await asyncio.wait(late)
