"""Each point at which the kill tests end a process exists in the program: a rename must not disarm it."""

import subprocess
import sys

from tests.support.paths import ROOT

PLANT = """
from tests.faults.breaking import MUTANTS, POINTS, Step
for plant in POINTS.values():
    plant(Step(10**9))
print(len(POINTS), len(MUTANTS))
"""


def test_every_kill_point_can_be_planted() -> None:
    done = subprocess.run([sys.executable, "-c", PLANT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points, _ = map(int, done.stdout.split())
    assert points >= 18
