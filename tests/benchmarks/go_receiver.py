"""The receiver in Go that ours is compared with (`peers/go-receiver`): built where Go is installed, and run."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.benchmarks.cluster import cores
from tests.benchmarks.receiver_cost import APP, SELLER

SOURCE = Path(__file__).parent / "peers" / "go-receiver"
BUILD_S = 300.0


class GoMissing(Exception):
    """The receiver cannot be built here. The text says why in one line."""


class Running(Struct, frozen=True):
    """A receiver that answers on this port."""

    pid: int
    port: int


def build(directory: Path) -> Path:
    """Build it into this directory; its modules come from the Go proxy unless they are there already.

    Raises:
        GoMissing: there is no Go, or it cannot build it.
    """
    if (go := shutil.which("go")) is None:
        raise GoMissing("without a receiver in Go, because Go is not on PATH: install Go 1.26 from https://go.dev/dl")
    program = directory / "go-receiver"
    build = [go, "build", "-o", str(program), "."]
    try:
        subprocess.run(build, cwd=SOURCE, timeout=BUILD_S, capture_output=True, text=True, check=True)
    except subprocess.TimeoutExpired:
        raise GoMissing(f"without a receiver in Go, because it was not built within {BUILD_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise GoMissing(f"without a receiver in Go, because it cannot be built: {why}") from None
    return program


@contextmanager
def running(program: Path, key: Path, *, brokers: str = "", topic: str = "") -> Iterator[Running]:
    """Run it on the measured core; without brokers it only verifies."""
    told = {"key": str(key), "app": APP, "seller": SELLER, "brokers": brokers, "topic": topic}
    with cores.on(cores.MEASURED):
        process = subprocess.Popen(
            [str(program), *(f"-{name}={value}" for name, value in told.items())],
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath, "HOME": str(program.parent)},
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port, "the receiver in Go ended at its start"
        yield Running(process.pid, int(port))
    finally:
        process.terminate()
        try:
            process.wait(15)
        finally:
            process.kill()
