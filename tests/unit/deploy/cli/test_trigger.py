"""`trigger`: arguments, output and exit codes against a receiver in a thread."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deploy.sandbox.world import World
from tests.support.thread_receiver import ThreadReceiver
from tests.unit.deploy.cli.commands import run_here as run


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


def test_refused_connection_is_reported_in_plain_words(directory: Path) -> None:
    played = run("trigger", "paid", "--dir", str(directory), "--to", "http://127.0.0.1:9")
    assert played.exit_code == 3
    assert "Connection refused" in played.stdout
    assert "ssl" not in played.stdout
    assert "alipay-notify up" in played.stderr


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
        ("trigger", "paid", "--check"),
        ("trigger", "--file", "no_such_file.toml"),
        ("trigger", "paid", "--file", "pyproject.toml"),
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


def test_scenario_of_a_file_is_played(directory: Path, receiver: ThreadReceiver, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('title = "Mine"\ntells = "Mine."\n[[step]]\nsend = "paid"\nadd = { promo = "{order}" }\n')
    done = run("trigger", "--file", str(file), "--dir", str(directory), "--to", receiver.url, "--order", "F-1")
    assert done.exit_code == 0, done.output
    assert receiver.forms()[0]["promo"] == "F-1"


def test_faults_of_a_file_are_printed_at_once_and_are_wrong_usage(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('title = "Mine"\n[[step]]\nsend = "payed"\n')
    done = run("trigger", "--file", str(file), "--dir", str(directory))
    assert done.exit_code == 2
    assert "mine.toml, line 1: tells is missing" in done.stderr
    assert "mine.toml, line 3, step 1: send = 'payed'" in done.stderr
