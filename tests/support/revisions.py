"""Earlier revisions of this repository, as git has them, and their source trees."""

import io
import subprocess
import tarfile
from pathlib import Path

from tests.support.paths import ROOT

TREE = ("schemas", "ingest", "workers", "deploy")


def git(*arguments: str) -> bytes:
    """Return what git prints.

    Raises:
        AssertionError: it failed; with its message.
    """
    done = _run(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def is_clone() -> bool:
    """Return whether this tree is a clone: an unpacked archive is none, also if it lies in another one."""
    try:
        found = _run("rev-parse", "--show-toplevel").stdout.decode().strip()
    except FileNotFoundError:
        return False
    return bool(found) and Path(found).samefile(ROOT)


def is_here(revision: str) -> bool:
    """Return whether this tree is a clone that has the revision; a shallow one may lack it."""
    return is_clone() and _run("cat-file", "-e", f"{revision}^{{commit}}").returncode == 0


def newest_tag() -> str:
    """Return the newest tag before the commit that is checked out; empty if there is none."""
    tags = git("tag", "--merged", "HEAD", "--no-contains", "HEAD", "--sort=-version:refname").decode().split()
    return tags[0] if tags else ""


def unpack(revision: str, directory: Path) -> None:
    """Write the packages of the revision into the directory."""
    packed = git("archive", "--format=tar", revision, *TREE)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(directory, filter="data")


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(("git", "-C", str(ROOT), *arguments), capture_output=True, check=False)
