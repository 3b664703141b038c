"""`ingest`, `worker` and `console`: options, settings and the process that each command runs."""

from collections.abc import Callable
from typing import Any

import pytest

from deploy.cli import launch, roles
from tests.unit.deploy.cli.commands import run

ENVIRON = {
    "ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml",
    "ALIPAY_NOTIFY_KAFKA": "k1:9092",
    "ALIPAY_NOTIFY_POSTGRES": "postgresql://orders@db/orders",
    "ALIPAY_NOTIFY_LOG_QUEUE_MAX": "123",
}
ROLES = ("ingest", "worker", "console")


@pytest.mark.parametrize("role", ROLES)
def test_wrong_settings_are_all_named_with_exit_code_2(role: str) -> None:
    bad = ENVIRON | {"ALIPAY_NOTIFY_LOG_QUEUE_MAX": "none", "ALIPAY_NOTIFY_TOPIC_PREFIX": "A_b"}
    refused = run(bad, role)
    assert refused.exit_code == 2
    assert "ALIPAY_NOTIFY_LOG_QUEUE_MAX" in refused.stderr
    assert "ALIPAY_NOTIFY_TOPIC_PREFIX" in refused.stderr


@pytest.mark.parametrize("role", ROLES)
def test_missing_client_library_names_the_extra(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda module: None)
    refused = run(ENVIRON, role)
    assert (refused.exit_code, "alipay-notify[cluster]" in refused.stderr) == (1, True)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_launched_with_its_settings(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[dict[str, Any]] = []
    monkeypatch.setattr(launch, "run", lambda process, **options: launched.append(options))
    done = run(ENVIRON, role, "--admin-port", "0")
    assert done.exit_code == 0, done.output
    assert launched[0]["queue_max"] == 123
    assert launched[0]["service"] == f"alipay-notify-{role}"
    assert OSError in launched[0]["refused_for"]


def test_options_of_a_role_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def note(role: str, load: Callable[[], object], **options: Any) -> None:
        given.append(options)

    monkeypatch.setattr(roles, "_run", note)
    run(ENVIRON, "worker", "--kafka", "k2:9092")
    assert given[0]["kafka"] == "k2:9092"
    assert given[0]["postgres"] == ENVIRON["ALIPAY_NOTIFY_POSTGRES"]
    assert given[0]["redis"] is None
