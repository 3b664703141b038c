"""The parent of the senders: starts them, gives them one start, draws what they tell, and gathers what came of it.

Senders are processes, because one interpreter sends with one core. They are ended with this block, however it ends.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import msgspec
from msgspec import Struct

from deploy.load import progress, sender
from deploy.load.open_loop import Attempt
from deploy.load.pool import Told
from deploy.load.progress import Stage
from deploy.load.sender import Done, Failed, Live, Message, Ready, Signed, Task

# Between the word and the first request: for connections to be opened, and the slowest sender to have heard.
_START_IN_S = 0.5
_END_WITHIN_S = 5.0


class SenderFailed(Exception):
    """A sender could not do its work; the text says why."""


class Log(Struct, frozen=True, kw_only=True):
    """All that was told, and every attempt; an attempt names what it told by its index."""

    told: Sequence[Told]
    attempts: Sequence[Attempt]
    behind_s: Sequence[float]


def send(tasks: Sequence[Task]) -> Log:
    """Sign and send, each task in a process of its own.

    Raises:
        SenderFailed: one of them cannot; the others have been ended.
    """
    total = sum(task.share.size(task.total) for task in tasks)
    with _running(tasks) as pipes:
        with progress.stage("signing", total) as stage:
            _until_ready(pipes, stage)
        start = time.monotonic() + _START_IN_S
        for pipe in pipes:
            pipe.send_bytes(msgspec.msgpack.encode(start))
        with progress.stage("sending", total) as stage:
            return _joined(_until_done(pipes, stage, started=start))


@contextmanager
def _running(tasks: Sequence[Task]) -> Iterator[list[Connection]]:
    # A fresh interpreter for each: what this one has open or running is none of theirs.
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes: list[BaseProcess] = []
    try:
        for task in tasks:
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=sender.main, args=(task, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(_END_WITHIN_S if not process.is_alive() else 0.1)
            process.terminate()
            process.join(_END_WITHIN_S)


def _until_ready(pipes: Sequence[Connection], stage: Stage) -> None:
    signed: dict[Connection, int] = {}
    waiting = set(pipes)
    while waiting:
        for pipe, message in _messages(waiting):
            if isinstance(message, Signed):
                signed[pipe] = message.count
                stage.reach(sum(signed.values()))
            elif isinstance(message, Ready):
                waiting.discard(pipe)


def _until_done(pipes: Sequence[Connection], stage: Stage, *, started: float) -> list[Done]:
    done: dict[Connection, Done] = {}
    live: dict[Connection, Live] = {}
    while len(done) < len(pipes):
        for pipe, message in _messages(set(pipes) - done.keys()):
            if isinstance(message, Done):
                done[pipe] = message
            elif isinstance(message, Live):
                live[pipe] = message
                _show(stage, list(live.values()), started)
    return [done[pipe] for pipe in pipes]


def _messages(pipes: set[Connection]) -> Iterator[tuple[Connection, Message]]:
    for pipe in connection.wait(list(pipes)):
        assert isinstance(pipe, Connection)
        try:
            message = sender.heard(pipe.recv_bytes())
        except EOFError:
            raise SenderFailed("a sender process died") from None
        if isinstance(message, Failed):
            raise SenderFailed(message.why)
        yield pipe, message


def _show(stage: Stage, live: Sequence[Live], started: float) -> None:
    called = sum(one.called for one in live)
    rate = called / max(0.001, time.monotonic() - started)
    stage.reach(called, f"{rate:,.0f}/s  p99 {max(one.p99_ms for one in live):,.1f} ms")


def _joined(done: Sequence[Done]) -> Log:
    told: list[Told] = []
    attempts: list[Attempt] = []
    for one in done:
        base = len(told)
        told += one.told
        attempts += (msgspec.structs.replace(each, index=base + each.index) for each in one.attempts)
    return Log(told=told, attempts=attempts, behind_s=[late for one in done for late in one.behind_s])
