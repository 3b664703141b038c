"""What a person is told once a stack runs: where everything is, and what to type next.

A stack that goes on when the command that started it has returned.

The command starts itself once more, in a session of its own, and waits for a word from it. Until the stack is ready,
that second process speaks at the command's own terminal, and signals to the command end it; then it leaves the terminal
for a log, says its word, and the command returns. A command that is killed meanwhile leaves a whole stack behind, which
`--down` finds like any other: what runs is known from the directory alone.

The life of a stack that a person started: up, ready, watched, looked at, down.
"""

import asyncio
import os
import shutil
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
from deploy.cluster import servers
from deploy.directory_lock import AlreadyRunning
from deploy.local import directory as directories
from deploy.local import leftovers, roles, stack, steps
from deploy.local.engine import ClusterEngine
from deploy.local.machine import Machine, Missing
from deploy.local.ports import NoPort
from deploy.local.processes import DidNotStart
from deploy.local.stack import Stack, StackSpec

COMMAND = "alipay-notify"
WIDTH = 10  # of the names on the left


def of(started: Stack, *, in_background: bool) -> str:
    """Lines that a terminal and a log both show whole; commands are whole lines, to be copied."""
    blocks = ["The stack is ready.", _places(started)]
    if started.engine is not None:
        blocks.append(_commands(started.engine))
    blocks.append(_end(started, in_background=in_background))
    return "\n" + "\n\n".join(block for block in blocks if block) + "\n"


def _places(started: Stack) -> str:
    told = started.addresses()
    public = told.get("public")
    places = {
        "public": f"{public}/notify/ACCOUNT" if public else "",
        "console": f"{told['console']}/" if "console" in told else "",
        "shop": f"{told['sandbox']}/shop" if "sandbox" in told else "",
        "prometheus": told.get("prometheus", ""),
        "haproxy": told.get("haproxy", ""),
        "kafka": told.get("kafka", ""),
        "redis": told.get("redis", ""),
        # Its password stands in a file that only its owner reads, and does not belong on screens.
        "postgres": f"127.0.0.1:{started.postgres.port}" if started.postgres else "",
        "accounts": _short(Path(told["accounts"])) if "accounts" in told else "",
        "logs": f"{_short(started.directory.path)}/log/",
        "addresses": f"{_short(started.directory.path)}/ready.json",
    }
    return "\n".join(f"  {name:<{WIDTH}}  {place}" for name, place in places.items() if place)


def _commands(engine: ClusterEngine) -> str:
    if not engine.public_url:
        return ""
    program, world = _called(), _short(engine.world.directory)
    lines = [f"  {program} trigger paid --dir {world} --to {engine.public_url}"]
    if engine.console is not None:
        admin = f"--admin {engine.console.admin_url}"
        lines.append(f"  {program} held list {admin}")
        # Events are looked at through the console; --kafka with the brokers' addresses reads them from their topic.
        lines.append(f"  {program} load --sandbox {world} --to {engine.public_url} {admin} --duration 30s")
    return "\n".join(lines)


def _end(started: Stack, *, in_background: bool) -> str:
    if not in_background:
        return "Ctrl-C ends it. What ends by itself is told of here."
    directory = _short(started.directory.path)
    where = "" if directory == ".stack" else f" --directory {directory}"
    stop = "make stack-down" if not where else f"{_short(Path(sys.executable))} -m deploy.local --down{where}"
    return f"`{stop}` ends it. What ends by itself is told of in {directory}/log/stack.log."


def _called() -> str:
    """How a person types our program's name here."""
    beside = Path(sys.executable).with_name(COMMAND)
    found = shutil.which(COMMAND)
    if not beside.exists() or (found is not None and Path(found) == beside):
        return COMMAND
    return _short(beside)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


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


LOOK_EVERY_S = 0.5
DOWN_WITHIN_S = 90.0  # ours 30 at most, then HAProxy, Prometheus and the servers 10 each
STOPPED_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DidNotStop(Exception):
    """The stack that was asked to stop goes on."""


REFUSALS = (Missing, DidNotStart, DidNotStop, AlreadyRunning, NoPort, OSError)


async def until_told(
    directory: Path,
    machine: Machine,
    asked: StackSpec,
    *,
    fresh: bool,
    announce: int | None = None,
    argv: tuple[str, ...] = roles.PROGRAM,
) -> None:
    """Start everything, say where it is, and run it until a signal comes.

    One that comes while it starts ends that, in good order too; one more kills what does not stop by itself. Where
    somebody waits at `announce`, the terminal is left as soon as all is ready.

    Raises:
        REFUSALS: as `stack.running` does.
    """
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    assert here is not None
    for number in STOPPED_BY:
        loop.add_signal_handler(number, here.cancel)
    with suppress(asyncio.CancelledError), steps.shown() as shown:
        async with stack.running(directory, machine, asked, fresh=fresh, argv=argv, steps=shown) as started:
            shown.end()
            typer.echo(of(started, in_background=announce is not None), err=True)
            sys.stdout.write(ready_line(started) + "\n")
            sys.stdout.flush()
            if announce is not None:
                leave_terminal(started.directory.log("stack"), announce)
            await _watch(started)


def ready_line(started: Stack) -> str:
    """What a script waits for."""
    return msgspec.json.encode({"event": "ready", **started.addresses()}).decode("utf-8")


async def _watch(started: Stack) -> None:
    """For ever; says so when a process ends without us. The others go on: somebody may have killed it to see that."""
    ended: set[str] = set()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for process in started.processes():
            if not process.runs and process.name not in ended:
                ended.add(process.name)
                typer.echo(f"{_now()} {process.told(f'ended with {process.code}')}", err=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")


def state(directory: Path) -> Mapping[str, bool]:
    """Each process that was started in the directory and not stopped, and whether it runs."""
    marks = {path.stem: leftovers.read(path) for path in sorted((directory / "run").glob("*.json"))}
    return {name: mark is not None and leftovers.is_alive(mark) for name, mark in marks.items()}


def is_whole(directory: Path) -> bool:
    """Says how each process is, and where the stack is found; whether it is ready, with all of them running."""
    processes, found = state(directory), servers.of_stack(directory)
    for name, runs in processes.items():
        typer.echo(f"{name:<14}{'runs' if runs else f'ended: see {directory}/log/{name}.log'}", err=True)
    if found is None:
        typer.echo(f"no stack is ready in {directory}", err=True)
        return False
    typer.echo(msgspec.json.encode(found).decode("utf-8"))
    return all(processes.values())


def take_down(directory: Path) -> None:
    """Ask the process that has the directory to stop, and kill it where it does not heed that.

    When it returns, nothing runs any more of what was started in the directory, also where the process that started it
    was killed.

    Raises:
        DidNotStop: something goes on all the same.
    """
    holder = directory_lock.holder(directory)
    if holder is not None:
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
        if not _leaves(directory, holder):
            typer.echo(f"process {holder} does not stop: it is killed", err=True)
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
    """Whether it leaves the directory in time."""
    deadline = time.monotonic() + DOWN_WITHIN_S
    while directory_lock.holder(directory) == holder:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY_S / 5)
    return True


async def _end_leftovers(directory: Path) -> None:
    async with directories.held(directory):  # whoever takes it ends them
        pass
