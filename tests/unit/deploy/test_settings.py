"""The embedded engine's settings: the receiver's, the admin port's, and the checks across both."""

from pathlib import Path

import pytest

from deploy import settings
from deploy.cluster.settings import AllSettings
from deploy.settings import AdminSettings, EmbeddedSettings
from ingest.settings import BadSettings, ReceiverSettings


def loaded(**values: str) -> EmbeddedSettings:
    return settings.load({"ALIPAY_NOTIFY_ACCOUNTS": "a.toml"} | {f"ALIPAY_NOTIFY_{k}": v for k, v in values.items()})


def test_the_five_usual_settings_are_read_from_their_variables() -> None:
    read = loaded(DATA_DIR="d", HOST="0.0.0.0", PORT="0", ADMIN_PORT="1")
    assert (read.accounts, read.data_dir, read.host, read.port, read.admin_port) == (
        Path("a.toml"), Path("d"), "0.0.0.0", 0, 1
    )  # fmt: skip


def test_public_and_admin_port_must_differ() -> None:
    with pytest.raises(BadSettings, match="ALIPAY_NOTIFY_PORT and ADMIN_PORT must differ") as bad:
        loaded(PORT="9464")
    assert len(bad.value.faults) == 1


@pytest.mark.parametrize("values", [{"PORT": "9464", "ADMIN_HOST": "::1"}, {"PORT": "0", "ADMIN_PORT": "0"}])
def test_equal_ports_are_accepted_on_different_hosts_or_if_chosen_by_the_system(values: dict[str, str]) -> None:
    loaded(**values)


def test_receiver_faults_are_reported_together_with_admin_faults() -> None:
    with pytest.raises(BadSettings) as bad:
        loaded(ADMIN_PORT="70000", BODY_DEADLINE_S="3", CONNECTIONS_MAX="100")
    named = [fault.partition(":")[0].partition(" ")[0].removeprefix("ALIPAY_NOTIFY_") for fault in bad.value.faults]
    assert named == ["ADMIN_PORT", "BODY_DEADLINE_S", "CONNECTIONS_MAX"]


def test_names_of_events_are_configured_and_never_those_of_alipay() -> None:
    assert loaded(EVENT_TYPE_PREFIX="com.example.pay").event_names.type_prefix == "com.example.pay"
    with pytest.raises(BadSettings, match="EVENT_TYPE_PREFIX must not begin with com") as bad:
        loaded(EVENT_TYPE_PREFIX="com.alipay.notify", SCHEMA_BASE="schemas")
    assert [fault.partition(" ")[0] for fault in bad.value.faults] == [
        "ALIPAY_NOTIFY_EVENT_TYPE_PREFIX", "ALIPAY_NOTIFY_SCHEMA_BASE"
    ]  # fmt: skip


def test_links_of_the_console_are_addresses_for_a_browser() -> None:
    links = loaded(RUNBOOKS_URL="https://wiki.example/runbooks/", GRAFANA_URL="http://127.0.0.1:3000").links
    assert (links.runbooks, links.grafana) == ("https://wiki.example/runbooks", "http://127.0.0.1:3000")
    assert (loaded().links.runbooks, loaded().links.grafana) == ("", "")
    with pytest.raises(BadSettings) as bad:
        loaded(RUNBOOKS_URL="javascript:alert(1)", GRAFANA_URL="grafana")
    assert [fault.partition(":")[0].partition(" ")[0] for fault in bad.value.faults] == [
        "ALIPAY_NOTIFY_RUNBOOKS_URL", "ALIPAY_NOTIFY_GRAFANA_URL"
    ]  # fmt: skip


def test_receiver_and_admin_settings_have_no_field_in_common() -> None:
    assert not ReceiverSettings.model_fields.keys() & AdminSettings.model_fields.keys()


def test_every_field_is_documented_once_and_the_usual_ones_first() -> None:
    names = [*settings.documented(AllSettings)]
    assert sorted(names) == sorted(AllSettings.model_fields)
    assert names[:4] == ["accounts", "data_dir", "host", "port"]
