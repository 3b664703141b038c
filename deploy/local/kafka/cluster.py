"""Run a real Kafka on loopback, as one or three combined KRaft nodes, or use a cluster that already runs.

The brokers' settings are those of production where clients can see them. With three nodes, every record has three
copies and two brokers acknowledge it. A cluster is ready when it knows every node as a broker and a consumer group
finds its coordinator; an open port proves neither.

A killed broker can start again only when the controllers take it for dead: after `broker.session.timeout.ms`, nine
seconds by default.

`ALIPAY_NOTIFY_KAFKA=host:port,…` names a running cluster to use instead. Then nothing is started or stopped. That of a
shell that has sourced a stack's `env` names the brokers of that stack, and no other one uses them.
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

RUNNING_CLUSTER = "ALIPAY_NOTIFY_KAFKA"
OF_STACK = "ALIPAY_NOTIFY_STACK"  # the directory of the stack whose `env` a shell has sourced
LOGGING = Path(__file__).with_name("log4j2.properties")
# Three brokers with these heaps take a good gigabyte together.
BROKER_JVM = ("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")
TOOL_JVM = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1")
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 8.0
ALONE_WITHIN_S = 1.0  # time for the other brokers to stop after the quorum has gone
ASK_WITHIN_S = 5.0
POLL_S = 0.1
PROBE_GROUP = "alipay-notify-probe"  # looked up, never joined


class Node(Struct, frozen=True, kw_only=True):
    """One combined broker and controller, with its ports. `advertised` is the port that clients are sent to."""

    number: int
    client: int
    broker: int
    controller: int
    advertised: int


def properties(node: Node, nodes: Sequence[Node], files: Path, more: Mapping[str, str]) -> str:
    """Return the node's `server.properties`. `more` overrides our settings."""
    settings = _identity(node, nodes, files) | _durability(len(nodes)) | _size() | dict(more)
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _identity(node: Node, nodes: Sequence[Node], files: Path) -> dict[str, str]:
    # Clients, brokers and controllers have a listener each. A client's advertised address may be a proxy's, and only
    # with a listener of their own do the brokers go around it.
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


def _durability(nodes: int) -> dict[str, str]:
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


def _size() -> dict[str, str]:
    """Return settings for a machine of two cores: few threads and internal partitions, small buffers, no wait."""
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


class Broker(Struct, frozen=True, kw_only=True):
    """One node with its process."""

    node: Node
    process: Process

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.node.advertised}"


