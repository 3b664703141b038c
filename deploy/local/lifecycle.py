"""The life of a stack that an operator starts: up, ready, watched, detached, looked at, down.

The stack runs in the process that started it, or with `--detach` in a second process with its own session. Until the
stack is ready, the second process writes to the command's terminal, and signals to the command end it. Then it writes
to a log, announces that it is ready, and the command returns. If the command is killed before that, the stack goes on;
`--down` finds it like any other, because the directory alone names the processes that run.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec
import typer

from deploy import directory_lock
from deploy.cluster import servers, settings
from deploy.directory_lock import AlreadyRunning
from deploy.local import directory as directories
from deploy.local import environment, leftovers, roles, stack, steps
from deploy.local.machine import Machine, Missing
from deploy.local.ports import NoPort
from deploy.local.processes import DidNotStart
from deploy.local.stack import Stack, StackSpec

COMMAND = "alipay-notify"
NAME_WIDTH = 10  # of the ready summary's left column
ANNOUNCEMENT = b"ready\n"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOK_EVERY_S = 0.5
DOWN_WITHIN_S = 90.0  # our processes take 30 s at most, HAProxy, Prometheus and the servers 10 s each


class DidNotStop(Exception):
    """The stack still runs after it was asked to stop and then killed."""


START_ERRORS = (Missing, DidNotStart, DidNotStop, AlreadyRunning, NoPort, OSError)


async def run_until_signal(
    directory: Path,
    machine: Machine,
    spec: StackSpec,
    *,
    fresh: bool,
    announce: int | None = None,
    argv: tuple[str, ...] = roles.PROGRAM,
) -> None:
    """Start the stack, print its addresses, and run it until a signal.

    A signal during the start ends the start in good order too. A second signal kills the processes that do not stop by
    themselves. `announce` is the pipe to a command that waits for the start: the terminal is left once all is ready.

    Raises:
        START_ERRORS: as `stack.running` does.
    """
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    assert here is not None
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, here.cancel)
    with suppress(asyncio.CancelledError), steps.shown() as shown:
        async with stack.running(directory, machine, spec, fresh=fresh, argv=argv, steps=shown) as started:
            shown.end()
            typer.echo(ready_summary(started, detached=announce is not None), err=True)
            sys.stdout.write(ready_line(started) + "\n")
            sys.stdout.flush()
            if announce is not None:
                leave_terminal(started.directory.log("stack"), announce)
            await _watch(started)


async def _watch(started: Stack) -> None:
    """Report each process that ends by itself, for ever. The others go on, because the operator may have killed it."""
    ended: set[str] = set()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for process in started.processes():
            if not process.runs and process.name not in ended:
                ended.add(process.name)
                typer.echo(f"{_now()} {process.with_log(f'ended with {process.code}')}", err=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")


def ready_line(started: Stack) -> str:
    """Return the JSON line that scripts wait for."""
    return _printed({"event": "ready", **started.addresses()})


def _printed(found: Mapping[str, str]) -> str:
    """Return addresses as JSON without the password, which is in files that only their owner can read."""
    shown = {name: settings.without_password(address) for name, address in found.items()}
    return msgspec.json.encode(shown).decode("utf-8")


def ready_summary(started: Stack, *, detached: bool) -> str:
    """Return the text for the operator: addresses, and commands as whole lines, to be copied."""
    blocks = ["The stack is ready.", _addresses(started), _commands(started), _end(started, detached=detached)]
    return "\n" + "\n\n".join(block for block in blocks if block) + "\n"


def _addresses(started: Stack) -> str:
    found = started.addresses()
    public = found.get("public")
    shown = {
        "public": f"{public}/notify/ACCOUNT" if public else "",
        "console": f"{found['console']}/" if "console" in found else "",
        "shop": f"{found['sandbox']}/shop" if "sandbox" in found else "",
        "prometheus": found.get("prometheus", ""),
        "alerts": found.get("alertmanager", ""),
        "haproxy": found.get("haproxy", ""),
        "kafka": found.get("kafka", ""),
        "redis": found.get("redis", ""),
        "postgres": f"127.0.0.1:{started.postgres.port}" if started.postgres else "",
        "accounts": _short(Path(found["accounts"])) if "accounts" in found else "",
        "logs": f"{_short(started.directory.path)}/log/",
        "addresses": f"{_short(started.directory.path)}/{servers.STACK_FILE}",
    }
    return "\n".join(f"  {name:<{NAME_WIDTH}}  {address}" for name, address in shown.items() if address)


def _commands(started: Stack) -> str:
    engine, file = started.engine, _short(started.directory.path / environment.FILE)
    if engine is None or not engine.public_url:
        return f"  source {file}"
    lines = [f"  source {file}", f"  {COMMAND} trigger paid"]
    if engine.console is not None:
        lines.append(f"  {COMMAND} held list")
        # Without --kafka, `load` reads the events from the console.
        admin = f"--admin {engine.console.admin_url}"
        lines.append(f"  {COMMAND} load --to {engine.public_url} {admin} --duration 30s")
    return "\n".join(lines)


def _end(started: Stack, *, detached: bool) -> str:
    if not detached:
        return "Stop it with Ctrl-C. Processes that end by themselves are reported here."
    directory = _short(started.directory.path)
    where = "" if directory == ".stack" else f" --directory {directory}"
    stop = "make stack-down" if not where else f"{_short(Path(sys.executable))} -m deploy.local --down{where}"
    return f"Stop it with `{stop}`. Processes that end by themselves are reported in {directory}/log/stack.log."


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def start_detached(arguments: Sequence[str]) -> int:
    """Run `python -m deploy.local` with these arguments in the background.

    Return 0 when its stack is ready, or the exit code (not 0) if the process ends before that.
    """
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "deploy.local", *arguments, "--announce", str(writing)]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=(writing,), start_new_session=True)
    os.close(writing)

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, pass_on) for number in STOP_SIGNALS}
    try:
        announced = os.read(reading, len(ANNOUNCEMENT))  # empty when the child has ended without it
        return 0 if announced else child.wait() or 1
    finally:
        os.close(reading)
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_terminal(log: Path, announce: int) -> None:
    """Write to the log from now on, and let the command that waits at `announce` return."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    os.write(announce, ANNOUNCEMENT)
    os.close(announce)


