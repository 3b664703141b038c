"""Write what runs of the tests have shown about faults: which were tried, what held, and how long recovery took.

    python -m tests.soak.report RESULTS.xml … > deploy/docs/faults.md

`make test` and `make soak` leave their results under `.results/`; `make report` writes the page from both. A row of the
matrix counts as tried only if each of its tests ran and passed: a test that was skipped is listed with its reason.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

from msgspec import Struct

from deploy.local import programs
from deploy.local.kafka import jars
from deploy.local.machine import Machine, Missing
from deploy.local.programs import NeededProgram
from tests.faults import matrix
from tests.faults.matrix import ENGINES, Row
from tests.support import tally

HISTORIES = "simulated histories"
DEFECT = re.compile(r"test_planted_defect_is_noticed|test_engine_that_acknowledges_too_early_is_detected")
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


class Result(Struct, frozen=True, kw_only=True):
    """One test of a run. `why` it was skipped. `figures` are what it measured, by their names."""

    test: str
    outcome: str
    why: str
    figures: dict[str, float]


def read(path: Path) -> list[Result]:
    """Return the results in a JUnit file of pytest."""
    return [_result(case) for case in ElementTree.parse(path).getroot().iter("testcase")]


def _result(case: ElementTree.Element) -> Result:
    file = case.get("classname", "").replace(".", "/") + ".py"
    skipped = case.find("skipped")
    is_failed = case.find("failure") is not None or case.find("error") is not None
    figures = {each.get("name", ""): float(each.get("value", "nan")) for each in case.iter("property")}
    return Result(
        test=f"{file}::{case.get('name', '')}",
        outcome=FAILED if is_failed else PASSED if skipped is None else SKIPPED,
        why="" if skipped is None else skipped.get("message", ""),
        figures=figures,
    )


def runs(path: Path) -> list[str]:
    """Return what a JUnit file says of its runs: the day, the commit (the name of the suite), the number of tests."""
    suites = ElementTree.parse(path).getroot().iter("testsuite")
    return [
        f"{suite.get('timestamp', '')[:10]}, commit {suite.get('name')}: {suite.get('tests')} tests" for suite in suites
    ]


def page(results: Sequence[Result], rows: dict[str, Row], *, surroundings: Sequence[str]) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# Faults",
            "",
            "What the engines are tried with, and what a run of the tests has shown. `make report` writes this page.",
            "",
            *_bullets(surroundings),
            "",
            *_totals(results, rows),
            "",
            "## What was tried",
            "",
            "A number is of tests that made this fault on that engine and passed. A dash: it cannot occur there, or is",
            "not tried there.",
            "",
            *_matrix(results, rows),
            "",
            "## How long it took",
            "",
            "Seconds, unless the figure says otherwise.",
            "",
            *_figures(results),
            *_left_out(results, rows),
            "",
        ]
    )


def _totals(results: Sequence[Result], rows: dict[str, Row]) -> list[str]:
    passed, failed, skipped = (
        sum(result.outcome == outcome for result in results) for outcome in (PASSED, FAILED, SKIPPED)
    )
    defects = [result for result in results if DEFECT.search(result.test)]
    notifications = sum(result.figures.get(tally.NOTIFICATIONS, 0) for result in results)
    histories = sum(result.figures.get(HISTORIES, 0) for result in results)
    tried = {engine: sum(_is_tried(results, row.tests(engine)) for row in rows.values()) for engine in ENGINES}
    noticed = sum(result.outcome == PASSED for result in defects)
    return [
        "| | |",
        "|---|---|",
        f"| tests | {passed:,} passed, {failed} failed, {skipped} skipped |",
        f"| faults, and how many of them were tried | {len(rows)}; {_listed(tried)} |",
        f"| notifications through real engines, judged | {notifications:,.0f} |",
        f"| simulated histories | {histories:,.0f} |",
        f"| planted defects noticed | {noticed} of {len(defects)} |",
    ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _matrix(results: Sequence[Result], rows: dict[str, Row]) -> Iterator[str]:
    yield "| fault | made by | must hold | within | " + " | ".join(ENGINES) + " |"
    yield "|---|---|---|---|" + "---|" * len(ENGINES)
    for row in rows.values():
        cells = [_cell(results, row.tests(engine)) for engine in ENGINES]
        yield f"| {row.fault} | {row.inject} | {row.holds} | {row.bound} | " + " | ".join(cells) + " |"


def _cell(results: Sequence[Result], tests: Sequence[str]) -> str:
    if not tests:
        return "–"
    own = [result for test in tests for result in _of(results, test)]
    if any(result.outcome == FAILED for result in own):
        return "**failed**"
    passed = sum(result.outcome == PASSED for result in own)
    return str(passed) if _is_tried(results, tests) else "not in this run"


def _is_tried(results: Sequence[Result], tests: Sequence[str]) -> bool:
    return bool(tests) and all(
        own and all(result.outcome == PASSED for result in own) for own in (_of(results, test) for test in tests)
    )


def _of(results: Sequence[Result], test: str) -> list[Result]:
    return [result for result in results if result.test.partition("[")[0] == test]


def _figures(results: Sequence[Result]) -> Iterator[str]:
    yield "| test | figure | runs | least | median | most |"
    yield "|---|---|---|---|---|---|"
    measured: dict[tuple[str, str], list[float]] = defaultdict(list)
    for result in results:
        for name, value in result.figures.items():
            if name not in (tally.NOTIFICATIONS, HISTORIES):
                measured[result.test.partition("[")[0], name].append(value)
    for (test, name), values in sorted(measured.items()):
        title = test.partition("::test_")[2].replace("_", " ")
        ends = " | ".join(f"{value:,.4g}" for value in (min(values), median(values), max(values)))
        yield f"| {title} | {name} | {len(values)} | {ends} |"


def _left_out(results: Sequence[Result], rows: dict[str, Row]) -> list[str]:
    reasons = [f"{row.fault}: {row.missing}" for row in rows.values() if row.missing]
    reasons += sorted({f"`{result.test}`: {result.why}" for result in results if result.outcome == SKIPPED})
    return ["", "## What was not tried", "", *_bullets(reasons)] if reasons else []


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {text}" for text in texts]


def _versions() -> list[str]:
    """Return the machine, and the versions of what ran."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    ours = [
        f"{os.cpu_count()} cores of {model[1] if model else 'an unknown processor'}, Python {sys.version.split()[0]}",
        f"Kafka {jars.version()}",
    ]
    machine = Machine(environ=dict(os.environ), may_install=False)
    servers = [(programs.POSTGRES, "--version"), (programs.REDIS, "--version"), (programs.HAPROXY, "-v")]
    return ours + [_version(machine, *each) for each in servers]


def _version(machine: Machine, wanted: NeededProgram, option: str) -> str:
    try:
        found = asyncio.run(machine.find(wanted))
    except Missing:
        return f"{wanted.what} is not here"
    told = subprocess.run([found, option], capture_output=True, text=True, check=False)
    return told.stdout.partition("\n")[0].strip()


def main() -> int:
    """Print the page from the given files. Return 2 if there are none."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths or any(path.suffix != ".xml" or not path.is_file() for path in paths):
        print(__doc__, file=sys.stderr)
        return 2
    results = [result for path in paths for result in read(path)]
    surroundings = [*(run for path in paths for run in runs(path)), *_versions()]
    print(page(results, matrix.rows(), surroundings=surroundings), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
