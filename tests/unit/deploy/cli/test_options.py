"""Settings of commands that look at the cluster: options override the environment, and faults end the command."""

import pytest
import typer

from deploy import exits
from deploy.cli import options
from deploy.cluster import servers
from tests.unit.deploy.cli.commands import run


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNTS", "KAFKA", "TOPIC_PREFIX"):
        monkeypatch.delenv(f"ALIPAY_NOTIFY_{name}", raising=False)


def test_accounts_are_not_required() -> None:
    assert options.load_settings(kafka="k1:9092").kafka == "k1:9092"


def test_given_option_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIPAY_NOTIFY_KAFKA", "k1:9092")
    monkeypatch.setenv("ALIPAY_NOTIFY_TOPIC_PREFIX", "shop")
    settings = options.load_settings(kafka="k2:9092", topic_prefix=None)
    assert (settings.kafka, settings.topic_prefix) == ("k2:9092", "shop")


def test_wrong_setting_is_named_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        options.load_settings(topic_prefix="A_b")
    assert ended.value.exit_code == exits.WRONG_USAGE
    assert "ALIPAY_NOTIFY_TOPIC_PREFIX" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("topics", "plan"), ("db", "status"), ("replay", "--from", "1h")], ids=" ".join)
@pytest.mark.parametrize("is_there", [True, False])
def test_missing_address_is_wrong_usage_and_names_the_settings_of_a_local_stack(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], is_there: bool
) -> None:
    monkeypatch.setattr(servers, "of_stack", lambda directory: {} if is_there else None)
    nowhere: dict[str, str | None] = {f"ALIPAY_NOTIFY_{name}": None for name in ("KAFKA", "POSTGRES", "POSTGRES_FILE")}
    refused = run({**environ, **nowhere}, *command)
    assert (refused.exit_code, "is not set" in refused.stderr) == (2, True)
    assert ("source .stack/env" in refused.stderr) is is_there