def state(directory: Path) -> Mapping[str, bool]:
    """Return, for each process that was started in the directory and not stopped, whether it runs."""
    marks = {path.stem: leftovers.read(path) for path in sorted((directory / "run").glob("*.json"))}
    return {name: mark is not None and leftovers.is_alive(mark) for name, mark in marks.items()}


def is_whole(directory: Path) -> bool:
    """Print the state of each process and the stack's addresses. Return whether it is ready and all processes run."""
    processes, found = state(directory), servers.of_stack(directory)
    for name, runs in processes.items():
        typer.echo(f"{name:<14}{'runs' if runs else f'has ended: see {directory}/log/{name}.log'}", err=True)
    if found is None:
        typer.echo(f"no stack is ready in {directory}", err=True)
        return False
    typer.echo(_printed(found))
    return all(processes.values())


def take_down(directory: Path) -> None:
    """Ask the process that has the directory to stop, and kill it if it does not stop in time.

    When it returns, nothing runs any more that was started in the directory, even if the starting process was killed.

    Raises:
        DidNotStop: a process still runs.
    """
    holder = directory_lock.holder(directory)
    if holder is not None:
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
        if not _leaves(directory, holder):
            typer.echo(f"process {holder} did not stop within {DOWN_WITHIN_S:.0f} s: killing it", err=True)
            with suppress(ProcessLookupError):
                os.kill(holder, signal.SIGKILL)
            if not _leaves(directory, holder):
                raise DidNotStop(f"process {holder} did not stop")
    left = [name for name, runs in state(directory).items() if runs]
    if left:
        asyncio.run(_end_leftovers(directory))
    elif holder is None:
        typer.echo(f"no stack runs in {directory}", err=True)


def _leaves(directory: Path, holder: int) -> bool:
    """Wait until the process gives the directory up. Return whether it does in time."""
    deadline = time.monotonic() + DOWN_WITHIN_S
    while directory_lock.holder(directory) == holder:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY_S / 5)
    return True


async def _end_leftovers(directory: Path) -> None:
    async with directories.held(directory):  # taking the directory ends them
        pass
