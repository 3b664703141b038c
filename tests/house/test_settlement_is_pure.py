"""The settlement package stays pure, so that its rules run in any store's transaction and are tested without one."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

SETTLEMENT = ROOT / "workers" / "settlement"
MAY_IMPORT = ("collections.abc", "enum", "msgspec", "schemas", "typing", "workers.settlement")
CALLS_WITH_EFFECTS = {"open", "print", "input"}
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(SETTLEMENT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def is_allowed(module: str) -> bool:
    return any(module == allowed or module.startswith(f"{allowed}.") for allowed in MAY_IMPORT)


def test_settlement_awaits_nothing() -> None:
    assert [f"{path.name}:{node.lineno}" for path, node in nodes() if isinstance(node, ASYNC)] == []


def test_settlement_imports_no_clock_no_client_and_no_io() -> None:
    foreign = [
        f"{path.name}: {module}" for path, node in nodes() for module in imported(node) if not is_allowed(module)
    ]
    assert foreign == []


def test_settlement_calls_nothing_with_an_effect() -> None:
    calls = [
        (path, node.func.id) for path, node in nodes() if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert [f"{path.name}: {name}" for path, name in calls if name in CALLS_WITH_EFFECTS] == []
