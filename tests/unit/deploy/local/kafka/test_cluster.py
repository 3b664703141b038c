"""The settings of the brokers' `server.properties`."""

from pathlib import Path

import pytest

from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Node


def properties(nodes: tuple[Node, ...], number: int = 1, **more: str) -> dict[str, str]:
    node = next(node for node in nodes if node.number == number)
    named = {name.replace("_", "."): value for name, value in more.items()}
    lines = cluster.properties(node, nodes, Path("/files"), named).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_three_nodes_keep_three_copies_and_two_acknowledge() -> None:
    file = properties(cluster.nodes_for(3))
    assert file["default.replication.factor"] == file["offsets.topic.replication.factor"] == "3"
    assert file["min.insync.replicas"] == file["transaction.state.log.min.isr"] == "2"


def test_one_node_keeps_one_copy() -> None:
    file = properties(cluster.nodes_for(1))
    assert file["default.replication.factor"] == file["offsets.topic.replication.factor"] == "1"
    assert file["min.insync.replicas"] == "1"


@pytest.mark.parametrize("count", [1, 3])
def test_topics_are_not_auto_created_and_stale_replicas_do_not_lead(count: int) -> None:
    file = properties(cluster.nodes_for(count))
    assert file["auto.create.topics.enable"] == "false"
    assert file["unclean.leader.election.enable"] == "false"


def test_nodes_agree_on_the_voters_and_share_no_port() -> None:
    nodes = cluster.nodes_for(3)
    assert len({properties(nodes, number)["controller.quorum.voters"] for number in (1, 2, 3)}) == 1
    ports = [port for node in nodes for port in (node.client, node.broker, node.controller)]
    assert len({*ports}) == 9


def test_proxy_port_is_advertised_to_clients_but_not_to_brokers() -> None:
    nodes = cluster.nodes_for(3, advertised=(101, 102, 103))
    file = properties(nodes, 2)
    assert f"CLIENT://127.0.0.1:{nodes[1].client}," in file["listeners"]
    assert file["advertised.listeners"] == f"CLIENT://127.0.0.1:102,BROKER://127.0.0.1:{nodes[1].broker}"


def test_advertised_ports_for_only_some_brokers_are_refused() -> None:
    with pytest.raises(ValueError, match="3 brokers, but 1 advertised"):
        cluster.nodes_for(3, advertised=(101,))


def test_broker_settings_of_the_caller_override_ours() -> None:
    assert properties(cluster.nodes_for(3), min_insync_replicas="3")["min.insync.replicas"] == "3"
