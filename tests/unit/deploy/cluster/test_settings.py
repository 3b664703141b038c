"""What the cluster's processes are told: every fault at once, and secrets that lie in files."""

from pathlib import Path
from typing import Any

import pytest

from deploy.cluster import connections, settings
from deploy.cluster.settings import ClusterSettings, UnreadableFile
from ingest.settings import BadSettings

PREFIX = "ALIPAY_NOTIFY_"


def told(**values: Any) -> ClusterSettings:
    environ = {"ACCOUNTS": "accounts.toml", "KAFKA": "k1:9092, k2:9092"} | values
    return settings.load({PREFIX + name: str(value) for name, value in environ.items() if value is not None})


def test_one_environment_serves_receivers_workers_and_consoles() -> None:
    found = told(PORT=1, POSTGRES="postgresql://db/orders", REDIS="redis://r/0", TOPIC_PREFIX="shop.pay")
    assert (found.port, found.topic_prefix, found.group) == (1, "shop.pay", "alipay-notify")
    assert settings.kafka_address(found) == ["k1:9092", "k2:9092"]
    assert settings.postgres_address(found) == "postgresql://db/orders"
    assert settings.redis_address(found) == "redis://r/0"


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(BadSettings) as refused:
        told(
            ACCOUNTS=None,
            POSTGRES="postgresql://a/b",
            POSTGRES_FILE="x",
            KAFKA_USER="u",
            KAFKA_KEY_FILE="k",
            TOPIC_PREFIX="Pay_ments",
            BODY_DEADLINE_S="3",
        )
    named = "\n".join(refused.value.faults)
    for variable in ("ACCOUNTS", "POSTGRES_FILE", "KAFKA_PASSWORD_FILE", "KAFKA_CERTIFICATE_FILE", "TOPIC_PREFIX"):
        assert PREFIX + variable in named or variable in named
    assert "BODY_DEADLINE_S" in named
    assert len(refused.value.faults) == 6


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "ALIPAY_NOTIFY_POSTGRES is not set"),
        ({"POSTGRES": "mysql://db"}, "does not begin with postgresql://"),
        ({"POSTGRES_FILE": "/nowhere"}, "ALIPAY_NOTIFY_POSTGRES_FILE: /nowhere cannot be read: FileNotFoundError"),
    ],
)
def test_a_store_that_cannot_be_found_is_named_with_its_setting(values: dict[str, str], said: str) -> None:
    with pytest.raises(UnreadableFile, match=said):
        settings.postgres_address(told(**values))


@pytest.mark.parametrize("password", ["s3cret/x", "s3cret#x", "s3cret?x", "s3cret:x/y"])
def test_an_address_that_its_password_makes_unreadable_is_told_of_without_it(password: str) -> None:
    address = f"//notify:{password}@db:5432/orders"
    with pytest.raises(UnreadableFile, match="%2F") as refused:
        settings.postgres_address(told(POSTGRES="postgresql:" + address))
    with pytest.raises(UnreadableFile, match="%2F") as refused_too:
        settings.redis_address(told(REDIS="redis:" + address))
    assert "s3cret" not in str(refused.value) + str(refused_too.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql:///orders?host=/run/postgresql",
        "postgresql://u:a%2Fb@[::1]:5432/orders",
        "postgres://u@db-1:5432,db-2/orders?target_session_attrs=read-write",
    ],
)
def test_every_way_to_name_a_database_is_taken(address: str) -> None:
    assert settings.postgres_address(told(POSTGRES=address)) == address


def test_a_password_is_not_shown() -> None:
    for address in (
        "redis://:s3cret@h/0",
        "postgresql://u:s3/cr@et@h/db",
        "postgresql://h/db?user=u&password=s3cret&x=1",
    ):
        shown = settings.without_password(address)
        assert ("s3" in shown, shown.partition("://")[0]) == (False, address.partition("://")[0])
    assert settings.without_password("postgresql://u:p@h:1/db") == "postgresql://u:…@h:1/db"
    assert settings.without_password("postgresql://u@h:1/db") == "postgresql://u@h:1/db"
    assert "s3cret" not in repr(told(POSTGRES="postgresql://u:s3cret@h", REDIS="redis://:s3cret@h"))


