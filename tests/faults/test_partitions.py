"""Packets of one direction are lost between a publisher and its broker: connections hang, and new ones do not open."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import pytest

from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.kafka.cluster import Kafka, Node
from deploy.local.machine import Machine
from tests.faults.apart import Network
from tests.faults.publisher_kit import DEADLINE_S, RECOVERED_S, SHORT_SESSIONS, Kit, Place, until
from tests.faults.wire import Wire, wire
from tests.support import real_servers

GIVEN_UP_S = 60.0
SENDERS = 10
IN_VAIN = "Unable to bootstrap"
Note = Callable[[str, float], None]


class Apart(Place):
    """A broker whose clients come from the far side of a network, without a wire."""

    def __init__(self, kafka: Kafka, network: Network) -> None:
        super().__init__(kafka, kafka.brokers[0].node.client)
        self.network = network

    def wire(self) -> AbstractAsyncContextManager[Wire]:
        return wire(self.port)  # nobody uses it


@pytest.fixture(scope="module")
def place() -> Iterator[Apart]:
    (node,) = cluster.nodes_for(1)

    @asynccontextmanager
    async def running(directory: Directory, machine: Machine) -> AsyncIterator[Apart]:
        more = SHORT_SESSIONS | listeners(node, network)
        async with cluster.running(directory, machine, nodes=[node], more=more) as kafka:
            at = f"{network.near}:{node.client}"
            yield Apart(msgspec.structs.replace(kafka, bootstrap=at), network)

    servers = real_servers.Servers()
    with Network().laid() as network:
        try:
            yield servers.start(running)
        finally:
            servers.end()


def listeners(node: Node, network: Network) -> dict[str, str]:
    """Its clients are sent to its address on the network."""
    return {
        "listeners": f"CLIENT://0.0.0.0:{node.client},BROKER://127.0.0.1:{node.broker},"
        f"CONTROLLER://127.0.0.1:{node.controller}",
        "advertised.listeners": f"CLIENT://{network.near}:{node.client},BROKER://127.0.0.1:{node.broker}",
    }


@pytest.mark.parametrize("way", ["requests", "answers"])
async def test_packets_lost_one_way_acknowledge_nothing_and_cost_seconds(
    kit: Kit, place: Apart, way: str, measured: Note
) -> None:
    network = place.network
    lose = network.lose_to_near if way == "requests" else network.lose_to_far

    async def lost() -> None:
        await until(lambda: len(kit.acknowledged) > 100, GIVEN_UP_S)
        lose()
        try:
            await asyncio.sleep(DEADLINE_S + 1)
            known = len(kit.acknowledged)
            # The supervisor has given the producer up, and no new one can connect.
            await until(lambda: IN_VAIN in (kit.publisher.trouble or ""), GIVEN_UP_S)
            assert len(kit.acknowledged) == known, "nothing can be acknowledged meanwhile"
        finally:
            network.heal()
        measured(f"taken again after lost {way}", await kit.taken_again(3 * RECOVERED_S))

    with network.on_the_far_side():
        await kit.ready()
        await kit.append_while(lost, senders=SENDERS)
        await until(lambda: kit.publisher.in_flight == 0, 2 * RECOVERED_S)
        await kit.nothing_is_missing()
