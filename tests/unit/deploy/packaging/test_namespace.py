"""Modules of the tree as they stand in the wheel."""

import pytest

from deploy.packaging import namespace
from deploy.packaging.namespace import NotMovable

MODULES = ("schemas", "schemas.money", "deploy", "deploy.cli", "deploy.cli.main", "workers", "workers.admin")


def moved(source: str) -> str:
    return namespace.moved(source, modules=MODULES)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("from schemas import money\n", "from alipay_notify.schemas import money\n"),
        ("from   schemas.money import (\n    a,\n)\n", "from   alipay_notify.schemas.money import (\n    a,\n)\n"),
        ("import schemas\n", "import alipay_notify.schemas as schemas\n"),
        ("import schemas as s, os\n", "import alipay_notify.schemas as s, os\n"),
        ("import os, ingest.a as a, deploy", "import os, alipay_notify.ingest.a as a, alipay_notify.deploy as deploy"),
        ("x = '支付宝'; from deploy import exits\n", "x = '支付宝'; from alipay_notify.deploy import exits\n"),
        ("def f():\n    from workers import admin\n", "def f():\n    from alipay_notify.workers import admin\n"),
        ("from schemas_of_others import a\nimport workersx\n", "from schemas_of_others import a\nimport workersx\n"),
    ],
)  # fmt: skip
def test_imports_of_ours_are_moved_and_others_stay(source: str, result: str) -> None:
    assert moved(source) == result


def test_texts_that_look_like_imports_stay() -> None:
    source = '"""from schemas import money"""\nx = "import deploy"  # from deploy import exits\n'
    assert moved(source) == source


def test_folders_names_and_prose_stay() -> None:
    source = 'a = Path("schemas")\nb = "ingest"\nc = "workers.yaml"\nd = "python -m deploy.cli.main"\ne = f"{a}/x"\n'
    assert moved(source) == source


@pytest.mark.parametrize(
    "source",
    [
        "import schemas.money\n",
        "from . import money\n",
        "from .money import parse\n",
        'importlib.import_module("deploy")\n',
        'import_module(f"deploy.cli.{name}")\n',
        'import_module("deploy.cli." + name)\n',
        'resources.files("schemas")\n',
        'PackageLoader(package_name="workers.admin")\n',
        'find_spec("workers")\n',
        'argv = [sys.executable, "-m", "deploy.cli.main"]\n',
        'ENTRY = "deploy.cli.main:main"\n',
        'TARGET = "schemas.money.parse"\n',
        'NAME = f"workers.{part}"\n',
    ],
)
def test_what_would_keep_the_old_name_is_refused(source: str) -> None:
    with pytest.raises(NotMovable, match="line 2: "):
        moved(f"x = 1\n{source}")


def test_every_fault_of_a_module_is_told() -> None:
    with pytest.raises(NotMovable, match=r"line 1: .*; line 2: "):
        moved('from . import a\nx = "deploy.cli.main"\n')
