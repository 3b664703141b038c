"""Runs of `load`, whose sender processes are real, against a receiver with the test's answers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy.cli import load
from deploy.sandbox.world import World
from tests.support import thread_receiver
from tests.support.thread_receiver import ThreadReceiver

FIELDS = {
    "passed", "to", "seed", "rate_asked", "duration_s", "processes", "connections", "retry", "told", "calls", "repeats",
    "seconds", "rate", "acknowledged_per_s", "sender_behind_p99_ms", "answers", "refused_by_status", "silent_by_cause",
    "latency_ms", "verification", "findings", "first_findings",
}  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    World.create(path, gateway_url="http://127.0.0.1:9", notify_base="http://127.0.0.1:9")
    return path


@pytest.fixture
def receiver() -> Iterator[ThreadReceiver]:
    with thread_receiver.running() as running:
        yield running


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    app = typer.Typer()
    load.register(app)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", **(env or {})})


def short(directory: Path, url: str, *more: str) -> tuple[str, ...]:
    # Accounts whose answer is the word `success`, unless the test names others.
    forms: tuple[str, ...] = ("--account", "demo-cn", "--account", "demo-app", "--account", "demo-md5")
    if "--account" in more or "/notify/" in url:
        forms = ()
    return (
        "--sandbox", str(directory), "--to", url, "--rate", "40", "--duration", "1s", "--connections", "8",
        *forms, *more,
    )  # fmt: skip


def answered(done: Result) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_answered_run_succeeds_and_names_the_checks_that_it_skipped(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(*short(directory, receiver.url, "--forgeries", "0"))
    assert done.exit_code == 0, done.output
    assert len(receiver.requests) == 40
    assert "40 success" in done.stdout
    assert "--admin URL" in done.stderr


def test_json_has_all_its_fields(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(*short(directory, receiver.url, "--forgeries", "0", "--seed", "5", "--output", "json"))
    result = answered(done)
    assert result.keys() == FIELDS
    assert (result["passed"], result["calls"], result["seed"], result["verification"]) == (True, 40, 5, None)
    assert result["answers"] == {"ok": 40, "refused": 0, "silent": 0, "unsent": 0}
    assert result["latency_ms"].keys() == {"p50", "p90", "p99", "p99_9", "max"}
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["max"]
    assert result["rate"] == pytest.approx(40, rel=0.3)
    assert set(result["findings"].values()) == {0}


def test_accepted_forgeries_end_with_exit_code_3_and_are_listed(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(*short(directory, receiver.url, "--forgeries", "0.2", "--output", "json"))
    assert done.exit_code == 3
    result = answered(done)
    assert result["findings"]["believed"] == result["told"]["forged"] == 8
    assert {one["what"] for one in result["first_findings"]} == {"believed"}


def test_run_without_any_acknowledgement_is_a_failure(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (401, b"fail")
    done = run(*short(directory, receiver.url))
    assert done.exit_code == 1
    assert "no notification was acknowledged" in done.stderr


def test_wrong_answer_to_a_genuine_notification_is_a_finding(directory: Path, receiver: ThreadReceiver) -> None:
    """This receiver answers `success` to Antom too, which requires JSON."""
    both = ("--account", "demo-cn", "--account", "demo-antom")
    done = run(*short(directory, receiver.url, *both, "--forgeries", "0", "--output", "json"))
    assert done.exit_code == 3
    found = answered(done)["first_findings"]
    assert {(one["what"], one["account"]) for one in found} == {("refused", "demo-antom")}


def test_success_with_one_more_byte_is_no_acknowledgement(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (200, b"success\n")
    assert run(*short(directory, receiver.url)).exit_code == 1


def test_unacknowledged_notification_is_sent_again_with_retry(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.busy = 10
    once = answered(run(*short(directory, receiver.url, "--forgeries", "0", "--output", "json")))
    assert (once["passed"], once["answers"]["ok"], once["refused_by_status"]) == (True, 30, {"503": 10})

    receiver.busy = 10
    receiver.requests.clear()
    alone = ("--account", "demo-cn", "--forgeries", "0", "--duplicates", "0")
    again = answered(run(*short(directory, receiver.url, *alone, "--retry", "--output", "json")))
    assert (again["passed"], again["answers"]["ok"], again["repeats"]) == (True, 40, 10)
    signatures_of: dict[str, set[str]] = {}
    for form in receiver.forms():
        signatures_of.setdefault(form["notify_id"], set()).add(form["sign"])
    assert sum(len(signatures) for signatures in signatures_of.values()) == 50, "each retry is signed anew"


def test_never_acknowledged_notification_is_a_finding_with_retry(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (503, b"fail")
    done = run(*short(directory, receiver.url, "--retry", "--retry-for", "1s", "--output", "json"))
    assert done.exit_code == 1
    result = answered(done)
    assert result["findings"]["unacknowledged"] > 0
    assert len(result["first_findings"]) == 20


def test_refused_connections_are_counted_and_the_run_fails(directory: Path) -> None:
    done = run(*short(directory, "http://127.0.0.1:1", "--output", "json"))
    assert done.exit_code == 1
    result = answered(done)
    assert (result["passed"], result["silent_by_cause"]) == (False, {"no connection": 40})


def test_several_processes_share_one_run(directory: Path, receiver: ThreadReceiver, tmp_path: Path) -> None:
    history = tmp_path / "attempts"
    done = run(
        *short(directory, receiver.url, "--forgeries", "0", "--processes", "2", "--history", str(history)),
        "--output", "json",
    )  # fmt: skip
    result = answered(done)
    assert (done.exit_code, result["calls"], len(receiver.requests)) == (0, 40, 40)
    assert result["rate"] == pytest.approx(40, rel=0.3)
    assert sum(json.loads(line)["what"] == "call" for line in history.read_text().splitlines()) == 40


def test_complete_notify_url_selects_its_account(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(*short(directory, f"{receiver.url}/notify/demo-md5", "--forgeries", "0"))
    assert done.exit_code == 0, done.output
    assert {path for _, path, _ in receiver.requests} == {"/notify/demo-md5"}


def test_given_key_signs_for_the_account_in_the_url(directory: Path, receiver: ThreadReceiver) -> None:
    done = run(
        "--to", f"{receiver.url}/notify/demo-cn", "--accounts", str(directory / "merchant" / "accounts.toml"),
        "--key", str(directory / "alipay" / "openapi-rsa2.key"), "--rate", "40", "--duration", "1s", "--forgeries", "0",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert {path for _, path, _ in receiver.requests} == {"/notify/demo-cn"}


def test_export_writes_the_corpus_and_sends_nothing(directory: Path, receiver: ThreadReceiver, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    done = run(*short(directory, receiver.url, "--export", str(path)))
    assert done.exit_code == 0, done.output
    assert len(path.read_text().splitlines()) == 40
    assert receiver.requests == []
