"""The shape of modules, classes and tests. The ceilings are what there is now: they may only fall."""

import ast
import re
from collections import Counter

from tests.house.source import modules, name, text, tree
from tests.support.paths import ROOT

LINES_MAX = 400
CLASS_NAMES_SHARED_MAX = 2
TEST_NAME_MAX = 80


def test_every_module_begins_with_its_purpose() -> None:
    assert [name(path) for path in modules() if tree(path).body and not ast.get_docstring(tree(path))] == []


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    lengths = {name(path): text(path).count("\n") for path in modules()}
    assert {path: length for path, length in lengths.items() if length > LINES_MAX} == {}


def test_few_classes_share_a_name() -> None:
    classes = Counter(
        node.name for path in modules() for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)
    )
    shared = sorted(each for each, count in classes.items() if count > 1)
    assert len(shared) <= CLASS_NAMES_SHARED_MAX, shared


def test_names_of_tests_are_short_sentences() -> None:
    tests = [text(path) for path in (ROOT / "tests").rglob("test_*.py")]
    names = [each for test in tests for each in re.findall(r"^\s*(?:async )?def (test_\w+)", test, re.MULTILINE)]
    assert len(names) > 1000
    assert [each for each in names if len(each) > TEST_NAME_MAX] == []
