"""Provide the broker's jars: those of `KAFKA_HOME`, or those that `pom.xml` pins, downloaded once by Maven.

Downloaded jars are kept in the user's cache. Their directory appears only when it is complete, so an interrupted
download is never used. It records the pom it was made from; another pom replaces it.
"""

import asyncio
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import typer
from msgspec import Struct

from deploy.local import programs
from deploy.local.machine import Machine, Missing

POM = Path(__file__).with_name("pom.xml")
MADE_FROM = "made-from-pom"
DOWNLOAD_WITHIN_S = 600.0


class Installation(Struct, frozen=True, kw_only=True):
    """A Kafka that can be started."""

    java: Path
    jars: Path

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Return the command line that runs a class from the jars."""
        return (str(self.java), "-cp", str(self.jars / "*"), *arguments)


async def installation(machine: Machine) -> Installation:
    """Return Java, and the jars of `KAFKA_HOME` or else of the pom.

    Raises:
        Missing: Java or Maven is missing, or the jars cannot be downloaded; then the message has Maven's error.
    """
    java = await _java(machine)
    if home := machine.environ.get("KAFKA_HOME"):
        if not list(Path(home, "libs").glob("kafka_*.jar")):
            raise Missing("Kafka", ("unset KAFKA_HOME",), f"KAFKA_HOME: {home}/libs has no kafka_*.jar")
        return Installation(java=java, jars=Path(home, "libs"))
    return Installation(java=java, jars=await _pinned(machine))


def version() -> str:
    """Return the Kafka version that the pom pins."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text(encoding="utf-8"))
    assert found, f"{POM} names no Kafka"
    return found[1]


def cache(machine: Machine) -> Path:
    """Return the directory of the downloaded jars."""
    caches = machine.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "alipay-notify" / f"kafka-{version()}"


def is_kept(directory: Path) -> bool:
    """Return whether the directory has the jars of this pom."""
    made_from = directory / MADE_FROM
    return made_from.is_file() and made_from.read_text(encoding="ascii") == _fingerprint()


async def _java(machine: Machine) -> Path:
    home = machine.environ.get("JAVA_HOME")
    if not home:
        return await machine.find(programs.JAVA)
    java = Path(home, "bin", "java")
    if fault := await asyncio.to_thread(programs.java_fault, java):
        raise Missing(programs.JAVA.what, programs.JAVA.commands, fault)
    return java


async def _pinned(machine: Machine) -> Path:
    directory = cache(machine)
    if not is_kept(directory):
        maven = await machine.find(programs.MAVEN)
        await asyncio.to_thread(_download, maven, directory)
    return directory


def _download(maven: Path, directory: Path) -> None:
    """Let Maven copy the jars beside the directory, then rename them to it. Another process waits meanwhile."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory.with_name(f"{directory.name}.lock")):
        if is_kept(directory):
            return
        typer.echo(f"downloading Kafka {version()} with Maven (once) …", err=True)
        partial = directory.with_name(f"{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _copy_jars(maven, partial)
        (partial / MADE_FROM).write_text(_fingerprint(), encoding="ascii")
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)


def _copy_jars(maven: Path, into: Path) -> None:
    # Maven writes only to `into`, because the pom's directory may be read-only.
    argv = [str(maven), "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={into}"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing("Kafka", _commands(maven), f"Maven took longer than {DOWNLOAD_WITHIN_S:.0f} s") from None
    if done.returncode or not list(into.glob("kafka_*.jar")):
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise Missing("Kafka", _commands(maven), lines[0] if lines else f"Maven ended with {done.returncode}")


def _commands(maven: Path) -> tuple[str, ...]:
    """Return two remedies: download the same artifacts with visible output, or name an installed Kafka."""
    return (f"{maven} -B -f {POM} dependency:resolve", "export KAFKA_HOME=/path/to/kafka")


def _fingerprint() -> str:
    return sha256(POM.read_bytes()).hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
