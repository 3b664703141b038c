"""`trigger` registers, sends by the schedule, keeps a history, and compares the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import trigger_play
from tests.support.thread_receiver import ThreadReceiver
from tests.unit.deploy.cli.commands import run_here as run


def test_retry_schedule_is_followed_at_the_given_speed(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (200, b"success ")
    done = run(
        "trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--profile", "cn-4m",
        "--time-scale", "10000000", "--output", "json",
    )  # fmt: skip
    attempts = json.loads(done.stdout)
    assert [one["number"] for one in attempts] == list(range(1, 9))
    assert attempts[0]["again_in_s"] == 240
    assert attempts[-1]["again_in_s"] is None
    assert "seven" in attempts[0]["why"]


@pytest.mark.parametrize(("account", "currency"), [("demo-web", "USD"), ("demo-cn", "CNY")])
def test_order_is_registered_first_if_an_admin_api_is_given(
    directory: Path, receiver: ThreadReceiver, account: str, currency: str
) -> None:
    run(
        "trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--account", account, "--order", "T-1",
        "--admin", receiver.url,
    )  # fmt: skip
    assert [(method, path) for method, path, _ in receiver.requests] == [
        ("PUT", f"/api/orders/{account}/T-1"),
        ("POST", f"/notify/{account}"),
    ]
    assert json.loads(receiver.requests[0][2]) == {"amount": "12.80", "currency": currency}


def test_history_has_each_attempt_and_its_outcome(directory: Path, receiver: ThreadReceiver, tmp_path: Path) -> None:
    run("trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--history", str(tmp_path / "h"))
    assert [json.loads(line)["what"] for line in (tmp_path / "h").read_text().splitlines()] == ["call", "ok"]


def test_wrong_end_exits_with_3_and_names_each_difference(
    directory: Path, receiver: ThreadReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_play, "_END_WITHIN_S", 0.0)
    done = run(
        "trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--account", "demo-cn", "--order", "E-1",
        "--admin", receiver.url, "--check",
    )  # fmt: skip
    assert done.exit_code == 3
    assert "order E-1: status is None, should be PAID" in done.stderr
    assert "it is not so" in done.stdout


def test_missing_admin_api_exits_with_1(directory: Path, receiver: ThreadReceiver) -> None:
    done = run("trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--admin", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert "http://127.0.0.1:9" in done.stderr
