"""Numbered SQL files: their order, and which names are refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import migration_files
from workers.migration_files import Migration

PACKAGE = "package_with_migrations"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder `steps` in a package that can be imported."""
    (tmp_path / PACKAGE / "steps").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / PACKAGE / "steps"
    sys.modules.pop(PACKAGE, None)


def names(*migrations: Migration) -> list[tuple[int, str]]:
    return [(each.number, each.name) for each in migrations]


def test_files_are_loaded_in_the_order_of_their_numbers(folder: Path) -> None:
    for name in ("0010_ten.sql", "0002_two.sql", *(f"000{n}_n.sql" for n in (9, 8, 7, 6, 5, 4, 3)), "0001_one.sql"):
        (folder / name).write_text(f"-- expand\n{name}", "utf-8")
    (folder / "README.md").touch()
    loaded = migration_files.load(PACKAGE, "steps")
    assert names(*loaded)[:2] == [(1, "0001_one"), (2, "0002_two")]
    assert [each.number for each in loaded] == list(range(1, 11))
    assert loaded[9].sql == "-- expand\n0010_ten.sql"
    assert loaded[9].kind == "expand"


@pytest.mark.parametrize(
    "files",
    [
        ["0002_two.sql"],
        ["0001_one.sql", "0003_three.sql"],
        ["0001_one.sql", "0001_two.sql"],
        ["0001_one.sql", "two.sql"],
        ["0001_one.sql", "00002_two.sql"],
        ["0001.sql"],
    ],
)
def test_gap_double_number_or_other_name_is_refused(folder: Path, files: list[str]) -> None:
    for name in files:
        (folder / name).touch()
    with pytest.raises(ValueError, match="name it 000"):
        migration_files.load(PACKAGE, "steps")
