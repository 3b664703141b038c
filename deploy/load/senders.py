"""Send a run's requests from several processes: the senders, and the parent that starts and joins them.

    parent                        sender
    Task                     ──►  signs its share of the requests
                             ◄──  SignedCount … Ready
    start, by time.monotonic ──►  sends
                             ◄──  SenderProgress … Done, or FailureReport at any moment

Senders are processes because one interpreter uses one core. They share only the start and the schedule, and so keep one
rate together. The parent draws the progress, because drawing would delay a sender. It ends its senders when it ends.
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

_REPORT_EVERY = 250  # signed requests
_REPORT_EVERY_S = 0.25
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 5.0
_BEHIND_MAX = 200_000  # measurements of the sender's own lateness that are kept; enough for its p99


class Task(Struct, frozen=True, kw_only=True):
    """The work of one sender."""

    share: Share
    total: int
    rate: float
    mix: Mix
    origin: Origin
    target: Target
    host: str
    limits: LoadLimits
    retry: bool
    history: str = ""


class SignedCount(Struct, frozen=True, tag=True):
    """The number of requests signed so far."""

    count: int


class Ready(Struct, frozen=True, tag=True):
    """All requests are signed, and the sender waits for the start."""


class SenderProgress(Struct, frozen=True, tag=True, kw_only=True):
    """The counts so far, and the p99 of the attempts since the last report."""

    called: int
    ok: int
    p99_ms: float


class Done(Struct, frozen=True, tag=True, kw_only=True):
    """The notifications that were due, and every attempt. `behind_s`: how late the sender itself was, by request."""

    sent: tuple[SentNotification, ...]
    attempts: tuple[SendAttempt, ...]
    behind_s: tuple[float, ...]


class FailureReport(Struct, frozen=True, tag=True):
    """The sender cannot go on."""

    why: str


Message = SignedCount | Ready | SenderProgress | Done | FailureReport
encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def main(task: Task, parent: Connection) -> None:
    """Run one sender process, from signing to its last message."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its senders
    try:
        done = _sent(task, parent)
    except NoAccounts as error:
        parent.send_bytes(encode(FailureReport(str(error))))
    except (EOFError, BrokenPipeError):
        pass  # the parent has ended, so nothing waits for a report
    except Exception as error:
        parent.send_bytes(encode(FailureReport(f"{type(error).__name__}: {error}")))
        raise
    else:
        parent.send_bytes(encode(done))


def _sent(task: Task, parent: Connection) -> Done:
    accounts = {one.identity.name: one for one in origin.accounts(task.origin)}
    requests = _signed(task, tuple(accounts.values()), parent)
    sent = tuple(one.sent for one in requests)
    # The requests live as long as the process. Without freezing, the garbage collector would scan them while sending.
    gc.collect()
    gc.freeze()
    parent.send_bytes(encode(Ready()))
    start: float = msgspec.msgpack.decode(parent.recv_bytes(), type=float)
    schedule = Schedule(start=start, rate=task.rate, first=task.share.number, stride=task.share.of)
    observer = _Reporter(parent, RunHistory(Path(task.history), sent) if task.history else None)
    last_due = schedule.due(max(0, len(sent) - 1))
    retries = _AlipayRetries(task, accounts, requests, until=last_due + task.limits.drain_s) if task.retry else None
    try:
        with asyncio.Runner(loop_factory=process.loop_factory()) as runner:
            attempts = runner.run(
                generator.run(
                    [one.request for one in requests],
                    task.target,
                    schedule=schedule,
                    limits=task.limits,
                    judge=_judge(sent, accounts),
                    observer=observer,
                    retries=retries,
                )
            )
    finally:
        observer.close()
    return Done(sent=sent, attempts=tuple(attempts), behind_s=tuple(observer.behind_s))


def _signed(task: Task, accounts: Sequence[SandboxAccount], parent: Connection) -> list[corpus.SignedRequest]:
    def report(count: int) -> None:
        if count % _REPORT_EVERY == 0:
            parent.send_bytes(encode(SignedCount(count)))

    return corpus.make(
        task.share,
        total=task.total,
        accounts=accounts,
        mix=task.mix,
        host=task.host,
        now=datetime.now(UTC),
        progress=report,
    )


def _judge(sent: Sequence[SentNotification], accounts: Mapping[str, SandboxAccount]) -> generator.Judge:
    """Return a function that decides whether Alipay would accept an answer, by the family of the account."""
    antom = {name: one.identity.product == "antom" for name, one in accounts.items()}

    def is_success(index: int, answer: WireAnswer) -> bool:
        outcome, _ = delivery.judge(answer.status, answer.body, antom=antom[sent[index].account])
        return outcome == "ok"

    return is_success


class _Reporter:
    """Reports attempts to the parent and to the history."""

    def __init__(self, parent: Connection, history: RunHistory | None) -> None:
        self._parent = parent
        self._history = history
        self._called = 0
        self._counts: Counter[Outcome] = Counter()
        self._recent: list[float] = []
        self._reported_at = time.monotonic()
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
        if attempt.ended - self._reported_at > _REPORT_EVERY_S:
            self._report(attempt.ended)

    def dispatched(self, late_s: float) -> None:
        if len(self.behind_s) < _BEHIND_MAX:
            self.behind_s.append(late_s)

    def close(self) -> None:
        if self._history is not None:
            self._history.close()

    def _report(self, now: float) -> None:
        self._recent.sort()
        p99 = self._recent[int(len(self._recent) * 0.99)] if self._recent else 0.0
        self._parent.send_bytes(encode(SenderProgress(called=self._called, ok=self._counts["ok"], p99_ms=p99 * 1000)))
        self._recent.clear()
        self._reported_at = now


class _AlipayRetries:
    """Retries unacknowledged notifications as Alipay does, with a new time and signature, but within seconds."""

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
        # A forgery is not retried.
        if self._requests[attempt.index].sent.forged or attempt.outcome == "unsent":
            return None
        delay_s = min(_FIRST_DELAY_S * 2 ** min(attempt.number - 1, 10), _LONGEST_DELAY_S)
        return delay_s if attempt.ended + delay_s < self._until else None

    def request(self, index: int, number: int) -> bytes:
        one = self._requests[index]
        account = self._accounts[one.sent.account]
        # A form's times are whole seconds. Two retries in one second would be equal bytes, which Alipay never sends.
        at = datetime.now(UTC) + timedelta(seconds=number)
        return corpus.signed_again(one.request, account, host=self._host, at=at)


# Between the start message and the first request: time to open connections, and for the slowest sender to receive it.
_START_IN_S = 0.5
_END_WITHIN_S = 5.0


class SenderFailed(Exception):
    """A sender could not do its work. The message gives the reason."""


class SentLog(Struct, frozen=True, kw_only=True):
    """All notifications that were due, and every attempt. An attempt names its notification by index."""

    sent: Sequence[SentNotification]
    attempts: Sequence[SendAttempt]
    behind_s: Sequence[float]


def send(tasks: Sequence[Task]) -> SentLog:
    """Sign and send, each task in its own process.

    Raises:
        SenderFailed: a sender failed; the others have been ended.
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
    # Spawn, so that a sender inherits no open files and threads of this process.
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
            message = _decoder.decode(pipe.recv_bytes())
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
    sent: list[SentNotification] = []
    attempts: list[SendAttempt] = []
    for one in done:
        base = len(sent)
        sent += one.sent
        attempts += (msgspec.structs.replace(each, index=base + each.index) for each in one.attempts)
    return SentLog(sent=sent, attempts=attempts, behind_s=[late for one in done for late in one.behind_s])
