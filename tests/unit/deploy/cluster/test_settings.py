"""The cluster's settings: all faults at once, addresses and secrets from files."""

from pathlib import Path
from typing import Any

import pytest

from deploy.cluster import settings
from deploy.cluster.settings import ClusterSettings, UnreadableFile
from ingest.settings import BadSettings

PREFIX = "ALIPAY_NOTIFY_"


def configured(**values: Any) -> ClusterSettings:
    environ = {"ACCOUNTS": "accounts.toml", "KAFKA": "k1:9092, k2:9092"} | values
    return settings.load({PREFIX + name: str(value) for name, value in environ.items() if value is not None})


def test_one_environment_configures_receivers_workers_and_consoles() -> None:
    found = configured(PORT=1, POSTGRES="postgresql://db/orders", REDIS="redis://r/0", TOPIC_PREFIX="shop.pay")
    assert (found.port, found.topic_prefix, found.group) == (1, "shop.pay", "alipay-notify")
    assert settings.kafka_address(found) == ["k1:9092", "k2:9092"]
    assert settings.postgres_address(found) == "postgresql://db/orders"
    assert settings.redis_address(found) == "redis://r/0"


def test_all_faults_of_all_parts_are_reported_at_once() -> None:
    with pytest.raises(BadSettings) as refused:
        configured(
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


@pytest.mark.parametrize("name", [name for name in ClusterSettings.model_fields if name.endswith("_file")])
def test_variable_for_a_file_that_lost_its_value_is_refused(name: str) -> None:
    with pytest.raises(BadSettings) as refused:
        configured(**{name.upper(): ""})
    assert any(fault.startswith(f"{PREFIX}{name.upper()}: is empty") for fault in refused.value.faults)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "ALIPAY_NOTIFY_POSTGRES is not set"),
        ({"POSTGRES": "mysql://db"}, "does not begin with postgresql://"),
        ({"POSTGRES_FILE": "/nowhere"}, "ALIPAY_NOTIFY_POSTGRES_FILE: /nowhere cannot be read: FileNotFoundError"),
    ],
)
def test_unusable_postgres_address_is_refused_with_its_variable(values: dict[str, str], message: str) -> None:
    with pytest.raises(UnreadableFile, match=message):
        settings.postgres_address(configured(**values))


@pytest.mark.parametrize("password", ["s3cret/x", "s3cret#x", "s3cret?x", "s3cret:x/y"])
def test_unreadable_address_is_refused_without_quoting_the_password(password: str) -> None:
    address = f"//notify:{password}@db:5432/orders"
    with pytest.raises(UnreadableFile, match="%2F") as refused:
        settings.postgres_address(configured(POSTGRES="postgresql:" + address))
    with pytest.raises(UnreadableFile, match="%2F") as refused_too:
        settings.redis_address(configured(REDIS="redis:" + address))
    assert "s3cret" not in str(refused.value) + str(refused_too.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql:///orders?host=/run/postgresql",
        "postgresql://u:a%2Fb@[::1]:5432/orders",
        "postgres://u@db-1:5432,db-2/orders?target_session_attrs=read-write",
    ],
)
def test_valid_postgres_addresses_are_accepted_unchanged(address: str) -> None:
    assert settings.postgres_address(configured(POSTGRES=address)) == address


def test_addresses_are_shown_without_their_passwords() -> None:
    for address in (
        "redis://:s3cret@h/0",
        "postgresql://u:s3/cr@et@h/db",
        "postgresql://h/db?user=u&password=s3cret&x=1",
    ):
        shown = settings.without_password(address)
        assert ("s3" in shown, shown.partition("://")[0]) == (False, address.partition("://")[0])
    assert settings.without_password("postgresql://u:p@h:1/db") == "postgresql://u:…@h:1/db"
    assert settings.without_password("postgresql://u@h:1/db") == "postgresql://u@h:1/db"
    assert "s3cret" not in repr(configured(POSTGRES="postgresql://u:s3cret@h", REDIS="redis://:s3cret@h"))


def test_mechanism_plain_requires_tls(tmp_path: Path) -> None:
    plain = {"KAFKA_USER": "u", "KAFKA_PASSWORD_FILE": tmp_path / "password", "KAFKA_MECHANISM": "PLAIN"}
    with pytest.raises(BadSettings, match="PLAIN needs"):
        configured(**plain)
    configured(**plain, KAFKA_CA_FILE=tmp_path / "ca.pem")


def test_address_is_read_from_its_file_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "postgres"
    file.write_text("postgresql://u:secret@db/orders\n")
    found = configured(POSTGRES_FILE=file)
    assert settings.postgres_address(found) == "postgresql://u:secret@db/orders"
    assert "secret" not in repr(found)


def test_redis_address_is_none_if_unset() -> None:
    assert settings.redis_address(configured()) is None


def test_peers_are_names_or_addresses_with_a_port() -> None:
    assert settings.peer_addresses(configured()) == []
    found = settings.peer_addresses(configured(PEERS="ingest-1:9464, 127.0.0.1:1,[::1]:65535,"))
    assert found == [("ingest-1", 9464), ("127.0.0.1", 1), ("::1", 65535)]


@pytest.mark.parametrize(
    "text", ["ingest-1", ":9464", "ingest-1:0", "ingest-1:70000", "http://ingest-1:9464", "a b:1x"]
)
def test_peer_without_a_usable_port_is_refused(text: str) -> None:
    with pytest.raises(UnreadableFile, match="PEERS"):
        settings.peer_addresses(configured(PEERS=text))


def test_address_in_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "postgres"
    with pytest.raises(UnreadableFile, match="POSTGRES_FILE"):
        settings.rotating_postgres_address(configured(POSTGRES_FILE=file))
    file.write_text("postgresql://u:first@db/orders\n")
    address = settings.rotating_postgres_address(configured(POSTGRES_FILE=file))
    file.write_text("postgresql://u:second@db/orders\n")
    assert address() == "postgresql://u:second@db/orders"
