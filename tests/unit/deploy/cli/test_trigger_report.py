"""The output of `trigger`: the list, attempts, advice and ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.thread_receiver import ThreadReceiver
from tests.unit.deploy.cli.commands import run as run_with
from tests.unit.deploy.cli.commands import run_here as run


def test_scenarios_are_listed_by_family_in_eighty_columns() -> None:
    output = run_with({"COLUMNS": "80"}, "trigger", "--list").output
    assert output.index("Every family") < output.index("\n  paid ") < output.index("Antom (antom)")
    assert all(len(line) <= 80 for line in output.splitlines())


def test_scenarios_are_listed_as_json_with_their_families_and_ends() -> None:
    listed = json.loads(run("trigger", "--list", "--output", "json").stdout)
    (brl,) = (each for each in listed if each["name"] == "currency_brl")
    assert (brl["families"], brl["end"]) == (["antom"], "PAID 12.80 BRL")
    assert {"name", "title", "tells", "families", "end"} == set(listed[0])


def test_answer_of_a_receiver_is_not_read_as_markup(directory: Path, receiver: ThreadReceiver) -> None:
    receiver.answer = (200, b"[/bold]")
    assert run("trigger", "paid", "--dir", str(directory), "--to", receiver.url).exit_code == 3


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


def test_promised_end_is_printed(directory: Path, receiver: ThreadReceiver) -> None:
    done = run("trigger", "card_captured", "--dir", str(directory), "--to", receiver.url)
    assert "expected end: PAID 10.00" in done.output
