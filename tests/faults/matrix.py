"""Count the faults that the engines are tried with, and the tests that try each.

    python -m tests.faults.matrix                  a table: each fault, and on which engines it is tried
    python -m tests.faults.matrix --output json

`matrix.toml`, beside this file, has the rows. `tests.soak.report` adds what a run of the tests has shown.
"""

import argparse
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, convert

from tests.support.paths import ROOT

ROWS = Path(__file__).with_name("matrix.toml")
ENGINES = ("embedded", "cluster", "simulated")


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault. `embedded`, `cluster` and `simulated` name the tests that make it, as pytest does."""

    fault: str
    inject: str
    holds: str
    bound: str = ""
    embedded: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    simulated: tuple[str, ...] = ()
    missing: str = ""

    def tests(self, engine: str) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, engine)
        return found


def rows() -> dict[str, Row]:
    """Return all rows by their number."""
    return convert(tomllib.loads(ROWS.read_text(encoding="utf-8")), dict[str, Row])


def faults_of(matrix: dict[str, Row]) -> list[str]:
    """Return what is wrong with the matrix: a row without tests and without a reason, a test that does not exist."""
    wrong = []
    for number, row in matrix.items():
        tests = [test for engine in ENGINES for test in row.tests(engine)]
        if bool(tests) == bool(row.missing):
            wrong.append(f"{number} needs tests, or the reason why there are none")
        wrong += [f"{number} names {test}, which does not exist" for test in tests if not _exists(test)]
    return wrong


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.is_file() and bool(
        re.search(rf"^(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def counts(matrix: Iterable[Row]) -> dict[str, int]:
    """Return how many rows there are, how many are tried on each engine, and how many are not tried."""
    counted = Counter({"rows": 0} | dict.fromkeys(ENGINES, 0) | {"not tried": 0})
    for row in matrix:
        counted["rows"] += 1
        counted["not tried"] += bool(row.missing)
        counted.update(engine for engine in ENGINES if row.tests(engine))
    return dict(counted)


def main() -> int:
    """Print the matrix. Return 1 if something is wrong with it."""
    options = argparse.ArgumentParser(
        prog="python -m tests.faults.matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--output", choices=("text", "json"), default="text")
    matrix = rows()
    wrong = faults_of(matrix)
    if options.parse_args().output == "json":
        print(json.dumps({"counts": counts(matrix.values()), "rows": _plain(matrix), "wrong": wrong}, indent=2))
    else:
        for number, row in matrix.items():
            engines = " ".join(f"{len(row.tests(engine)) or '':>4}" for engine in ENGINES)
            print(f"{number}  {engines}  {row.fault if not row.missing else f'{row.fault} (not tried)'}")
        print("\n".join(["", "  ".join(f"{name} {count}" for name, count in counts(matrix.values()).items()), *wrong]))
    return bool(wrong)


def _plain(matrix: dict[str, Row]) -> dict[str, Any]:
    return {number: {name: getattr(row, name) for name in row.__struct_fields__} for number, row in matrix.items()}


if __name__ == "__main__":
    sys.exit(main())
