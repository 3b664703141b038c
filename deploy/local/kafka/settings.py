"""What a local broker is told: `server.properties`, as production would have it where that can be seen from outside.

Three listeners, because three kinds of callers may be told apart: clients (whose advertised address may be a proxy's,
else they would walk around it), the other brokers, and the controllers. With three nodes everything is kept three
times and acknowledged by two; one node can only be a laptop's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from deploy.local.ports import LOOPBACK


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
