"""Words: each metric and label is named once, and the project speaks of itself alone."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

from schemas import telemetry
from tests.house.source import modules, text, tree
from tests.support.paths import ROOT

# Words of a private dialect, and how many of them there may be in 1,000 of the product's: these may only fall.
DIALECT = {
    r"\b(who|whoever|whom|nobody|somebody|everybody)\b": 0.1,
    r"\b(told|tell|tells|said|say|says|heard)\b": 0.4,
    r"\bwhat (is|was|has|it|they|we|a|an|the|comes|came|others?)\b": 0.4,
}
TOLD_LINES_MAX = 2  # lines with `told` or `heard`, in code too


def test_every_metric_family_is_named_once_and_in_the_house_style() -> None:
    names = [family.name for family in telemetry.CATALOGUE]
    assert len(set(names)) == len(names)
    for family in telemetry.CATALOGUE:
        assert re.fullmatch(r"(alipay_notify|http_server)_[a-z_]+", family.name)
        assert family.help.endswith(".")
        assert (family.kind == "histogram") == bool(family.buckets)
        assert not set(family.labels) & {"order", "out_trade_no", "trade_no", "notify_id", "buyer_id"}


def test_no_file_names_a_machine_path_or_a_package_registry() -> None:
    tracked = subprocess.run(
        ["git", "-C", ROOT, "grep", "-InE", r"/work/|/tmp/venv|pypi\.org|npmjs|index-url [a-z]", "--", "."],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert [line for line in tracked.splitlines() if not line.startswith("tests/house/")] == []


def test_the_product_speaks_plainly() -> None:
    prose = " ".join(words for path in modules() for words in _prose(path))
    thousands = len(re.findall(r"[A-Za-z']+", prose)) / 1000
    assert thousands > 20
    found = {pattern: len(re.findall(pattern, prose, re.IGNORECASE)) / thousands for pattern in DIALECT}
    assert {pattern: rate for pattern, rate in found.items() if rate > DIALECT[pattern]} == {}
    lines = [line for path in modules() for line in text(path).splitlines() if re.search(r"\b(told|heard)\b", line)]
    assert len(lines) <= TOLD_LINES_MAX


def _prose(path: Path) -> Iterator[str]:
    """Comments, docstrings, and other strings of several words."""
    for token in tokenize.generate_tokens(io.StringIO(text(path)).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 3:
            yield node.value
