"""The walls of the house: which package imports which, and what no module may do at all."""

import ast
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from deploy.packaging import namespace
from deploy.packaging.namespace import NotMovable
from tests.house.source import PACKAGES, dotted, edges, imports, modules, name, text, tree

MAY_IMPORT = {
    "schemas": {"schemas"},
    "ingest": {"schemas", "ingest"},
    "workers": {"schemas", "workers"},
    "deploy": {"schemas", "ingest", "workers", "deploy"},
}
PURE = {"msgspec"}  # the only library that `schemas` may import, because every package imports `schemas`
SETTLEMENT_MAY_IMPORT = {"schemas", "workers", "msgspec", "collections", "typing", "enum", "functools", "itertools"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
LEFT_OUT = ("deploy/local/", "deploy/monitoring/", "deploy/packaging/", "deploy/reference.py")  # by the wheel
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "yaml", "xml", "rsa", "Crypto"}


def test_each_package_imports_only_packages_on_its_side_of_the_wall() -> None:
    for package, allowed in MAY_IMPORT.items():
        found = {name(path): _packages(imports(path)) & {*PACKAGES, "tests"} - allowed for path in modules(package)}
        assert {path: packages for path, packages in found.items() if packages} == {}


def test_schemas_imports_only_msgspec_and_the_standard_library() -> None:
    allowed = sys.stdlib_module_names | PURE | {"schemas"}
    found = {name(path): _packages(imports(path)) - allowed for path in modules("schemas")}
    assert {path: packages for path, packages in found.items() if packages} == {}


def test_no_folder_imports_in_a_circle() -> None:
    """In every folder: neither its modules nor its folders import each other in a circle."""
    assert [circle for folder in _folders() if (circle := _circle(folder))] == []


def test_settlement_decides_without_input_and_output() -> None:
    waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    paths = modules("workers/settlement")
    assert [name(path) for path in paths if any(isinstance(node, waiting) for node in ast.walk(tree(path)))] == []
    assert {package for path in paths for package in _packages(imports(path))} - SETTLEMENT_MAY_IMPORT == set()
    calls = [node.func for path in paths for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert {call.id for call in calls if isinstance(call, ast.Name)} & {"open", "print", "input"} == set()
    ours = {imported for importing, imported in edges() if importing.startswith("workers.settlement")}
    assert [each for each in ours if not each.startswith(("schemas", "workers.settlement"))] == []


@pytest.mark.parametrize("folder", ["deploy.local", "deploy.monitoring", "deploy.packaging", "deploy.reference"])
def test_no_other_module_imports_what_the_wheel_leaves_out(folder: str) -> None:
    """They can install packages, write files of the source tree, or build the wheel."""
    found = [
        (importing, imported)
        for importing, imported in edges()
        if imported.startswith(folder) and not importing.startswith(folder)
    ]
    assert found == []


def test_every_module_can_be_moved_under_the_name_of_the_wheel() -> None:
    """No text names a module, because the wheel has each under `alipay_notify`."""
    in_wheel = [path for path in modules() if not name(path).startswith(LEFT_OUT)]
    known = {dotted(path) for path in modules()}
    assert [fault for path in in_wheel if (fault := _not_movable(path, known))] == []


def _not_movable(path: Path, known: set[str]) -> str:
    try:
        namespace.moved(text(path), modules=known)
    except NotMovable as error:
        return f"{name(path)}: {error}"
    return ""


def test_every_module_of_the_receiver_is_used_by_a_receiver() -> None:
    """What only commands use belongs to `deploy`."""
    importers = defaultdict(set)
    for importing, imported in edges():
        importers[imported].add(importing)
    found = [module for module in map(dotted, modules("ingest")) if importers[module]]
    assert [module for module in found if all(each.startswith("deploy.cli.") for each in importers[module])] == []


def test_the_simulated_alipay_has_a_signer_of_its_own() -> None:
    assert [
        name(path)
        for path in modules("deploy/sandbox")
        if any(imported.startswith("ingest.signature") for imported in imports(path))
    ] == []


def test_no_module_evaluates_or_unpickles_anything() -> None:
    for path in modules():
        nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        called = {node.func.id for node in nodes if isinstance(node.func, ast.Name)}
        assert not called & FORBIDDEN_CALLS, name(path)
        assert not _packages(imports(path)) & FORBIDDEN_MODULES, name(path)


def test_the_receiver_never_lets_a_library_decode_a_form() -> None:
    found = [name(path) for path in modules("ingest") if "request.post(" in text(path) or "parse_qsl" in text(path)]
    assert found == []


def _packages(imported: frozenset[str]) -> set[str]:
    return {each.partition(".")[0] for each in imported}


def _folders() -> set[str]:
    """Every folder of the product, dotted, and the root, which is empty."""
    names = [dotted(path) for path in modules()]
    parents = (".".join(each.split(".")[:depth]) for each in names for depth in range(1, each.count(".") + 1))
    return {"", *parents}


def _circle(folder: str) -> list[str]:
    """Children of this folder that import each other in a circle; none if there is no circle."""
    inside, depth = f"{folder}." if folder else "", folder.count(".") + 2 if folder else 1
    graph = defaultdict(set)
    for importing, imported in edges():
        if importing.startswith(inside) and imported.startswith(inside):
            child, other = (".".join(each.split(".")[:depth]) for each in (importing, imported))
            if child != other:
                graph[child].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []
