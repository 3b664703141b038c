"""The brokers' certificate expires under a running cluster, and is renewed: no notification goes to them in the clear.

A broker of its own, whose clients speak TLS through a wire that cuts their connections; PostgreSQL and Redis, which
other tests use too.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

from deploy.local import ports
from deploy.local.directory import Directory
from deploy.local.engine import EngineSpec
from deploy.local.kafka import cluster as kafkas
from deploy.local.kafka.cluster import Kafka, Node
from deploy.local.machine import Machine
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.roles import Role
from tests.faults.wire import Wire, wire
from tests.support import certificates, kafka_brokers, real_servers
from tests.support import cluster as clusters
from tests.support.cluster import Cluster, Note, is_ready, until

WISHED = EngineSpec(receivers=1, workers=1, console=True)
PER_S = 10
BACK_S = 10.0
NOTICED_S = 60.0
REFUSED = 20
EXPIRED = "certificate verify failed: certificate has expired"
UNREACHED = "no broker answers"


class Secured(msgspec.Struct, frozen=True):
    """A cluster over TLS, the papers of its broker, and the wire to it."""

    cluster: Cluster
    papers: Path
    line: Wire

    async def renew(self, ends: timedelta) -> None:
        certificates.renew(self.papers, "broker", ends=ends)
        file = self.papers / "broker.pem"
        await kafka_brokers.read_certificate_again(self.cluster.kafka.bootstrap, listener="SECURED", file=file)


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, local_postgres: Postgres, local_redis: Redis
) -> Iterator[Secured]:
    papers = tmp_path_factory.mktemp("papers")
    certificates.issue(papers, "broker")
    port, shown = ports.free(2)
    (node,) = kafkas.nodes_for(1)

    @asynccontextmanager
    async def running(directory: Directory, machine: Machine) -> AsyncIterator[Secured]:
        async with (
            kafkas.running(directory, machine, nodes=[node], more=listeners(node, port, shown, papers)) as kafka,
            wire(port, at=shown) as line,
            clusters.running(
                directory,
                machine,
                WISHED,
                kafka=Kafka(bootstrap=f"{ports.LOOPBACK}:{shown}", brokers=kafka.brokers),
                postgres=local_postgres,
                redis=local_redis,
                kafka_ca_file=str(papers / "ca.pem"),
            ) as one,
        ):
            # The test itself asks the broker without TLS.
            yield Secured(msgspec.structs.replace(one, kafka=kafka), papers, line)

    servers = real_servers.Servers()
    try:
        yield servers.start(running)
    finally:
        servers.end()


def listeners(node: Node, port: int, shown: int, papers: Path) -> dict[str, str]:
    """A further listener, which speaks TLS; clients are sent to the wire in front of it."""
    ours = {"CLIENT": node.client, "BROKER": node.broker}
    listening = [f"{name}://{ports.LOOPBACK}:{at}" for name, at in ({**ours, "SECURED": port}).items()]
    speaks = {"CLIENT": "PLAINTEXT", "BROKER": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "SECURED": "SSL"}
    return {
        "listeners": ",".join([*listening, f"CONTROLLER://{ports.LOOPBACK}:{node.controller}"]),
        "advertised.listeners": ",".join([*listening[:-1], f"SECURED://{ports.LOOPBACK}:{shown}"]),
        "listener.security.protocol.map": ",".join(f"{name}:{how}" for name, how in speaks.items()),
        "listener.name.secured.ssl.keystore.type": "PEM",
        "listener.name.secured.ssl.keystore.location": str(papers / "broker.pem"),
    }


async def test_expired_certificate_stops_acknowledgements_until_it_is_renewed(secured: Secured, measured: Note) -> None:
    cluster, (receiver,) = secured.cluster, secured.cluster.engine.receivers
    deceived = cluster.another("ingest", "ingest-deceived", kafka=cluster.kafka.bootstrap)
    deceived.process.spawn()  # its brokers speak no TLS, as if somebody were in between
    try:
        async with cluster.sending(rate=PER_S, seconds=240) as load:
            await until(lambda: len(load.succeeded()) > PER_S, NOTICED_S)
            await secured.renew(-certificates.DAY)
            secured.line.reset_after = 0  # connections that are open do not notice the new one
            await until(lambda: is_unready(receiver), NOTICED_S)
            secured.line.reset_after = None
            await until(lambda: EXPIRED in receiver.process.output(), NOTICED_S)
            refused_from = time.monotonic()
            await until(lambda: len(load.failed(since=refused_from)) > REFUSED, NOTICED_S)
            assert load.succeeded(since=refused_from) == []
            assert EXPIRED in await told(receiver)
            renewed_at = time.monotonic()
            await secured.renew(30 * certificates.DAY)
            await until(lambda: load.first_success_after(renewed_at), 60)
            await until(lambda: is_ready(receiver), 60)
        await load.judged()
        assert await ports.answers(ports.LOOPBACK, deceived.port)
        assert await is_unready(deceived)
        assert UNREACHED in deceived.process.output()
    finally:
        await deceived.process.stop()
    back_s = (load.first_success_after(renewed_at) or 0.0) - renewed_at
    measured("first success after the renewal", back_s)
    assert back_s < BACK_S
    assert {each.status for each in load.failed()} == {503}


async def told(role: Role) -> str:
    """What its readiness says, ready or not."""
    async with ClientSession() as http, http.get(f"{role.admin_url}/readyz?verbose") as answer:
        return await answer.text()


async def is_unready(role: Role) -> bool:
    return not await is_ready(role)
