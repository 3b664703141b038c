"""Many simulated histories (`tests.simulation`): as many as the variable HISTORIES says, on all cores."""

import os
import subprocess
import sys
from collections.abc import Callable

from tests.soak import report
from tests.support.paths import ROOT

HISTORIES = os.environ.get("HISTORIES", "100000")


def test_every_promise_holds_in_many_simulated_histories(record_property: Callable[[str, object], None]) -> None:
    argv = [sys.executable, "-m", "tests.simulation", "--histories", HISTORIES]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    record_property(report.HISTORIES, HISTORIES)
    print(ended.stdout)
