"""Every metric family of the vocabulary has samples on a running engine's /metrics, once its events have happened."""

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families

from deploy.sandbox import planning, scenario_files
from deploy.sandbox.notifications import SignedDelivery
from deploy.sandbox.world import World
from schemas import telemetry
from tests.acceptance.test_up import post, state
from tests.support import alipay, callback_receivers
from tests.support.callback_receivers import Receiver
from tests.support.processes import Engine, eventually

# Families that only a cluster has (the producer's, the consumer group's), each with its reason.
ONLY_IN_A_CLUSTER: dict[str, str] = {
    "alipay_notify_rebalances": "the journal has one reader, and no group",
    "alipay_notify_consumer_rebuilds": "the journal is read in process: there is no member to replace",
    "alipay_notify_commits_dropped": "no other worker takes over the journal's batches",
    "alipay_notify_partitions_rewound": "the journal's cursor lies in the store, and is restored with it",
    "alipay_notify_producer_rebuilds": "the journal has no producer",
    "alipay_notify_under_replicated_partitions": "the journal has one copy, and no brokers",
}
# Families that need longer than a test, each with its reason and the test that it is in.
LATER: dict[str, str] = {
    "alipay_notify_questions": "needs a gateway that answers: acceptance/test_reconciliation",
    "alipay_notify_recovered": "needs a gateway that answers: acceptance/test_reconciliation",
    "alipay_notify_refused_gives_up_timestamp_seconds": "two refusals, four minutes apart: unit/ingest/test_metrics",
}
GAUGES_WITHIN_S = 15.0  # they are asked for every few seconds


@pytest.fixture
def engine(tmp_path: Path, world: World) -> Iterator[Engine]:
    """An engine that is not started; it ends with the test."""
    engine = with_all_that_is_measured(world, tmp_path / "engine")
    yield engine
    engine.end()


def with_all_that_is_measured(world: World, directory: Path) -> Engine:
    """An engine with an account whose orders are registered, one with a certificate and a retiring algorithm, and a
    callback endpoint at which nobody listens, so that attempts fail and events stay pending.
    """
    text = world.accounts_file.read_text()
    at = text.index("[accounts.demo-cn]")
    text = text[:at] + text[at:].replace('orders = "any"', 'orders = "registered"', 1)
    certificate(world.accounts_file.with_name("alipay.crt"))
    text += '\n[accounts.demo-certified]\nfamily = "openapi"\nsign_type = "RSA2"\napp_id = "2021999900001058"\n'
    text += 'seller_id = "2088999900001058"\ncertificates = ["alipay.crt"]\n'
    world.accounts_file.with_name("older.pem").write_bytes(alipay.pem(alipay.rsa_key()))
    text += '[[accounts.demo-certified.retiring]]\nsign_type = "RSA"\nkeys = ["older.pem"]\nuntil = 2099-01-01\n'
    accounts = world.accounts_file.with_name("measured.toml")
    accounts.write_text(text)
    callbacks = callback_receivers.write_file(accounts.parent, [Receiver("down")])
    return Engine(accounts, directory, ALIPAY_NOTIFY_CALLBACKS=str(callbacks), **callback_receivers.NETWORKS)


def certificate(path: Path) -> None:
    """A certificate as openapi merchants download it, of a key that signs nothing here."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Alipay of the tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def told(world: World, name: str, account: str, order: str, *, at: datetime | None = None) -> SignedDelivery:
    """The first notification of a scenario, at this moment."""
    (course, *_) = planning.Planner(Random(1)).plan(
        scenario_files.load_all()[name],
        world.account(account),
        now=datetime.now(UTC),
        base_url="http://127.0.0.1:1",
        wishes=planning.Wishes(order=order),
    )
    return course.steps[0].job.notification.delivery(at or datetime.now(UTC))


def nonsense(engine: Engine) -> None:
    """Send bytes that are no HTTP to the public port."""
    address = urlsplit(engine.public)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.")


def live(engine: Engine, world: World) -> None:
    """Have everything happen that is counted: paid, parked and woken, held and replayed, forged, late, and no HTTP."""
    assert post(engine, told(world, "paid", "demo-app", "T-1"))[0] == 200
    assert post(engine, told(world, "forged_signature", "demo-app", "T-2"))[0] == 401
    long_ago = datetime.now(UTC) - timedelta(days=60)
    assert post(engine, told(world, "paid", "demo-antom", "T-3", at=long_ago))[0] == 200
    nonsense(engine)

    assert post(engine, told(world, "paid", "demo-cn", "T-4"))[0] == 200
    eventually(lambda: state(engine, "demo-cn", "T-4"))
    engine.put("/api/orders/demo-cn/T-4", {"amount": "12.80", "currency": "CNY"})
    eventually(lambda: state(engine, "demo-cn", "T-4").get("status") == "PAID")

    engine.put("/api/orders/demo-cn/T-5", {"amount": "99.00", "currency": "CNY"})
    assert post(engine, told(world, "paid", "demo-cn", "T-5"))[0] == 200
    (held,) = eventually(lambda: engine.get("/api/held?order=T-5")[1]["held"])
    assert engine.post(f"/api/held/{held['id']}/replay", {"reason": "to see it counted"})[0] == 200


def sampled(engine: Engine) -> set[str]:
    """The families of /metrics that have samples, by their names in the vocabulary."""
    with urlopen(f"{engine.admin}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        names = {family.name for family in families if family.samples}
    return {name.removesuffix("_info") for name in names} | names


def test_every_metric_family_has_samples_after_its_events(world: World, engine: Engine) -> None:
    engine.start()
    live(engine, world)
    expected = {family.name for family in telemetry.CATALOGUE} - ONLY_IN_A_CLUSTER.keys() - LATER.keys()
    deadline = time.monotonic() + GAUGES_WITHIN_S
    while (missing := expected - sampled(engine)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not missing


def test_counters_equal_the_events_that_happened(world: World, engine: Engine) -> None:
    engine.start()
    live(engine, world)
    key = 'alipay_notify_key_verifications_total{account="%s",key_id="%s"}'
    samples = eventually(
        lambda: (seen := engine.metrics()).get('alipay_notify_held_notifications{disposition="quarantined"}') and seen
    )
    assert samples["alipay_notify_http_parse_errors_total"] == 1
    assert samples['alipay_notify_signature_failures_total{account="demo-app",reason="bad_signature"}'] == 1
    assert samples['alipay_notify_stale_request_time_total{account="demo-antom"}'] == 1
    assert samples['alipay_notify_amount_minor_units_total{account="demo-cn",currency="CNY"}'] == 1280
    assert samples['alipay_notify_retries_total{reason="unknown_order",tier="30s"}'] == 1
    assert samples['alipay_notify_replayed_total{result="quarantined"}'] == 1
    assert samples[key % ("demo-certified", "alipay.crt")] == 0
    assert samples["alipay_notify_fenced_writes_total"] == 0
    assert samples["alipay_notify_log_lines_dropped_total"] == 0