def test_a_password_is_not_sent_as_it_is_to_whom_nobody_has_proved_to_be(tmp_path: Path) -> None:
    plain = {"KAFKA_USER": "u", "KAFKA_PASSWORD_FILE": tmp_path / "password", "KAFKA_MECHANISM": "PLAIN"}
    with pytest.raises(BadSettings, match="PLAIN needs"):
        told(**plain)
    told(**plain, KAFKA_CA_FILE=tmp_path / "ca.pem")


@pytest.mark.parametrize("kafka", ["k1:abc", "PLAINTEXT://k1:9092", "k1:9092;k2:9092", "k1:9092 k2:9092"])
def test_a_broker_that_is_not_host_and_port_is_named(kafka: str) -> None:
    with pytest.raises(UnreadableFile, match=r"KAFKA: .* is not host:port"):
        connections.kafka(told(KAFKA=kafka))


def test_an_address_with_a_password_lies_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "postgres"
    file.write_text("postgresql://u:secret@db/orders\n")
    found = told(POSTGRES_FILE=file)
    assert settings.postgres_address(found) == "postgresql://u:secret@db/orders"
    assert "secret" not in repr(found)


def test_without_redis_there_are_no_claims() -> None:
    assert settings.redis_address(told()) is None


def test_without_brokers_kafka_is_not_to_be_had() -> None:
    with pytest.raises(UnreadableFile, match="ALIPAY_NOTIFY_KAFKA is not set"):
        connections.kafka(told(KAFKA=" , "))


def test_brokers_are_spoken_to_in_the_clear_unless_told_otherwise() -> None:
    assert connections.kafka(told()) == {
        "bootstrap_servers": ["k1:9092", "k2:9092"],
        "security_protocol": "PLAINTEXT",
    }


def test_a_user_and_his_password_go_to_the_brokers(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pa55\n")
    found = connections.kafka(told(KAFKA_USER="notify", KAFKA_PASSWORD_FILE=file))
    assert found["security_protocol"] == "SASL_PLAINTEXT"
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("notify", "pa55")
    assert found["sasl_mechanism"] == "SCRAM-SHA-512"


def test_a_certificate_authority_that_cannot_be_read_is_never_a_reason_to_speak_in_the_clear(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UnreadableFile, match="TLS to Kafka"):
        connections.kafka(told(KAFKA_CA_FILE=tmp_path / "ca.pem"))


def test_receivers_and_workers_with_one_file_have_one_key(tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    file.write_text("x" * 40 + "\n")
    (key,) = connections.receipt_keys(told(RECEIPT_KEY_FILE=file))
    assert (key,) == connections.receipt_keys(told(RECEIPT_KEY_FILE=file))
    assert len(key) == 32
    assert connections.receipt_keys(told()) == ()
    file.write_text("y" * 40 + "\n" + "x" * 40 + "\n")
    assert connections.receipt_keys(told(RECEIPT_KEY_FILE=file))[1:] == (key,)


def test_a_receipt_key_is_a_line_whatever_blanks_are_in_it(tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    file.write_text("correct horse battery staple, and so on\r\n\n" + "x" * 40)
    first, second = connections.receipt_keys(told(RECEIPT_KEY_FILE=file))
    file.write_text("x" * 40 + "\n\ncorrect horse battery staple, and so on ")
    assert connections.receipt_keys(told(RECEIPT_KEY_FILE=file)) == (second, first)


@pytest.mark.parametrize("text", ["short", "", "x" * 40 + "\nshort\n"])
def test_a_receipt_key_that_could_be_guessed_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "receipt"
    file.write_text(text)
    with pytest.raises(UnreadableFile, match="shorter than 32 bytes"):
        connections.receipt_keys(told(RECEIPT_KEY_FILE=file))


def test_no_two_processes_have_one_name() -> None:
    assert connections.name("worker") != connections.name("worker")
