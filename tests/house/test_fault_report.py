"""The report of a run counts what ran and passed, and nothing else."""

from pathlib import Path

from tests.faults.matrix import Row
from tests.soak import report

XML = """<testsuites><testsuite name="5d9a7a96" tests="5" timestamp="2026-11-30T01:33:48">
<testcase classname="tests.faults.test_a" name="test_dies[one]">
<properties><property name="back" value="1.5"/><property name="notifications" value="40"/></properties></testcase>
<testcase classname="tests.faults.test_a" name="test_dies[two]">
<properties><property name="back" value="2.5"/><property name="notifications" value="2"/></properties></testcase>
<testcase classname="tests.faults.test_b" name="test_fails"><failure message="no"/></testcase>
<testcase classname="tests.faults.test_c" name="test_needs_root"><skipped message="needs root"/></testcase>
<testcase classname="tests.simulation.test_simulation" name="test_planted_defect_is_noticed[a]"/>
</testsuite></testsuites>"""
ROWS = {
    "1": Row(fault="it dies", inject="kill", holds="all", bound="3 s", cluster=("tests/faults/test_a.py::test_dies",)),
    "2": Row(fault="it fails", inject="fail", holds="all", cluster=("tests/faults/test_b.py::test_fails",)),
    "3": Row(fault="no root", inject="root", holds="all", embedded=("tests/faults/test_c.py::test_needs_root",)),
    "4": Row(fault="away", inject="power", holds="all", missing="no plug to pull"),
    "5": Row(fault="unrun", inject="kill", holds="all", embedded=("tests/faults/test_d.py::test_absent",)),
}


def test_report_counts_what_ran_and_passed(tmp_path: Path) -> None:
    results = tmp_path / "results.xml"
    results.write_text(XML, encoding="utf-8")
    page = report.page(report.read(results), ROWS, surroundings=[*report.runs(results), "Kafka 1"])
    for line in (
        "- 2026-11-30, commit 5d9a7a96: 5 tests",
        "- Kafka 1",
        "| tests | 3 passed, 1 failed, 1 skipped |",
        "| faults, and how many of them were tried | 5; embedded 0, cluster 1, simulated 0 |",
        "| notifications through real engines, judged | 42 |",
        "| planted defects noticed | 1 of 1 |",
        "| it dies | kill | all | 3 s | – | 2 | – |",
        "| it fails | fail | all |  | – | **failed** | – |",
        "| no root | root | all |  | not in this run | – | – |",
        "| unrun | kill | all |  | not in this run | – | – |",
        "| dies | back | 2 | 1.5 | 2 | 2.5 |",
        "- away: no plug to pull",
        "- `tests/faults/test_c.py::test_needs_root`: needs root",
    ):
        assert line in page.splitlines()
