"""The built distributions: their content, that it is the same each time, and that nothing needs the source tree."""

import os
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support import wheels
from tests.support.paths import ROOT
from tests.support.wheels import Environment

PACKAGES = ("schemas", "ingest", "workers", "deploy")
SHIPPED = {".py", ".sql", ".html", ".js", ".css", ".toml", ".yaml", ".yml", ".json", ".cfg", ".service", ".md", ".conf"}
# They start servers, write committed files, and build the wheel.
OF_THE_TREE = (
    "deploy/local/",
    "deploy/monitoring/",
    "deploy/packaging/",
    "deploy/reference.py/",
    "deploy/compose/sbom.cdx.json/",
)
IMPORT_ALL = """
import importlib, pathlib, sys
root = pathlib.Path(importlib.import_module("alipay_notify").__file__).parents[1]
paths = sorted((root / "alipay_notify").rglob("*.py"))
for path in paths:
    importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
assert not {"schemas", "ingest", "workers", "deploy"} & sys.modules.keys()
print(len(paths), root)
"""


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(wheel).extractall(files)
    return files


def test_wheel_has_every_file_of_the_packages_except_those_for_the_tree(unpacked: Path) -> None:
    in_tree = {
        name(path, ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in SHIPPED
    }
    left_out = {each for each in in_tree if f"{each}/".startswith(OF_THE_TREE)}
    in_wheel = {name(path, unpacked / "alipay_notify") for path in unpacked.rglob("*") if "dist-info" not in str(path)}
    assert left_out
    at_the_top = {each for each in in_tree if each.startswith("schemas/consumer/")}
    assert in_tree - left_out - at_the_top - in_wheel == set()
    assert {each.removeprefix("schemas/consumer/") for each in at_the_top} <= in_wheel
    assert not [each for each in in_wheel if f"{each}/".startswith((*OF_THE_TREE, "schemas/consumer/"))]
    assert {"deploy/runbooks/AckBudgetBurn.md", "deploy/prometheus/rules/alerts.yml", "events.py"} <= in_wheel


def name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else ""


def test_wheel_has_one_top_level_package(unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")} == {"alipay_notify"}


def test_distributions_are_the_same_bytes_from_tree_and_sdist(built: Path, tmp_path: Path) -> None:
    """The fixture's wheel was built from the sdist. Both are built again from a copy with other times and modes."""
    tree = copied(tmp_path / "tree")
    for path in tree.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1, 1))
    plant_keys_and_accounts(tree)
    again = wheels.build(tmp_path / "again", tree, "--sdist", "--wheel")
    for pattern in ("*.whl", "*.tar.gz"):
        (one,), (other,) = built.glob(pattern), again.glob(pattern)
        assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())


def copied(tree: Path) -> Path:
    """Copy what the sdist may have. Other tests write into other folders meanwhile."""
    tree.mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts = project["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    ignored = shutil.ignore_patterns("node_modules", "__pycache__")
    for name in ("pyproject.toml", *parts):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, tree / name)
    return tree


def plant_keys_and_accounts(tree: Path) -> None:
    """Put files where operators who work in the source tree have their own. None may reach a distribution."""
    for folder in (
        ".",
        "deploy/compose/secrets",
        "deploy/compose/accounts/keys",
        "deploy/kubernetes/overlays/shop/secrets",
    ):
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / "accounts.toml").write_text("")
        (tree / folder / "alipay.pem").write_text("")


def test_module_for_consumers_needs_none_of_our_packages(unpacked: Path, tmp_path: Path) -> None:
    """A consumer may copy it alone."""
    shutil.copytree(unpacked / "alipay_notify", tmp_path / "alipay_notify", ignore=shutil.ignore_patterns(*PACKAGES))
    with_libraries = Environment(Path(sys.prefix))
    told = with_libraries.run(
        "python", "-P", "-c", "from alipay_notify import events; print(events.OrderState.__name__, events.__file__)",
        cwd=tmp_path, environment={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["OrderState", str(tmp_path / "alipay_notify/events.py")]
    assert (unpacked / "alipay_notify/py.typed").exists()


def test_every_module_of_the_wheel_imports_beside_packages_of_others(installed: Environment, tmp_path: Path) -> None:
    done = installed.run("python", "-c", IMPORT_ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    count, root = done.stdout.split()
    assert int(count) > 250
    assert root == str(installed.packages)


def test_editable_installation_leads_to_the_tree(tmp_path: Path) -> None:
    editable = wheels.environment(tmp_path / "venv", "--editable", str(ROOT))
    asked = (
        "import deploy; from alipay_notify import events; from alipay_notify.deploy.cli import main;"
        "print(deploy.__file__, events.__file__)"
    )
    done = editable.run("python", "-c", asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(ROOT / "deploy/__init__.py"), str(ROOT / "schemas/consumer/events.py")]
    shown = editable.run("alipay-notify", "trigger", "--list", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "burst" in shown.stdout
