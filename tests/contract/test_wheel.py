"""The built wheel: its content, and that modules and command work without the source tree."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("schemas", "ingest", "workers", "deploy")
SHIPPED = {".py", ".sql", ".html", ".js", ".css", ".toml", ".yaml", ".yml", ".json", ".cfg", ".service", ".md"}
OF_THE_TREE = ("deploy/local/", "deploy/monitoring/")  # they start servers, and write committed files
IMPORT_ALL = """
import importlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob("*.py")):
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    importlib.import_module(name.removesuffix(".__init__"))
assert all(sys.modules[name].__file__.startswith(str(root)) for name in ("schemas", "ingest", "workers", "deploy"))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a wheel that was built from this tree."""
    built = tmp_path_factory.mktemp("built")
    argv = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(built), str(ROOT)]
    subprocess.run(argv, check=True, timeout=120)
    (wheel,) = built.glob("*.whl")
    files = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(files)
    return files


def test_wheel_has_every_file_of_the_packages_except_those_for_the_tree(unpacked: Path) -> None:
    in_tree = {
        name(path, ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in SHIPPED
    }
    left_out = {each for each in in_tree if each.startswith(OF_THE_TREE)}
    in_wheel = {name(path, unpacked) for path in unpacked.rglob("*")}
    assert left_out
    again = {each for each in in_tree if each.startswith("schemas/consumer/")}
    assert in_tree - left_out - in_wheel == set()
    assert {each.replace("schemas/consumer", "alipay_notify") for each in again} <= in_wheel
    assert not [each for each in in_wheel if f"{each}/".startswith(OF_THE_TREE)]
    assert {"deploy/runbooks/AckBudgetBurn.md", "deploy/prometheus/rules/alerts.yml"} <= in_wheel


def test_module_for_consumers_needs_none_of_our_packages(unpacked: Path, tmp_path: Path) -> None:
    """It stands under the program's own name, and can be used where `schemas` is somebody else's."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/__init__.py").write_text("raise ImportError('of the program that consumes')\n")
    shutil.copytree(unpacked / "alipay_notify", tmp_path / "alipay_notify")
    told = run(tmp_path, "-c", "from alipay_notify import events; print(events.OrderState.__name__)")
    assert told.strip() == "OrderState"
    assert (unpacked / "alipay_notify/py.typed").exists()


def name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def test_every_module_of_the_wheel_can_be_imported(unpacked: Path) -> None:
    run(unpacked, "-c", IMPORT_ALL, str(unpacked))


def test_command_of_the_wheel_shows_its_help(unpacked: Path) -> None:
    assert "trigger" in run(unpacked, "-m", "deploy.cli.main", "--help")


def run(unpacked: Path, *arguments: str) -> str:
    """Run Python over the wheel's files, with the installed dependencies. Return its output."""
    environ = {"PYTHONPATH": str(unpacked), "PATH": "/usr/bin:/bin"}
    argv = [sys.executable, "-P", *arguments]
    done = subprocess.run(argv, cwd=unpacked, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
