"""Brokers with TLS and SASL: every client of ours authenticates, or reports the reason."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from deploy.cluster import connections, kafka_admin, settings, topics
from deploy.cluster.topic_check import NotSeen
from deploy.load import topic as load_topic
from deploy.local import ports, processes
from deploy.local.directory import Directory
from deploy.local.kafka import cluster, jars
from deploy.local.kafka.cluster import Kafka, Node
from deploy.local.machine import Machine
from deploy.local.processes import ProcessSpec
from ingest.kafka import producer
from ingest.kafka.publisher import Publisher
from schemas import topics as names
from schemas.events import Outgoing
from schemas.record_format import Record
from tests.support import certificates, real_servers
from tests.support.cluster import until
from tests.support.fakes import GroupObserver, MemoryLogger, ProducerObserver
from tests.support.kafka_topics import QUICK, Settled, read
from workers.kafka import clients
from workers.kafka.events import KafkaEvents
from workers.kafka.source import KafkaSource

USER, PASSWORD = "shop", "correct horse battery staple"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
READ_WITHIN_S = 30.0


class Secured(Struct, frozen=True, kw_only=True):
    """A broker with two more doors: one asks for a password, one for a certificate; both speak TLS."""

    by_password: str
    by_certificate: str
    papers: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    papers = tmp_path_factory.mktemp("papers")
    certificates.issue(papers, "broker", "client")
    papers.joinpath("password").write_text(PASSWORD + "\n")
    papers.joinpath("wrong-password").write_text("incorrect\n")
    password_port, certificate_port = ports.free(2)
    (node,) = cluster.nodes_for(1)
    doors = {"PASSWORD": password_port, "CERTIFICATE": certificate_port}
    servers = real_servers.Servers()
    try:
        starting = partial(cluster.running, nodes=[node], more=more(node, doors, papers))
        kafka = servers.start(starting)
        if not kafka.brokers:
            pytest.skip("NOT TESTED: the broker is not ours to secure")
        servers.start(partial(knowing, kafka))
        yield Secured(
            by_password=f"{ports.LOOPBACK}:{password_port}",
            by_certificate=f"{ports.LOOPBACK}:{certificate_port}",
            papers=papers,
        )
    finally:
        servers.end()


def more(node: Node, doors: dict[str, int], papers: Path) -> dict[str, str]:
    """The broker's additional listeners."""
    ours = {"CLIENT": node.client, "BROKER": node.broker}
    listeners = [f"{name}://{ports.LOOPBACK}:{port}" for name, port in (ours | doors).items()]
    speaks = {"CLIENT": "PLAINTEXT", "BROKER": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    speaks |= {"PASSWORD": "SASL_SSL", "CERTIFICATE": "SSL"}
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        "listeners": ",".join([*listeners, f"CONTROLLER://{ports.LOOPBACK}:{node.controller}"]),
        "advertised.listeners": ",".join(listeners),
        "listener.security.protocol.map": ",".join(f"{name}:{how}" for name, how in speaks.items()),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(papers / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(papers / "ca.pem"),
        "listener.name.certificate.ssl.client.auth": "required",
        "listener.name.password.sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.password.plain.sasl.jaas.config": plain,
        "listener.name.password.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.password.scram-sha-512.sasl.jaas.config": scram,
    }


@asynccontextmanager
async def knowing(kafka: Kafka, directory: Directory, machine: Machine) -> AsyncIterator[None]:
    """The cluster, once it knows the user's password for both ways of proving it without saying it."""
    installed = await jars.installation(machine)
    for mechanism in MECHANISMS[1:]:  # one at a time, or the broker refuses both
        what = ("--alter", "--add-config", f"{mechanism}=[password={PASSWORD}]")
        whose = ("--bootstrap-server", kafka.bootstrap, "--entity-type", "users", "--entity-name", USER)
        argv = installed.command("-Xmx128m", "kafka.admin.ConfigCommand", *what, *whose)
        await processes.finish(directory, ProcessSpec(name=f"kafka-{mechanism}", argv=argv, environ=machine.environ))
    yield


def connection(secured: Secured, *, certificate_of: str = "", mechanism: str = "", **changes: object) -> dict[str, Any]:
    """The client settings for this listener."""
    given: dict[str, object] = {"accounts": "-", "kafka_ca_file": secured.papers / "ca.pem"}
    if certificate_of:
        given |= {
            "kafka": secured.by_certificate,
            "kafka_certificate_file": secured.papers / f"{certificate_of}.crt",
            "kafka_key_file": secured.papers / f"{certificate_of}.key",
        }
    else:
        password = {"kafka_user": USER, "kafka_password_file": secured.papers / "password"}
        given |= {"kafka": secured.by_password, "kafka_mechanism": mechanism or "SCRAM-SHA-512", **password}
    return connections.kafka(settings.load({}, **{**given, **changes}))


DOORS = [{"mechanism": mechanism} for mechanism in MECHANISMS] + [{"certificate_of": "client"}]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: next(iter(door.values())))
async def test_every_client_of_ours_authenticates(secured: Secured, door: dict[str, str]) -> None:
    """Those of topics, of the receiver, of the worker (a group's member, and a producer), and of a load's check."""
    client_settings = connection(secured, **door)
    prefix = f"t{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack_:
        admin = await stack_.enter_async_context(kafka_admin.connected(client_settings))
        for topic in topics.wanted(prefix=prefix, development=True):
            await admin.create(topic)
            await admin.until(topic.name, lambda found, wanted=topic: found.partitions == wanted.partitions)  # type: ignore[misc]

        log = names.named(names.NOTIFICATION, prefix)
        build = producer.factory(client_settings, log, client_id="tests", idempotent=False)
        publisher = Publisher(build=build, observer=ProducerObserver(), logger=MemoryLogger(), deadline_s=10.0)
        stack_.push_async_callback(publisher.stop)
        await publisher.start()
        await until(lambda: publisher.trouble is None, READ_WITHIN_S)
        await publisher.append(Record(b"shop-sg:N1", b"body", (("account", b"shop-sg"),)))

        source = KafkaSource(
            lambda: clients.consumer(client_settings, group=prefix),
            topic=log,
            last_settled=Settled(),
            observer=GroupObserver(),
            limits=QUICK,
        )
        stack_.push_async_callback(source.stop)
        (found,) = await read(source, 1, within_s=READ_WITHIN_S)
        assert (found.record.key, found.record.value) == (b"shop-sg:N1", b"body")
        await source.commit([found.position])

        events = KafkaEvents(lambda: clients.producer(client_settings), named=lambda topic: names.named(topic, prefix))
        stack_.push_async_callback(events.stop)
        sent = Outgoing(id="shop-sg:N1:1", topic=names.ORDER_EVENT, key=b"shop-sg:N1", value=b"{}", headers=())
        await events.publish([sent])
        assert sum((await load_topic.mark(client_settings, names.named(names.ORDER_EVENT, prefix))).values()) == 1


@pytest.mark.parametrize(
    ("door", "reason"),
    [
        ({"kafka_password_file": "wrong-password"}, "invalid credentials with SASL mechanism SCRAM-SHA-512"),
        ({"kafka_user": "nobody"}, "invalid credentials with SASL mechanism SCRAM-SHA-512"),
        ({"kafka_ca_file": "stranger.crt"}, "certificate verify failed"),
        # With TLS 1.3 we think that we are in, and then the broker hangs up.
        ({"certificate_of": "stranger"}, r"127.0.0.1:\d+ closed"),
    ],
    ids=["wrong password", "unknown user", "a broker of strangers", "a certificate of strangers"],
)
# Connections that the library drops without closing them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_rejected_client_is_given_the_reason(secured: Secured, door: dict[str, Any], reason: str) -> None:
    changes = {name: secured.papers / value if name.endswith("_file") else value for name, value in door.items()}
    with pytest.raises(NotSeen, match=reason):
        async with kafka_admin.connected(connection(secured, **changes), within_s=5.0) as admin:
            await admin.found(["any"])
