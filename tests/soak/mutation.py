"""Invert every decision of a module, one at a time, and see whether its tests notice (row S36).

    python -m tests.soak.mutation ingest.signature TESTS …

Prints one JSON line for the module as it is, and one for each mutant: the inverted decision, its line, and the exit
code of the tests. A mutant lives in a process of its own, forked before the module is imported, so the tests import the
mutant in its place.
"""

import ast
import copy
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

PREPARED = ("cryptography.hazmat.primitives.asymmetric.dsa", "hypothesis", "pytest", "ingest.keys", "schemas.form")
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class Mutant:
    """The module; with a `number`, one of its decisions is inverted."""

    def __init__(self, tree: ast.Module, number: int | None) -> None:
        self._tree = copy.deepcopy(tree)
        self.line, self.text = 0, "as it is"
        if number is not None:
            self._turn_over(number)

    def _turn_over(self, number: int) -> None:
        parent, field, index = _places(self._tree)[number]
        value = getattr(parent, field)
        decision: ast.expr = value if index is None else value[index]
        self.line = decision.lineno
        self.text = ast.unparse(decision)
        turned = ast.copy_location(ast.UnaryOp(ast.Not(), decision), decision)
        if index is None:
            setattr(parent, field, turned)
        else:
            value[index] = turned
        ast.fix_missing_locations(self._tree)

    def load(self, name: str, origin: str) -> ModuleType:
        """The module, in the place of the genuine one."""
        module = ModuleType(name)
        module.__file__ = origin
        sys.modules[name] = module
        package, _, own = name.rpartition(".")
        setattr(importlib.import_module(package), own, module)
        exec(compile(self._tree, origin, "exec"), module.__dict__)
        return module


def _places(tree: ast.Module) -> list[tuple[ast.AST, str, int | None]]:
    """The decisions: conditions of branches, each part of an `and` or `or`, and returned comparisons."""
    places: list[tuple[ast.AST, str, int | None]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            places.append((node, "test", None))
        elif isinstance(node, ast.BoolOp):
            places += [(node, "values", index) for index in range(len(node.values))]
        elif isinstance(node, ast.Return) and _is_verdict(node.value):
            places.append((node, "value", None))
    return places


def _is_verdict(value: ast.expr | None) -> bool:
    is_call = isinstance(value, ast.Call) and ast.unparse(value.func) == "compare_digest"
    is_bool = isinstance(value, ast.Constant) and isinstance(value.value, bool)
    return is_call or is_bool or isinstance(value, ast.Compare)


def mutants(source: str) -> Iterator[Mutant]:
    tree = ast.parse(source)
    return (Mutant(tree, number) for number in (None, *range(len(_places(tree)))))


def outcome(mutant: Mutant, name: str, origin: str, tests: list[str]) -> int:
    """The exit code of the tests with the mutant in the module's place; they end with the first that fails."""
    child = os.fork()
    if child == 0:
        _run(mutant, name, origin, tests)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(mutant: Mutant, name: str, origin: str, tests: list[str]) -> None:
    """Never returns: the process is the mutant's."""
    code = 70
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        mutant.load(name, origin)
        import pytest

        code = int(pytest.main([*OPTIONS, *tests]))
    finally:
        os._exit(code)


def main(name: str, tests: list[str]) -> None:
    for each in PREPARED:
        importlib.import_module(each)
    assert name not in sys.modules, "a test would keep the genuine one"
    origin = importlib.util.find_spec(name)
    assert origin is not None
    assert origin.origin is not None
    for mutant in mutants(Path(origin.origin).read_text(encoding="utf-8")):
        code = outcome(mutant, name, origin.origin, tests)
        print(json.dumps({"line": mutant.line, "text": mutant.text, "code": code}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
