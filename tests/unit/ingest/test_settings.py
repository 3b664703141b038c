"""Reading the receiver's settings: from the given mapping, all faults at once, contradictions refused."""

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


def test_accounts_and_public_address_are_read_from_their_variables() -> None:
    read = loaded(HOST="0.0.0.0", PORT="0")
    assert (read.accounts, read.host, read.port) == (Path("a.toml"), "0.0.0.0", 0)


def test_settings_come_from_the_given_mapping_not_from_os_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIPAY_NOTIFY_PORT", "1234")
    assert loaded().port == 8080


def test_option_overrides_environment_unless_it_is_none() -> None:
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


def test_missing_accounts_setting_is_a_fault() -> None:
    with pytest.raises(BadSettings, match="ALIPAY_NOTIFY_ACCOUNTS is not set: path of accounts"):
        settings.load({})


def test_empty_path_is_a_fault_and_never_the_working_directory() -> None:
    for empty in ("", "  ", "\t\n"):
        assert faults(ACCOUNTS=empty) == ["ALIPAY_NOTIFY_ACCOUNTS: is empty: give a path, or remove the variable"]


def test_blanks_alone_are_no_value_of_any_setting() -> None:
    (fault,) = faults(HOST="  ")
    assert fault.startswith("ALIPAY_NOTIFY_HOST: ")


def test_fault_names_the_variable_and_the_valid_range() -> None:
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
    ],
)
def test_contradicting_settings_are_refused(values: dict[str, str]) -> None:
    assert len(faults(**values)) == 1


def test_keepalive_is_10_s_if_exposed_and_65_s_otherwise() -> None:
    assert (loaded().keepalive_s, loaded(EXPOSED="1").keepalive_s) == (65, 10)
    assert loaded(KEEPALIVE_TIMEOUT_S="30").keepalive_s == 30


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded().port = 1
