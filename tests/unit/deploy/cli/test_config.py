"""`config show`: values, sources, accounts and faults, and no secret."""

import pytest

from tests.unit.deploy.cli.commands import parsed, run, run_here

PASSWORD = "canary-of-a-password"


def test_values_are_shown_with_their_sources(environ: dict[str, str]) -> None:
    shown = run(environ, "config", "show", "--output", "json")
    assert shown.exit_code == 0
    settings = {row["name"]: (row["value"], row["from"]) for row in parsed(shown)["settings"]}
    assert settings["ALIPAY_NOTIFY_PORT"] == (int(environ["ALIPAY_NOTIFY_PORT"]), "environment")
    assert settings["ALIPAY_NOTIFY_HOST"] == ("127.0.0.1", "default")


def test_accounts_are_shown_without_their_secrets(environ: dict[str, str], md5_secret: str) -> None:
    shown = run(environ, "config", "show", "--output", "json")
    assert [account["name"] for account in parsed(shown)["accounts"]] == ["shop", "old"]
    assert md5_secret not in shown.output
    assert md5_secret not in run(environ, "config", "show").output


@pytest.mark.parametrize("output", ["json", "table"])
def test_address_of_a_server_is_shown_without_its_password(environ: dict[str, str], output: str) -> None:
    servers = {
        "ALIPAY_NOTIFY_POSTGRES": f"postgresql://u:{PASSWORD}@db/orders",
        "ALIPAY_NOTIFY_REDIS": f"redis://:{PASSWORD}@redis/0",
    }
    shown = run(environ | servers, "config", "show", "--output", output).output
    assert PASSWORD not in shown
    assert "@db/orders" in shown


def test_all_faults_are_shown_with_exit_code_3(environ: dict[str, str]) -> None:
    bad = environ | {
        "ALIPAY_NOTIFY_PORT": "http",
        "ALIPAY_NOTIFY_BODY_DEADLINE_S": "9",
        "ALIPAY_NOTIFY_ACCOUNTS": "/none",
    }
    shown = run(bad, "config", "show", "--output", "json")
    faults = "\n".join(parsed(shown)["faults"])
    assert shown.exit_code == 3
    assert all(part in faults for part in ("ALIPAY_NOTIFY_PORT", "BODY_DEADLINE_S", "/none"))


def test_missing_accounts_setting_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIPAY_NOTIFY_ACCOUNTS", raising=False)
    shown = run_here("config", "show")
    assert (shown.exit_code, "ALIPAY_NOTIFY_ACCOUNTS is not set" in shown.stdout) == (0, True)
    told = parsed(run_here("config", "show", "--output", "json"))
    assert (told["faults"], len(told["notes"])) == ([], 1)
