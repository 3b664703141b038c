"""The tests mirror the product: `tests/unit/workers/test_consumer.py` is about `workers/consumer.py`.

A module that only declares needs no tests of its own: shapes, ports, words, packages.
"""

import ast
from pathlib import Path

from tests.house.source import modules, name, tree
from tests.support.paths import ROOT

# Modules that other tests are about, because they need servers, or are seen only from outside.
TESTED_ELSEWHERE = {
    "deploy/cli/db.py": "contract/test_db.py",
    "deploy/cluster/callback_store.py": "contract/test_callbacks.py",
    "deploy/embedded/audit_list.py": "contract/test_store_audit.py",
    "deploy/embedded/bills.py": "contract/test_store_bills.py",
    "deploy/embedded/callbacks.py": "contract/test_store_callbacks.py",
    "deploy/embedded/erasure.py": "contract/test_store_erasure.py",
    "deploy/embedded/fatal_records.py": "contract/test_begun_notes.py",
    "deploy/embedded/held_lookups.py": "contract/test_store_plans.py",
    "deploy/embedded/key_uses.py": "contract/test_store_key_uses.py",
    "deploy/embedded/order_lists.py": "contract/test_store_order_lists.py",
    "deploy/embedded/recent.py": "contract/test_store_recent.py",
    "deploy/embedded/resends.py": "contract/test_store_resends.py",
    "deploy/embedded/replays.py": "contract/test_store_replays.py",
    "deploy/embedded/snoozes.py": "contract/test_store_snoozes.py",
    "deploy/embedded/wakes.py": "contract/test_store_wakes.py",
    "deploy/examples/consumers/python/consumer.py": "contract/test_consumers.py",
    "deploy/packaging/bill_of_materials.py": "house/test_compose.py",
    "deploy/packaging/hook.py": "contract/test_wheel.py",
    "deploy/shadow/deciding.py": "acceptance/test_shadow.py",
    "deploy/shadow/directory.py": "acceptance/test_shadow.py",
    "deploy/shadow/importing.py": "unit/deploy/cli/test_shadow.py",
    "deploy/shadow/report.py": "acceptance/test_shadow.py",
    "workers/postgres/audit.py": "contract/test_store_held.py",
    "workers/postgres/audit_list.py": "contract/test_store_audit.py",
    "workers/postgres/bills.py": "contract/test_store_bills.py",
    "workers/postgres/callback_lists.py": "contract/test_store_callbacks.py",
    "workers/postgres/callbacks.py": "contract/test_store_callbacks.py",
    "workers/postgres/erasure.py": "contract/test_store_erasure.py",
    "workers/postgres/fatal_records.py": "contract/test_begun_notes.py",
    "workers/postgres/held_lookups.py": "contract/test_store_plans.py",
    "workers/postgres/key_uses.py": "contract/test_store_key_uses.py",
    "workers/postgres/order_lists.py": "contract/test_store_order_lists.py",
    "workers/postgres/marks.py": "faults/test_postgres.py",
    "workers/postgres/movements.py": "contract/test_store_movements.py",
    "workers/postgres/recent.py": "contract/test_store_recent.py",
    "workers/postgres/resends.py": "contract/test_store_resends.py",
    "workers/postgres/replays.py": "contract/test_store_replays.py",
    "workers/postgres/snoozes.py": "contract/test_store_snoozes.py",
    "workers/postgres/lookups.py": "contract/test_store_lookups.py",
    "workers/postgres/wakes.py": "contract/test_store_wakes.py",
    "workers/postgres/migrations/__init__.py": "contract/test_migrations.py",
}


def test_every_module_has_a_test_module() -> None:
    without = [name(path) for path in modules() if not _mirror(path).exists() and not _only_declares(path)]
    assert sorted({*without} - TESTED_ELSEWHERE.keys()) == []


def test_no_module_is_listed_without_need() -> None:
    needed = {name(path) for path in modules() if not _mirror(path).exists() and not _only_declares(path)}
    assert sorted(TESTED_ELSEWHERE.keys() - needed) == []


def test_every_listed_test_exists() -> None:
    assert [test for test in TESTED_ELSEWHERE.values() if not (ROOT / "tests" / test).exists()] == []


def _mirror(path: Path) -> Path:
    inside = path.relative_to(ROOT)
    return ROOT / "tests" / "unit" / inside.parent / f"test_{inside.name}"


def _only_declares(path: Path) -> bool:
    """Whether no function of it does anything; constructors do not count."""
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return not any(_does(statement) for node in nodes if node.name != "__init__" for statement in node.body)


def _does(statement: ast.stmt) -> bool:
    """Whether it is more than a docstring or `...`."""
    return not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
