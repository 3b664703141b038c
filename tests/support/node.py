"""Node with the packages of `tests/node`, in the versions of its lock file.

    python -m tests.support.node     install them; the tests do so too, if they are not there

The fixture `node` skips the test if Node is missing, and fails it under CI=true.
"""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import programs
from deploy.local.machine import Machine, Missing
from tests.support.paths import ROOT
from tests.support.real_servers import absent

FOLDER = ROOT / "tests/node"
PACKAGES = FOLDER / "node_modules"
INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
INSTALL_WITHIN_S = 300


def packages() -> Path:
    """Install the packages unless they are there as the lock file has them; return their folder.

    Raises:
        Missing: npm is not here, or cannot install them.
    """
    wanted = (FOLDER / "package-lock.json").read_bytes()
    stamp = PACKAGES / ".installed"
    with (FOLDER / "package.json").open() as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)  # runs and workers in one tree wait for the first of them
        if stamp.exists() and stamp.read_bytes() == wanted:
            return PACKAGES
        npm = _found(programs.NPM)
        done = subprocess.run(
            [npm, *INSTALL], cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False
        )
        if done.returncode:
            raise Missing("a package of tests/node", ("npm ci",), done.stderr.strip()[-500:])
        stamp.write_bytes(wanted)
    return PACKAGES


def program() -> Path:
    """Return Node's path.

    Raises:
        Missing: it is not here.
    """
    return _found(programs.NODE)


def environment() -> dict[str, str]:
    """Return an environment in which a script in any folder finds the packages."""
    return os.environ | {"NODE_PATH": str(PACKAGES)}


def _found(wanted: programs.NeededProgram) -> Path:
    return asyncio.run(Machine(environ=dict(os.environ)).find(wanted))


@pytest.fixture(scope="session")
def node() -> Path:
    """The path of Node, which finds the packages in `environment()`."""
    try:
        packages()
        return program()
    except Missing as missing:
        absent(missing)


if __name__ == "__main__":
    try:
        packages()
    except Missing as missing:
        sys.exit(str(missing))
