"""Small programs that the tests start, and directories for them."""

import sys
from pathlib import Path

from deploy.local.directory import Directory
from deploy.local.processes import ProcessSpec

SLEEPS = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def spec(code: str, *, name: str = "it", ready_within_s: float = 10.0, stop_within_s: float = 5.0) -> ProcessSpec:
    """A Python program with an empty environment."""
    argv = (sys.executable, "-S", "-E", "-c", code)
    return ProcessSpec(name=name, argv=argv, environ={}, ready_within_s=ready_within_s, stop_within_s=stop_within_s)


def directory(path: Path) -> Directory:
    """A stack's directory without its lock."""
    made = Directory(path)
    made.prepare()
    return made


def executable(path: Path, script: str) -> Path:
    """A shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