class Kafka(Struct, frozen=True, kw_only=True):
    """A cluster that answers. `brokers` is empty if we did not start it."""

    bootstrap: str
    brokers: tuple[Broker, ...] = ()

    async def ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the cluster knows every broker, and a group finds its coordinator.

        Raises:
            DidNotStart: the cluster is not ready in time.
        """
        try:
            async with asyncio.timeout(within_s):
                while not await self._is_ready():
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DidNotStart(f"Kafka at {self.bootstrap} was not ready after {within_s:.0f} s") from None

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
    """Run a cluster of that many nodes, ready for producers and groups, or use the one that the environment names.

    `nodes` (from `nodes_for`) let the caller know the ports before the start, for proxies or for `more`. `more` are
    broker settings that override ours.

    Raises:
        Missing: Kafka, Java or Maven is not on this machine and cannot be installed.
        DidNotStart: a node did not start, or the running cluster does not answer.
    """
    named = machine.environ.get(RUNNING_CLUSTER)
    if named and OF_STACK not in machine.environ:
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
    """Return that many nodes on free ports. `advertised` are the ports of proxies in front of them, if any."""
    if advertised and len(advertised) != count:
        raise ValueError(f"{count} brokers, but {len(advertised)} advertised ports")
    drawn = ports.free(3 * count)
    clients = drawn[:count]
    return tuple(
        Node(number=number, client=client, broker=broker, controller=controller, advertised=shown)
        for number, client, broker, controller, shown in zip(
            range(1, count + 1), clients, drawn[count::2], drawn[count + 1 :: 2], advertised or clients, strict=True
        )
    )


def _home(directory: Directory, node: Node, nodes: Sequence[Node]) -> Path:
    # The number of nodes is part of the name, because one node cannot start from the metadata of three.
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
    spec = ProcessSpec(
        name=f"kafka-{node.number}",
        argv=installed.command(*BROKER_JVM, logging, "kafka.Kafka", str(file)),
        environ=machine.environ,
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
    )

    async def healthy() -> bool:
        return node.number in await brokers(f"{ports.LOOPBACK}:{node.client}")

    return Broker(node=node, process=Process(directory, spec, healthy=healthy))


async def _format(directory: Directory, machine: Machine, installed: Installation, nodes: Sequence[Node]) -> None:
    """Format the new nodes' directories with the cluster's id, even if an earlier run was interrupted half-way."""
    for node in nodes:
        home = _home(directory, node, nodes)
        if (home / "files" / "meta.properties").exists():
            continue
        arguments = ("kafka.tools.StorageTool", "format", "--ignore-formatted")
        naming = ("-t", _cluster_id(directory, nodes), "-c", str(home / "server.properties"))
        spec = ProcessSpec(
            name=f"kafka-{node.number}-format",
            argv=installed.command(*TOOL_JVM, *arguments, *naming),
            environ=machine.environ,
        )
        await processes.finish(directory, spec)


def _cluster_id(directory: Directory, nodes: Sequence[Node]) -> str:
    path = _home(directory, nodes[0], nodes) / "cluster-id"
    if not path.exists():
        # An id that begins with a dash would be taken for an option.
        drawn = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        path.write_text(drawn.replace("-", "A"), encoding="ascii")
    return path.read_text(encoding="ascii")


async def _start(kafka: Kafka) -> None:
    # One after another, because several starting JVMs leave two cores no time for anything else. Then they are awaited
    # together, because one node alone has no quorum.
    for broker in kafka.brokers:
        broker.process.spawn()
        # The controller's port opens late in a node's start.
        await broker.process.until(partial(ports.answers, ports.LOOPBACK, broker.node.controller))
    for broker in kafka.brokers:
        await broker.process.ready()
    await kafka.ready()


async def _stop(brokers: Sequence[Broker]) -> None:
    # A stopping broker asks the controllers for a controlled shutdown. Once the quorum has gone, the rest would ask in
    # vain: they are killed, and recover at their next start.
    stopping = [asyncio.create_task(broker.process.stop()) for broker in brokers]
    until_no_quorum = len(brokers) // 2 + 1
    for leaving in islice(asyncio.as_completed(stopping), until_no_quorum):
        await leaving
    _, late = await asyncio.wait(stopping, timeout=ALONE_WITHIN_S)
    if late:
        await asyncio.gather(*(broker.process.kill() for broker in brokers))
        await asyncio.wait(late)


async def brokers(addresses: str) -> Sequence[int]:
    """Return the ids of the live brokers, as the first answering address knows them; none if none answers."""
    try:
        async with _client(addresses) as client:
            return tuple(sorted(broker.nodeId for broker in client.cluster.brokers()))
    except (KafkaError, OSError):
        return ()


async def coordinates_groups(addresses: str) -> bool:
    """Return whether consumers can join a group. Before the first group, asking creates the topic of group offsets."""
    try:
        async with _client(addresses) as client:
            await client.coordinator_lookup(CoordinationType.GROUP, PROBE_GROUP)
    except (KafkaError, OSError):
        return False
    return True


@asynccontextmanager
async def _client(addresses: str) -> AsyncIterator[AIOKafkaClient]:
    """Provide a client that has read the cluster's metadata."""
    answering = [address for address in addresses.split(",") if await ports.answers(*ports.parts(address))]
    if not answering:  # aiokafka logs an error for each refused connection, which is normal while a broker starts
        raise ConnectionRefusedError(addresses)
    client = AIOKafkaClient(bootstrap_servers=answering, request_timeout_ms=int(ASK_WITHIN_S * 1_000))
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()
