"""Row S36: each decision about signatures or admission is covered: inverting it fails one of its own tests."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.soak import mutation
from tests.support.paths import ROOT

PASSED, FAILED = 0, 1


def mutants_of(module: str, *tests: str) -> list[dict[str, Any]]:
    """Each mutant with its result; the first is the module as it is."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.soak.mutation", module, *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("name", ["signature", "admission"])
def test_s36_every_inverted_decision_fails_a_test(name: str) -> None:
    as_it_is, *mutants = mutants_of(f"ingest.{name}", f"tests/unit/ingest/test_{name}.py")
    assert as_it_is["code"] == PASSED, "the tests fail here without any mutant"
    assert len(mutants) > 10
    assert [mutant for mutant in mutants if mutant["code"] != FAILED] == []


@pytest.mark.parametrize("name", ["signature", "admission"])
def test_s36_every_refusal_has_its_mutant(name: str) -> None:
    """Every branch that ends in `raise` is among the inverted decisions."""
    source = Path(ROOT / "ingest" / f"{name}.py").read_text(encoding="utf-8")
    turned = {(mutant.line, mutant.text) for mutant in mutation.mutants(source)}
    branches = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.If)]
    refusals = [branch for branch in branches if any(isinstance(each, ast.Raise) for each in ast.walk(branch))]
    assert len(refusals) >= 5
    assert {(branch.test.lineno, ast.unparse(branch.test)) for branch in refusals} <= turned


def test_mutant_decides_the_other_way() -> None:
    source = "def f(a, b):\n    if a and b:\n        return 1\n    return a == b\n"
    answers = []
    for mutant in mutation.mutants(source):
        module = mutant.load("tests.soak.decided", "decided.py")
        answers.append((mutant.text, module.f(1, 1), module.f(1, 0)))
    del sys.modules["tests.soak.decided"]
    assert answers == [
        ("as it is", 1, False),
        ("a and b", True, 1),
        ("a == b", 1, True),
        ("a", True, False),
        ("b", True, 1),
    ]
