"""Senders and their parent. `acceptance/test_load_runs.py` runs them as processes."""

import gc
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pytest

from deploy.load import corpus, origin, senders
from deploy.load.corpus import Mix, Share, SignedRequest
from deploy.load.files import RunHistory
from deploy.load.generator import Call, LoadLimits, Target
from deploy.load.origin import Origin
from deploy.load.senders import Done, FailureReport, Ready, SenderFailed, SenderProgress, SignedCount, Task
from deploy.load.wire import WireAnswer
from deploy.sandbox.world import SandboxAccount, World
from tests.unit.deploy.load.samples import attempt, notification

ANTOM_SUCCESS = b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'
Pipe = tuple[Connection, Connection]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield ours, theirs


def task(directory: Path, port: int, **more: object) -> Task:
    plain: dict[str, object] = {
        "share": Share(seed=3), "total": 4, "rate": 100.0, "mix": Mix(duplicates=0, forgeries=0),
        "origin": Origin(sandbox=str(directory), names=("demo-cn",)), "target": Target(host="127.0.0.1", port=port),
        "host": "h", "limits": LoadLimits(connections=1, timeout_s=0.5, drain_s=10), "retry": False,
    }  # fmt: skip
    return Task(**(plain | more))  # type: ignore[arg-type]


def messages(ours: Connection) -> Iterator[senders.Message]:
    while ours.poll(0):
        yield senders._decoder.decode(ours.recv_bytes())


def test_sender_signs_waits_for_the_start_and_reports_every_attempt(
    load_world: World, unused_port: int, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pipe
    monkeypatch.setattr(senders, "_REPORT_EVERY", 2)
    monkeypatch.setattr(senders, "_REPORT_EVERY_S", float("inf"))  # a slow machine would report in between
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    ours.send_bytes(msgspec.msgpack.encode(time.monotonic()))
    senders.main(task(load_world.directory, unused_port), theirs)
    *signed, ready, done = messages(ours)
    assert signed == [SignedCount(2), SignedCount(4)]
    assert ready == Ready()
    assert isinstance(done, Done)
    assert len(done.sent) == len(done.attempts) == len(done.behind_s) == 4
    assert {one.outcome for one in done.attempts} == {"silent"}


def test_sender_without_keys_reports_the_reason(
    tmp_path: Path, unused_port: int, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pipe
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    senders.main(task(tmp_path, unused_port), theirs)
    (failure,) = messages(ours)
    assert isinstance(failure, FailureReport)
    assert "no sandbox" in failure.why


def test_parent_fails_with_the_reason_of_a_failed_sender(pipe: Pipe) -> None:
    ours, theirs = pipe
    theirs.send_bytes(senders.encode(FailureReport("no keys")))
    with pytest.raises(SenderFailed, match="no keys"):
        list(senders._messages({ours}))


def test_parent_fails_if_a_sender_dies(pipe: Pipe) -> None:
    ours, theirs = pipe
    theirs.close()
    with pytest.raises(SenderFailed, match="died"):
        list(senders._messages({ours}))


def test_joined_attempts_name_their_notifications_by_index() -> None:
    first = Done(sent=(notification("n1"), notification("n2")), attempts=(attempt(1),), behind_s=(0.1,))
    second = Done(sent=(notification("n3"),), attempts=(attempt(0),), behind_s=(0.2,))
    log = senders._joined([first, second])
    assert [log.sent[one.index].notify_id for one in log.attempts] == ["n2", "n3"]
    assert list(log.behind_s) == [0.1, 0.2]


@pytest.mark.parametrize(
    ("account", "body", "is_accepted"),
    [
        ("demo-cn", b"success", True),
        ("demo-cn", b"success\n", False),
        ("demo-cn", ANTOM_SUCCESS, False),
        ("demo-antom", ANTOM_SUCCESS, True),
        ("demo-antom", b"success", False),
    ],
)
def test_answer_is_judged_by_the_family_of_its_account(
    load_world: World, account: str, body: bytes, is_accepted: bool
) -> None:
    accounts = {account: load_world.account(account)}
    (one,) = signed(accounts[account])
    judge = senders._judge([one.sent], accounts)
    assert judge(0, WireAnswer(200, body, True)) == is_accepted


def signed(account: SandboxAccount, *, forgeries: float = 0.0) -> list[SignedRequest]:
    mix = Mix(duplicates=0, lifecycles=0, forgeries=forgeries)
    now = datetime.now(UTC)
    return corpus.make(Share(seed=1), total=1 + bool(forgeries), accounts=[account], mix=mix, host="h", now=now)


@pytest.fixture
def retries(load_world: World, unused_port: int) -> Callable[..., senders._AlipayRetries]:
    def made(requests: list[SignedRequest], *, until: float) -> senders._AlipayRetries:
        accounts = {one.identity.name: one for one in origin.accounts(Origin(sandbox=str(load_world.directory)))}
        return senders._AlipayRetries(task(load_world.directory, unused_port), accounts, requests, until=until)

    return made


def test_retry_delay_doubles_up_to_its_maximum_and_ends_with_the_run(
    load_world: World, retries: Callable[..., senders._AlipayRetries]
) -> None:
    policy = retries(signed(load_world.account("demo-cn")), until=100.0)
    delays = [policy.delay_s(attempt(0, "refused", 503, number=number)) for number in (1, 2, 3, 10)]
    assert delays == [0.2, 0.4, 0.8, 5.0]
    assert retries(signed(load_world.account("demo-cn")), until=0.1).delay_s(attempt(0, "silent")) is None


def test_forged_and_unsent_requests_are_not_retried(
    load_world: World, retries: Callable[..., senders._AlipayRetries]
) -> None:
    requests = signed(load_world.account("demo-cn"), forgeries=0.5)
    policy = retries(requests, until=100.0)
    forged = next(index for index, one in enumerate(requests) if one.sent.forged)
    assert policy.delay_s(attempt(forged, "silent")) is None
    assert policy.delay_s(attempt(1 - forged, "unsent")) is None
    assert policy.delay_s(attempt(1 - forged, "silent")) is not None


def test_each_retry_has_its_own_signature(load_world: World, retries: Callable[..., senders._AlipayRetries]) -> None:
    requests = signed(load_world.account("demo-cn"))
    policy = retries(requests, until=100.0)
    assert len({requests[0].request, policy.request(0, 2), policy.request(0, 3)}) == 3


def test_reporter_sends_counts_and_writes_the_history(
    tmp_path: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pipe
    monkeypatch.setattr(senders, "_REPORT_EVERY_S", -1e9)
    reporter = senders._Reporter(theirs, RunHistory(tmp_path / "history", [notification("n1")]))
    reporter.dispatched(0.5)
    reporter.called(Call(0, 1, 0.0))
    reporter.ended(attempt(0))
    reporter.close()
    (shown,) = messages(ours)
    assert isinstance(shown, SenderProgress)
    assert (shown.called, shown.ok) == (1, 1)
    assert shown.p99_ms == pytest.approx(100.0)
    assert reporter.behind_s == [0.5]
    assert len((tmp_path / "history").read_text().splitlines()) == 2
