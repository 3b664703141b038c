"""One sender: a process that signs its share of a run's requests, waits for the word, and sends them.

    parent ── Task ──► signs …  ── Signed … Signed ──►
                       ready    ── Ready ──►
           ── Go ───►  sends …  ── Live … Live ──►
                       over     ── Done ──►                    or Failed, at any moment

Nothing is shared with other senders but the moment of the start and the schedule, so that together they keep one rate.
The parent draws the bars: what draws does not send.

The parent of the senders: starts them, gives them one start, draws what they tell, and gathers what came of it.

Senders are processes, because one interpreter sends with one core. They are ended with this block, however it ends.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy import process
from deploy.load import corpus, generator, origin, progress
from deploy.load.corpus import Mix, SentNotification, Share
from deploy.load.files import RunHistory
from deploy.load.generator import Call, LoadLimits, Outcome, Schedule, SendAttempt, Target
from deploy.load.origin import NoAccounts, Origin
from deploy.load.progress import ProgressStage
from deploy.load.wire import WireAnswer
from deploy.sandbox import delivery
from deploy.sandbox.world import SandboxAccount

_TELL_EVERY = 250  # signed requests
_TELL_EVERY_S = 0.25
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 5.0
_BEHIND_MAX = 200_000  # so many measures of the sender's own lateness are kept; enough for its p99


class Task(Struct, frozen=True, kw_only=True):
    """What a sender is to do."""

    share: Share
    total: int
    rate: float
    mixed: Mix
    origin: Origin
    target: Target
    host: str
    limits: LoadLimits
    repeat: bool
    history: str = ""


class SignedCount(Struct, frozen=True, tag=True):
    """So many requests are signed."""

    count: int


class Ready(Struct, frozen=True, tag=True):
    """All are signed; it waits for the start."""


class SenderProgress(Struct, frozen=True, tag=True, kw_only=True):
    """Where it stands, and the p99 of what ended since it was told last."""

    called: int
    ok: int
    p99_ms: float


class Done(Struct, frozen=True, tag=True, kw_only=True):
    """What it told, and every attempt; `behind_s` is how much later than due it came to a request itself."""

    told: tuple[SentNotification, ...]
    attempts: tuple[SendAttempt, ...]
    behind_s: tuple[float, ...]


class FailureReport(Struct, frozen=True, tag=True):
    """It cannot go on."""

    why: str


Message = SignedCount | Ready | SenderProgress | Done | FailureReport
encoded = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def received(content: bytes) -> Message:
    """The message in these bytes."""
    return _decoder.decode(content)


def main(task: Task, parent: Connection) -> None:
    """A sender's whole life; the parent's word to start is the moment, by `time.monotonic`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its senders
    try:
        done = _sent(task, parent)
    except NoAccounts as error:
        parent.send_bytes(encoded(FailureReport(str(error))))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone, and nobody waits for what this one would say
    except Exception as error:
        parent.send_bytes(encoded(FailureReport(f"{type(error).__name__}: {error}")))
        raise
    else:
        parent.send_bytes(encoded(done))


def _sent(task: Task, parent: Connection) -> Done:
    accounts = {one.identity.name: one for one in origin.accounts(task.origin)}
    requests = _signed(task, tuple(accounts.values()), parent)
    told = tuple(one.told for one in requests)
    # What is signed lives as long as the process; to look through it in mid-run would be a pause of our own making.
    gc.collect()
    gc.freeze()
    parent.send_bytes(encoded(Ready()))
    start: float = msgspec.msgpack.decode(parent.recv_bytes(), type=float)
    schedule = Schedule(start=start, rate=task.rate, first=task.share.number, stride=task.share.of)
    observer = _Telling(parent, RunHistory(Path(task.history), told) if task.history else None)
    last_due = schedule.due(max(0, len(told) - 1))
    again = _Alipay(task, accounts, requests, until=last_due + task.limits.drain_s) if task.repeat else None
    try:
        with asyncio.Runner(loop_factory=process.loop_factory()) as runner:
            attempts = runner.run(
                generator.run(
                    [one.request for one in requests],
                    task.target,
                    schedule=schedule,
                    limits=task.limits,
                    judge=_judge(told, accounts),
                    observer=observer,
                    again=again,
                )
            )
    finally:
        observer.close()
    return Done(told=told, attempts=tuple(attempts), behind_s=tuple(observer.behind_s))


def _signed(task: Task, accounts: Sequence[SandboxAccount], parent: Connection) -> list[corpus.SignedRequest]:
    def tell(count: int) -> None:
        if count % _TELL_EVERY == 0:
            parent.send_bytes(encoded(SignedCount(count)))

    return corpus.make(
        task.share,
        total=task.total,
        accounts=accounts,
        mixed=task.mixed,
        host=task.host,
        now=datetime.now(UTC),
        progress=tell,
    )


def _judge(told: Sequence[SentNotification], accounts: Mapping[str, SandboxAccount]) -> generator.Judge:
    """Whether Alipay would take an answer: exactly the word it waits for, in the form that the account's family has."""
    antom = {name: one.identity.product == "antom" for name, one in accounts.items()}

    def is_success(index: int, answer: WireAnswer) -> bool:
        outcome, _ = delivery.judge(answer.status, answer.body, antom=antom[told[index].account])
        return outcome == "ok"

    return is_success


