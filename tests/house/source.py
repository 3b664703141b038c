"""The product's modules as the house tests read them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = ("schemas", "ingest", "workers", "deploy")


def modules(*folders: str) -> list[Path]:
    """Every module of these folders, or of the product."""
    return sorted(path for folder in folders or PACKAGES for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    """The path from the root of the repository."""
    return str(path.relative_to(ROOT))


def dotted(path: Path) -> str:
    """The module's name as imports have it."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path))


@cache
def imports(path: Path) -> frozenset[str]:
    """The imports of a module, as `package.module` or `package.module.name`."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where a name lives"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def edges() -> frozenset[tuple[str, str]]:
    """The product's modules that import each other: (importing, imported), dotted."""
    known = {dotted(path) for path in modules()}
    found = ((dotted(path), _module(imported, known)) for path in modules() for imported in imports(path))
    return frozenset((importing, imported) for importing, imported in found if imported and imported != importing)


def _module(imported: str, known: set[str]) -> str:
    """The module of the product that holds this name; empty if it is of none."""
    while imported and imported not in known:
        imported = imported.rpartition(".")[0]
    return imported
