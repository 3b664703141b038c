"""A stack that goes on when the command that started it has returned.

The command starts itself once more, in a session of its own, and waits for a word from it. Until the stack is ready,
that second process speaks at the command's own terminal, and signals to the command end it; then it leaves the terminal
for a log, says its word, and the command returns. A command that is killed meanwhile leaves a whole stack behind, which
`--down` finds like any other: what runs is known from the directory alone.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

WORD = b"ready\n"
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(arguments: Sequence[str]) -> int:
    """Run `python -m deploy.local` with these arguments in the background.

    Returns 0 when its stack is ready, and else, when it has ended, a code that is not 0.
    """
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "deploy.local", *arguments, "--announce", str(writing)]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=(writing,), start_new_session=True)
    os.close(writing)

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        said = os.read(reading, len(WORD))  # nothing, once the other end is closed
        return 0 if said else child.wait() or 1
    finally:
        os.close(reading)
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_terminal(log: Path, announce: int) -> None:
    """Speak to the log from now on, and let the command that waits at `announce` return."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    os.write(announce, WORD)
    os.close(announce)
