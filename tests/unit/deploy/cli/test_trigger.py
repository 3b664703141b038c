"""`trigger`: arguments, output and exit codes against a receiver in a thread."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from deploy.sandbox.world import World
from tests.support import thread_receiver
from tests.support.thread_receiver import ThreadReceiver
from tests.unit.deploy.cli import commands


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    World.create(path, gateway_url="http://127.0.0.1:9", notify_base="http://127.0.0.1:9")
    return path


@pytest.fixture
def receiver() -> Iterator[ThreadReceiver]:
    with thread_receiver.running() as running:
        yield running


def run(*arguments: str) -> Result:
    return commands.run({}, *arguments)


def test_payment_that_is_acknowledged_exits_with_0(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(
        "trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--account", "demo-cn", "--order", "OP-1"
    )
    assert done.exit_code == 0, done.output
    assert [path for _, path, _ in receiver.requests] == ["/notify/demo-cn"]
    assert receiver.forms()[0]["out_trade_no"] == "OP-1"
    assert "stop sending" in done.output


def test_unexpected_answer_exits_with_3(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (503, b"fail")
    done = run("trigger", "paid", "--dir", str(directory), "--to", receiver.url)
    assert done.exit_code == 3
    assert "send again" in done.output


def test_accepted_forgery_exits_with_3_and_refused_forgery_with_0(directory: Path, receiver: ThreadReceiver) -> None:
    arguments = ("trigger", "forged_signature", "--dir", str(directory), "--to", receiver.url)
    assert run(*arguments).exit_code == 3
    receiver.answer = (401, b"fail")
    assert run(*arguments).exit_code == 0


def test_no_receiver_is_an_unexpected_answer(directory: Path) -> None:
    done = run("trigger", "paid", "--dir", str(directory), "--to", "http://127.0.0.1:1", "--output", "json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)[0]["outcome"] == "silent"


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


def test_duplicates_are_one_notification_with_eight_signatures(directory: Path, receiver: ThreadReceiver) -> None:
    assert run("trigger", "duplicate_x8", "--dir", str(directory), "--to", receiver.url).exit_code == 0
    assert len({one["notify_id"] for one in receiver.forms()}) == 1
    assert len({one["sign"] for one in receiver.forms()}) == 8


def test_whole_notify_url_is_used_unchanged(directory: Path, receiver: ThreadReceiver) -> None:
    run("trigger", "paid", "--dir", str(directory), "--to", f"{receiver.url}/alipay/async", "--account", "demo-antom")
    assert [path for _, path, _ in receiver.requests] == ["/alipay/async"]


def test_fields_are_overridden_added_and_removed_before_signing(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(
        "trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--account", "demo-cn",
        "--override", "total_amount=88.88", "--add", "promo=a=b", "--remove", "subject",
    )  # fmt: skip
    assert done.exit_code == 0
    (form,) = receiver.forms()
    assert (form["total_amount"], form["promo"]) == ("88.88", "a=b")
    assert "subject" not in form


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


def test_default_keys_are_of_the_sandbox_that_was_started_last(
    receiver: ThreadReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALIPAY_NOTIFY_SANDBOX_DIR", raising=False)
    assert run("trigger", "paid", "--to", receiver.url).exit_code == 0
    assert Path(".sandbox/world.json").exists(), "there was none, so it was created"
    demo = World.create(Path(".demo/world"), gateway_url="http://127.0.0.1:9", notify_base=receiver.url)
    demo_ids = demo.directory / "issued.log"
    os.utime(demo.directory / "world.json", (1_000_000_000, 1_000_000_000))
    assert run("trigger", "paid", "--to", receiver.url).exit_code == 0
    assert not demo_ids.exists(), "the demo's sandbox is older"
    os.utime(demo.directory / "world.json")
    os.utime(".sandbox/world.json", (1_000_000_000, 1_000_000_000))
    assert run("trigger", "paid", "--to", receiver.url).exit_code == 0
    assert demo_ids.exists()


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "ALIPAY_NOTIFY_ACCOUNTS="), (404, "ALIPAY_NOTIFY_ACCOUNTS="), (503, "")]
)
def test_unexpected_answer_comes_with_advice(
    directory: Path, receiver: ThreadReceiver, status: int, advice: str
) -> None:
    receiver.answer = (status, b"fail")
    played = run("trigger", "paid", "--dir", str(directory), "--to", receiver.url)
    assert played.exit_code == 3
    assert advice in played.stderr
    assert bool(advice) == bool(played.stderr)


def test_refused_connection_is_reported_in_plain_words(directory: Path) -> None:
    played = run("trigger", "paid", "--dir", str(directory), "--to", "http://127.0.0.1:9")
    assert played.exit_code == 3
    assert "Connection refused" in played.stdout
    assert "ssl" not in played.stdout
    assert "alipay-notify up" in played.stderr


def test_history_has_each_attempt_and_its_outcome(directory: Path, receiver: ThreadReceiver, tmp_path: Path) -> None:
    run("trigger", "paid", "--dir", str(directory), "--to", receiver.url, "--history", str(tmp_path / "h"))
    assert [json.loads(line)["what"] for line in (tmp_path / "h").read_text().splitlines()] == ["call", "ok"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("trigger",),
        ("trigger", "no_such_scenario"),
        ("trigger", "paid", "--override", "total_fee"),
        ("trigger", "paid", "--override", "no_such_field=1"),
        ("trigger", "paid", "--override", "sign=AAAA"),
        ("trigger", "paid", "--remove", "no_such_field"),
        ("trigger", "paid", "--account", "no-such-account"),
        ("trigger", "paid_then_finished", "--account", "demo-antom"),
        ("trigger", "paid", "--to", "ftp://h"),
        ("trigger", "paid", "--profile", "no-such-profile"),
        ("trigger", "paid", "--amount", "1"),
    ],
)
def test_wrong_arguments_are_wrong_usage_and_named(directory: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--dir", str(directory))
    assert done.exit_code == 2, done.output
    assert done.stderr


def test_missing_sandbox_is_created(tmp_path: Path, receiver: ThreadReceiver) -> None:
    assert run("trigger", "paid", "--dir", str(tmp_path / "new"), "--to", receiver.url).exit_code == 0
    assert World.load(tmp_path / "new").notify_base == receiver.url


def test_folder_that_cannot_be_created_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run("trigger", "paid", "--dir", str(tmp_path / "file")).exit_code == 1


def test_scenarios_are_listed_as_table_and_json() -> None:
    assert "duplicate_x8" in run("trigger", "--list").output
    listed = json.loads(run("trigger", "--list", "--output", "json").stdout)
    assert {"name", "title", "tells"} == set(listed[0])


def test_answer_of_a_receiver_is_not_read_as_markup(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (200, b"[/bold]")
    assert run("trigger", "paid", "--dir", str(directory), "--to", receiver.url).exit_code == 3