class _Telling:
    """Keeps the parent, and the history, informed."""

    def __init__(self, parent: Connection, history: RunHistory | None) -> None:
        self._parent = parent
        self._history = history
        self._called = 0
        self._counts: Counter[Outcome] = Counter()
        self._recent: list[float] = []
        self._told_at = time.monotonic()
        self.behind_s: list[float] = []

    def called(self, call: Call) -> None:
        self._called += 1
        if self._history is not None:
            self._history.called(call)

    def ended(self, attempt: SendAttempt) -> None:
        self._counts[attempt.outcome] += 1
        self._recent.append(attempt.ended - attempt.due)
        if self._history is not None:
            self._history.ended(attempt)
        if attempt.ended - self._told_at > _TELL_EVERY_S:
            self._tell(attempt.ended)

    def dispatched(self, late_s: float) -> None:
        if len(self.behind_s) < _BEHIND_MAX:
            self.behind_s.append(late_s)

    def close(self) -> None:
        if self._history is not None:
            self._history.close()

    def _tell(self, now: float) -> None:
        self._recent.sort()
        p99 = self._recent[int(len(self._recent) * 0.99)] if self._recent else 0.0
        self._parent.send_bytes(encoded(SenderProgress(called=self._called, ok=self._counts["ok"], p99_ms=p99 * 1000)))
        self._recent.clear()
        self._told_at = now


class _Alipay:
    """Tells again what was not acknowledged, as Alipay does, with another moment and signature; but within seconds."""

    def __init__(
        self,
        task: Task,
        accounts: Mapping[str, SandboxAccount],
        requests: Sequence[corpus.SignedRequest],
        *,
        until: float,
    ) -> None:
        self._accounts = accounts
        self._requests = requests
        self._host = task.host
        self._until = until

    def delay_s(self, attempt: SendAttempt) -> float | None:
        # A forger does not come back.
        if self._requests[attempt.index].told.forged or attempt.outcome == "unsent":
            return None
        delay_s = min(_FIRST_DELAY_S * 2 ** min(attempt.number - 1, 10), _LONGEST_DELAY_S)
        return delay_s if attempt.ended + delay_s < self._until else None

    def request(self, index: int, number: int) -> bytes:
        one = self._requests[index]
        account = self._accounts[one.told.account]
        # A form's times are whole seconds: two tellings within one would be the same bytes, which Alipay never sends.
        at = datetime.now(UTC) + timedelta(seconds=number)
        return corpus.retold(one.request, account, host=self._host, at=at)


# Between the word and the first request: for connections to be opened, and the slowest sender to have heard.
_START_IN_S = 0.5
_END_WITHIN_S = 5.0


class SenderFailed(Exception):
    """A sender could not do its work; the text says why."""


class SentLog(Struct, frozen=True, kw_only=True):
    """All that was told, and every attempt; an attempt names what it told by its index."""

    told: Sequence[SentNotification]
    attempts: Sequence[SendAttempt]
    behind_s: Sequence[float]


def send(tasks: Sequence[Task]) -> SentLog:
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
            process: BaseProcess = context.Process(target=main, args=(task, theirs), daemon=True)
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


def _until_ready(pipes: Sequence[Connection], stage: ProgressStage) -> None:
    signed: dict[Connection, int] = {}
    waiting = set(pipes)
    while waiting:
        for pipe, message in _messages(waiting):
            if isinstance(message, SignedCount):
                signed[pipe] = message.count
                stage.reach(sum(signed.values()))
            elif isinstance(message, Ready):
                waiting.discard(pipe)


def _until_done(pipes: Sequence[Connection], stage: ProgressStage, *, started: float) -> list[Done]:
    done: dict[Connection, Done] = {}
    live: dict[Connection, SenderProgress] = {}
    while len(done) < len(pipes):
        for pipe, message in _messages(set(pipes) - done.keys()):
            if isinstance(message, Done):
                done[pipe] = message
            elif isinstance(message, SenderProgress):
                live[pipe] = message
                _show(stage, list(live.values()), started)
    return [done[pipe] for pipe in pipes]


def _messages(pipes: set[Connection]) -> Iterator[tuple[Connection, Message]]:
    for pipe in connection.wait(list(pipes)):
        assert isinstance(pipe, Connection)
        try:
            message = received(pipe.recv_bytes())
        except EOFError:
            raise SenderFailed("a sender process died") from None
        if isinstance(message, FailureReport):
            raise SenderFailed(message.why)
        yield pipe, message


def _show(stage: ProgressStage, live: Sequence[SenderProgress], started: float) -> None:
    called = sum(one.called for one in live)
    rate = called / max(0.001, time.monotonic() - started)
    stage.reach(called, f"{rate:,.0f}/s  p99 {max(one.p99_ms for one in live):,.1f} ms")


def _joined(done: Sequence[Done]) -> SentLog:
    told: list[SentNotification] = []
    attempts: list[SendAttempt] = []
    for one in done:
        base = len(told)
        told += one.told
        attempts += (msgspec.structs.replace(each, index=base + each.index) for each in one.attempts)
    return SentLog(told=told, attempts=attempts, behind_s=[late for one in done for late in one.behind_s])
