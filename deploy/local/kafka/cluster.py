"""A real Kafka on loopback: one or three combined KRaft nodes, or the cluster that already runs somewhere.

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

from msgspec import Struct

from deploy.local import ports, processes
from deploy.local.directory import Directory
from deploy.local.kafka import health, jars, settings
from deploy.local.kafka.jars import Installation
from deploy.local.kafka.settings import Node
from deploy.local.machine import Machine
from deploy.local.processes import DidNotStart, Plan, Process

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
        seen = await health.brokers(self.bootstrap)
        ours = {broker.node.number for broker in self.brokers}
        return bool(seen) and ours <= {*seen} and await health.coordinates_groups(self.bootstrap)


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
        await kafka.ready(within_s=health.ASK_WITHIN_S * 4)
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
    file.write_text(settings.properties(node, nodes, home / "files", more), encoding="utf-8")
    logging = f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"
    plan = Plan(
        name=f"kafka-{node.number}",
        argv=installed.command(*BROKER_JVM, logging, "kafka.Kafka", str(file)),
        environ=machine.environ,
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
    )

    async def healthy() -> bool:
        return node.number in await health.brokers(f"{ports.LOOPBACK}:{node.client}")

    return Broker(node=node, process=Process(directory, plan, healthy=healthy))


async def _format(directory: Directory, machine: Machine, installed: Installation, nodes: Sequence[Node]) -> None:
    """Prepare the homes that are new; all of a cluster under one id, also where the last run got only half-way."""
    for node in nodes:
        home = _home(directory, node, nodes)
        if (home / "files" / "meta.properties").exists():
            continue
        arguments = ("kafka.tools.StorageTool", "format", "--ignore-formatted")
        naming = ("-t", _cluster_id(directory, nodes), "-c", str(home / "server.properties"))
        plan = Plan(
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
