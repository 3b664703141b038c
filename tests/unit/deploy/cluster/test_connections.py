"""Connection parameters for Kafka, receipt keys and process names, from the settings."""

from pathlib import Path
from typing import Any

import pytest

from deploy.cluster import connections, settings
from deploy.cluster.settings import ClusterSettings, UnreadableFile

PREFIX = "ALIPAY_NOTIFY_"


def configured(**values: Any) -> ClusterSettings:
    environ = {"ACCOUNTS": "accounts.toml", "KAFKA": "k1:9092, k2:9092"} | values
    return settings.load({PREFIX + name: str(value) for name, value in environ.items() if value is not None})


@pytest.mark.parametrize("kafka", ["k1:abc", "PLAINTEXT://k1:9092", "k1:9092;k2:9092", "k1:9092 k2:9092"])
def test_broker_that_is_not_host_and_port_is_refused(kafka: str) -> None:
    with pytest.raises(UnreadableFile, match=r"KAFKA: .* is not host:port"):
        connections.kafka(configured(KAFKA=kafka))


def test_missing_kafka_setting_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="ALIPAY_NOTIFY_KAFKA is not set"):
        connections.kafka(configured(KAFKA=" , "))


def test_connection_is_plaintext_by_default() -> None:
    assert connections.kafka(configured()) == {
        "bootstrap_servers": ["k1:9092", "k2:9092"],
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_user_and_password_are_part_of_the_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pa55\n")
    found = connections.kafka(configured(KAFKA_USER="notify", KAFKA_PASSWORD_FILE=file))
    assert found["security_protocol"] == "SASL_PLAINTEXT"
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("notify", "pa55")
    assert found["sasl_mechanism"] == "SCRAM-SHA-512"


def test_unreadable_ca_file_is_refused_instead_of_connecting_in_plaintext(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UnreadableFile, match="TLS to Kafka"):
        connections.kafka(configured(KAFKA_CA_FILE=tmp_path / "ca.pem"))


def test_one_receipt_key_file_gives_the_same_keys_to_all_processes(tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    file.write_text("x" * 40 + "\n")
    (key,) = connections.receipt_keys(configured(RECEIPT_KEY_FILE=file))
    assert (key,) == connections.receipt_keys(configured(RECEIPT_KEY_FILE=file))
    assert len(key) == 32
    assert connections.receipt_keys(configured()) == ()
    file.write_text("y" * 40 + "\n" + "x" * 40 + "\n")
    assert connections.receipt_keys(configured(RECEIPT_KEY_FILE=file))[1:] == (key,)


def test_receipt_key_is_a_whole_line_with_its_inner_spaces(tmp_path: Path) -> None:
    file = tmp_path / "receipt"
    file.write_text("correct horse battery staple, and so on\r\n\n" + "x" * 40)
    first, second = connections.receipt_keys(configured(RECEIPT_KEY_FILE=file))
    file.write_text("x" * 40 + "\n\ncorrect horse battery staple, and so on ")
    assert connections.receipt_keys(configured(RECEIPT_KEY_FILE=file)) == (second, first)


@pytest.mark.parametrize("text", ["short", "", "x" * 40 + "\nshort\n"])
def test_short_receipt_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "receipt"
    file.write_text(text)
    with pytest.raises(UnreadableFile, match="shorter than 32 bytes"):
        connections.receipt_keys(configured(RECEIPT_KEY_FILE=file))


def test_process_names_are_unique() -> None:
    assert connections.name("worker") != connections.name("worker")
