"""Each point at which the kill tests end a process exists in the program: a rename must not disarm it."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

PLANT = """
from tests.faults.{module} import POINTS, Break
for point, plant in POINTS.items():
    plant(Break(point, "kill", 10**9))
print(len(POINTS))
"""


@pytest.mark.parametrize(("module", "count"), [("breaking", 18), ("breaking_cluster", 22)])
def test_every_kill_point_can_be_planted(module: str, count: int) -> None:
    code = PLANT.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= count
