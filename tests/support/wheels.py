"""The distributions of this tree, built once for all tests, and environments with nothing of ours but the wheel."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BUILT_WITHIN_S = 240
RUN_WITHIN_S = 120
HOSTILE = "raise ImportError('this package is another program')\n"


@dataclass(frozen=True)
class Environment:
    """A virtual environment. Its Python finds the libraries of the tests, but no module of the tree."""

    folder: Path

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    @property
    def packages(self) -> Path:
        (found,) = (self.folder / "lib").glob("python*/site-packages")
        return found

    def run(
        self, name: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        argv = [str(self.program(name)), *arguments]
        environ = {**clean(), **(environment or {})}
        return subprocess.run(
            argv, cwd=cwd, env=environ, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False
        )


def clean() -> dict[str, str]:
    """The variables of this process without those that lead to the tree or to settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ALIPAY_NOTIFY_"))}


def build(out: Path, source: Path = ROOT, *kinds: str) -> Path:
    """Build the sdist and, from it, the wheel; or only these kinds, from the tree. Return the folder."""
    argv = [sys.executable, "-m", "uv", "build", *kinds, "--quiet", "--out-dir", str(out), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BUILT_WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    return out


def environment(folder: Path, *installed: str) -> Environment:
    """Make an environment, and install our distribution without its dependencies, which those of the tests are."""
    for argv in (
        ["venv", "--quiet", str(folder)],
        ["pip", "install", "--quiet", "--no-deps", "--python", str(folder / "bin/python"), *installed],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "uv", *argv], capture_output=True, text=True, timeout=BUILT_WITHIN_S, check=False
        )
        assert done.returncode == 0, done.stderr
    made = Environment(folder)
    # Files in a folder that a .pth file adds are not read as .pth files, so the tree's own path is not added with it.
    (made.packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the wheel, beside packages of others that have the names of our folders."""
    made = environment(tmp_path_factory.mktemp("installed") / "venv", str(wheel))
    for name in ("schemas", "workers", "ingest", "deploy"):
        (made.packages / name).mkdir()
        (made.packages / name / "__init__.py").write_text(HOSTILE)
    return made
