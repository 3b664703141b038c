"""The walls of the house: who may import whom, and what no module may do at all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("schemas", "ingest", "workers", "deploy")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "ingest": {"schemas", "ingest"},
    "workers": {"schemas", "workers"},
    "deploy": {"schemas", "ingest", "workers", "deploy"},
}
# What the language may lean on: it is read by everybody, so it drags nobody's client library in.
PURE = {"msgspec"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "yaml", "xml", "rsa", "Crypto"}


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where a name lives"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_a_module_imports_only_packages_on_its_side_of_the_wall(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {module.split(".")[0] for module in imports(path)} & {*PACKAGES, "tests"}
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", modules("schemas"), ids=name)
def test_the_language_leans_on_nothing_but_msgspec_and_the_standard_library(path: Path) -> None:
    import sys

    foreign = {module.split(".")[0] for module in imports(path)} - sys.stdlib_module_names - PURE - {"schemas"}
    assert not foreign


@pytest.mark.parametrize("path", modules("deploy/sandbox"), ids=name)
def test_the_simulated_alipay_signs_with_a_pen_of_its_own(path: Path) -> None:
    assert not [module for module in imports(path) if module.startswith("ingest.signature")]


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_no_module_evaluates_or_unpickles_anything(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & FORBIDDEN_CALLS
    assert not {module.split(".")[0] for module in imports(path)} & FORBIDDEN_MODULES


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_a_module_says_what_it_is_for_and_stays_a_module(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    if tree.body:
        assert ast.get_docstring(tree), "the head of a module says what it is for"
    assert source.count("\n") <= 420, "a module that nobody can hold in the head: find its seam"


@pytest.mark.parametrize("path", modules("ingest"), ids=name)
def test_the_receiver_never_lets_a_library_decode_a_form(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "request.post(" not in source
    assert "parse_qsl" not in source


def test_no_module_outside_the_local_stack_imports_it() -> None:
    """The wheel leaves `deploy/local` out, because it can install packages."""
    outside = [path for path in modules(*PACKAGES) if "deploy/local" not in path.as_posix()]
    assert len(outside) > 100
    importers = [
        name(path) for path in outside if any(f"{module}.".startswith("deploy.local.") for module in imports(path))
    ]
    assert importers == []
