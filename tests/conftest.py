"""What all tests share: real servers (`tests.support.real_servers`), each started by the first test that needs it, a
place for figures, and a Hypothesis profile that no busy machine can fail.
"""

import logging
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from tests.support import tally
from tests.support.paths import ROOT

pytest_plugins = (
    "tests.support.real_servers",
    "tests.support.cluster_fixtures",
    "tests.support.node",
    "tests.support.wheels",
)

FIRST_TRY_LINES = 60
STEADY = frozenset({"house"})  # tiers that only read the tree

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the gate, give a test that runs code a second chance, and list it in the summary as rerun.

    A dozen processes on two shared cores meet races between processes that no test of one process has, and keep tests
    of one process waiting. A test that needed its second chance is a fault to find all the same.
    """
    if os.environ.get("CI"):
        for item in items:
            if item.path.relative_to(ROOT / "tests").parts[0] not in STEADY:
                item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why a test needed its second chance: its first failure is nowhere else."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"first try of {report.nodeid}")
        terminalreporter.write_line("\n".join(report.longreprtext.splitlines()[-FIRST_TRY_LINES:]))


@pytest.fixture(autouse=True)
def _same_log_levels() -> Iterator[None]:
    """Find a test that leaves a logger louder or quieter, which another test in its process would suffer from."""
    before = _log_levels()
    yield
    after = _log_levels()
    assert before == {name: after[name] for name in before}


def _log_levels() -> dict[str, int]:
    loggers = logging.root.manager.loggerDict.items()
    return {name: each.level for name, each in loggers if isinstance(each, logging.Logger)}


@pytest.fixture(autouse=True)
def _counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Write into the test's results how many notifications it sent through real engines."""
    tally.take()
    yield
    if sent := tally.take():
        record_property(tally.NOTIFICATIONS, sent)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Records a figure by its name: in the report, and on the terminal with `-s`."""

    def note(name: str, figure: float) -> None:
        record_property(name, round(figure, 3))
        print(f"  {name}: {figure:.2f}")

    return note
