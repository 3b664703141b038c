"""Scenario files: all faults at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.sandbox import scenario_files
from deploy.sandbox.scenario import ScenarioError

FAULTY = """\
title = "Faulty"
prodcts = ["open"]

[[step]]
send = "payed"
at = "soon"

[[step]]
send = "refund"
times = 0
override = { total_amount = 1 }

[[step]]
sned = "paid"

[[ends]]
status = "DONE"
flags = ["second_trad"]
refunded = "30 %"
"""


def faults(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ScenarioError) as raised:
        scenario_files.load(path)
    return str(raised.value).splitlines()


def test_all_faults_are_named_at_once_with_line_and_step(tmp_path: Path) -> None:
    found = faults(tmp_path / "my.toml", FAULTY)
    for place, word in [
        ("line 2", "did you mean products?"),
        ("line 1", "tells is missing"),
        ("line 5, step 1", "no such kind"),
        ("line 6, step 1", "'soon' is not a duration"),
        ("line 9, step 2", "needs a share"),
        ("line 10, step 2", "between 1 and 100"),
        ("line 11, step 2", "override"),
        ("line 14, step 3", "did you mean send?"),
        ("line 13, step 3", "send is missing"),
        ("line 17, [[ends]] 1", "status"),
        ("line 18, [[ends]] 1", "did you mean second_trade?"),
        ("line 19, [[ends]] 1", "write 0.30"),
    ]:
        assert any(each.startswith(f"my.toml, {place}: ") and word in each for each in found), (place, found)
    assert len(found) == 12


@pytest.mark.parametrize(
    "text", ["", "step = 1", "step = []", "step = [1]", "title = ", '[[step]]\nsend = "paid"\n[ends]']
)
def test_file_without_steps_or_syntax_is_named(tmp_path: Path, text: str) -> None:
    assert all(each.startswith("odd.toml") for each in faults(tmp_path / "odd.toml", text))


def test_steps_on_one_line_are_counted_without_lines(tmp_path: Path) -> None:
    text = 'title = "t"\ntells = "t"\nstep = [{ send = "paid" }, { send = "nothing" }]'
    (fault,) = faults(tmp_path / "flat.toml", text)
    assert fault.startswith("flat.toml, step 2: send = 'nothing'")


def test_scenario_has_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('title = "t"\ntells = "t"\n[[step]]\nsend = "paid"\n')
    assert scenario_files.load_all(tmp_path)["mine"].name == "mine"
