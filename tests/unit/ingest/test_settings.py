"""The settings: read from what is given, all faults at once, contradictions refused."""

from pathlib import Path

import pytest

from ingest import settings
from ingest.settings import BadSettings


def loaded(**values: str) -> settings.ReceiverSettings:
    return settings.load({"ALIPAY_NOTIFY_ACCOUNTS": "a.toml"} | {f"ALIPAY_NOTIFY_{k}": v for k, v in values.items()})


def faults(**values: str) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        loaded(**values)
    return bad.value.faults


def test_the_five_that_everybody_sets_have_these_names() -> None:
    read = loaded(DATA_DIR="d", HOST="0.0.0.0", PORT="0", ADMIN_PORT="1")
    assert (read.accounts, read.data_dir, read.host, read.port, read.admin_port) == (
        Path("a.toml"), Path("d"), "0.0.0.0", 0, 1
    )  # fmt: skip


def test_the_environment_of_the_process_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIPAY_NOTIFY_PORT", "1234")
    assert loaded().port == 8080


def test_an_option_stands_above_the_environment_and_an_absent_one_does_not() -> None:
    environ = {"ALIPAY_NOTIFY_ACCOUNTS": "a.toml", "ALIPAY_NOTIFY_PORT": "1"}
    assert settings.load(environ, port=2, host=None).port == 2
    assert settings.load(environ, port=None).port == 1


def test_every_fault_is_reported_at_once() -> None:
    found = faults(PORT="70000", BODY_DEADLINE_S="soon", SHUTDOWN_TIMEOUT_S="1")
    assert [fault.partition(":")[0].partition(" ")[0] for fault in found] == [
        "ALIPAY_NOTIFY_PORT",
        "ALIPAY_NOTIFY_BODY_DEADLINE_S",
        "ALIPAY_NOTIFY_SHUTDOWN_TIMEOUT_S",
    ]


def test_without_accounts_there_is_nothing_to_start() -> None:
    with pytest.raises(BadSettings, match="ALIPAY_NOTIFY_ACCOUNTS is not set: path of accounts"):
        settings.load({})


def test_a_fault_says_what_the_value_must_be() -> None:
    assert faults(BODY_DEADLINE_S="-1") == ["ALIPAY_NOTIFY_BODY_DEADLINE_S: must be greater than 0"]
    (fault,) = faults(PORT="many")
    assert fault.startswith("ALIPAY_NOTIFY_PORT: must be a valid integer")


@pytest.mark.parametrize(
    "values",
    [
        {"BODY_DEADLINE_S": "3"},
        {"CONFIRM_DEADLINE_S": "3"},
        {"KEEPALIVE_TIMEOUT_S": "3"},
        {"EXPOSED": "true", "KEEPALIVE_TIMEOUT_S": "11"},
        {"SHUTDOWN_TIMEOUT_S": "2"},
        {"CONNECTIONS_MAX": "100"},
        {"PORT": "9464"},
    ],
)
def test_settings_that_cannot_both_be_kept_are_refused(values: dict[str, str]) -> None:
    assert len(faults(**values)) == 1


def test_an_exposed_listener_gives_a_header_ten_seconds() -> None:
    assert (loaded().keepalive_s, loaded(EXPOSED="1").keepalive_s) == (65, 10)
    assert loaded(KEEPALIVE_TIMEOUT_S="30").keepalive_s == 30


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded().port = 1
