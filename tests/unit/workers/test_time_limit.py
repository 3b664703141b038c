"""Code that awaits nothing and does not return is interrupted, in the thread in which it runs, and nothing else is."""

import asyncio
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas import interpret
from schemas.dispositions import Disposition, Reason
from tests.unit.workers.in_memory import APPLIED, MemoryWorker, paid
from workers.errors import InfrastructureDown, TooManyDeadLetters
from workers.settlement import decision
from workers.settlement.plan import Decide, LoadRequest, ParsedRecord, WritePlan
from workers.time_limit import TimeLimit, TookTooLong

LIMIT_S = 0.3


@pytest.fixture
def interrupted() -> list[str]:
    return []


@pytest.fixture
def limit(interrupted: list[str]) -> Iterator[TimeLimit]:
    limit = TimeLimit(LIMIT_S, interrupted=interrupted.append)
    with limit.watching():
        yield limit


def loop_for_ever() -> None:
    while True:
        pass


def sleep_for_ever() -> None:
    time.sleep(3600)


def wait_for_ever() -> None:
    threading.Event().wait()


def backtrack_for_ever() -> None:
    re.match("(a+)+$", "a" * 100 + "b")


def catch_everything_once() -> None:
    try:
        loop_for_ever()
    except BaseException:
        loop_for_ever()


@pytest.mark.parametrize(
    "work", [loop_for_ever, sleep_for_ever, wait_for_ever, backtrack_for_ever, catch_everything_once]
)
def test_code_that_never_returns_is_interrupted(
    limit: TimeLimit, interrupted: list[str], work: Callable[[], None]
) -> None:
    with pytest.raises(TookTooLong):
        limit.run(work, "decide")
    assert interrupted == ["decide"]
    assert limit.run(lambda: "next", "read") == "next"
    assert limit.overdue_s == 0


def test_code_of_another_thread_is_interrupted_there(limit: TimeLimit) -> None:
    ended: list[BaseException] = []

    def run() -> None:
        try:
            limit.run(loop_for_ever, "decide")
        except TookTooLong as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert len(ended) == 1


def test_interruption_that_the_code_swallows_is_told_all_the_same(limit: TimeLimit, interrupted: list[str]) -> None:
    def swallow() -> str:
        try:
            loop_for_ever()
        except BaseException as error:
            return type(error).__name__
        return ""

    assert limit.run(swallow, "read") == "Interrupted"
    assert interrupted == ["read"]


def test_code_that_returns_in_time_is_not_interrupted_afterwards(limit: TimeLimit, interrupted: list[str]) -> None:
    assert limit.run(lambda: "done", "read") == "done"
    time.sleep(2 * LIMIT_S)
    assert not interrupted


def test_signals_are_as_before_afterwards() -> None:
    with TimeLimit(1).watching():
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] > 0
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)
    assert signal.getsignal(signal.SIGVTALRM) is signal.getsignal(signal.SIGURG) is signal.SIG_DFL


def test_code_has_its_own_shorter_limit() -> None:
    limit = TimeLimit(3600)
    with limit.watching(), pytest.raises(TookTooLong):
        limit.run(loop_for_ever, "decide", limit_s=0.1)


def test_code_that_ends_at_its_limit_is_over_when_it_has_ended(limit: TimeLimit) -> None:
    ends = time.monotonic() + 3

    def last_as_long_as_the_limit() -> None:
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            pass

    while time.monotonic() < ends:
        try:
            limit.run(last_as_long_as_the_limit, "read")
        except TookTooLong:
            continue
    # An interruption that was still under way would be raised in here.
    assert sum(range(1_000_000)) == 499_999_500_000


def test_code_that_calls_limited_code_is_limited_too(limit: TimeLimit) -> None:
    def call_and_loop() -> None:
        assert limit.run(lambda: "done", "read") == "done"
        loop_for_ever()

    with pytest.raises(TookTooLong):
        limit.run(call_and_loop, "decide")


def test_each_of_several_has_the_whole_limit() -> None:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    limit = TimeLimit(2.0)
    with limit.watching():
        assert limit.run_each(work, [0.7] * 4, "read") == ([0.7] * 4, None)
    assert limit.interruptions == 0


def test_none_of_several_is_begun_after_one_that_reaches_the_limit(limit: TimeLimit, interrupted: list[str]) -> None:
    begun: list[str] = []

    def work(name: str) -> str:
        begun.append(name)
        if name == "C":
            loop_for_ever()
        return name.lower()

    done, error = limit.run_each(work, "ABCDE", "read")
    assert (done, begun, interrupted) == (["a", "b"], ["A", "B", "C"], ["read"])
    assert isinstance(error, TookTooLong)
    assert limit.run_each(str.lower, "DE", "read") == (["d", "e"], None)


def test_none_of_several_is_begun_after_one_that_catches_its_interruption(limit: TimeLimit) -> None:
    def work(name: str) -> str:
        try:
            if name == "C":
                loop_for_ever()
        except BaseException:
            return "caught"
        return name

    assert limit.run_each(work, "ABCDE", "read") == (["A", "B", "caught"], None)
    assert limit.interruptions == 1
    assert limit.run_each(str.lower, "", "read") == ([], None)


def test_code_that_cannot_be_interrupted_is_overdue() -> None:
    limit = TimeLimit(0.1)
    may_end = threading.Event()
    thread = threading.Thread(target=lambda: limit.run(may_end.wait, "decide"), daemon=True)
    with limit.watching():
        thread.start()
        began_s = time.monotonic()
        while limit.overdue_s < 0.3:
            assert time.monotonic() - began_s < 60
            time.sleep(0.05)
        may_end.set()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "excepthook", lambda _: None)  # it is interrupted when it wakes
            thread.join(60)
    assert limit.overdue_s == 0


def never_return(*arguments: Any, **options: Any) -> Any:
    while True:
        pass


@pytest.mark.parametrize("step", ["read", "decide"])
async def test_record_whose_handling_never_returns_is_dead_and_its_neighbours_are_applied(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = TimeLimit(0.3)
    worker = MemoryWorker(time_limit=limit)
    read, decide = interpret.read, decision.decide

    def read_all_but_c(body: bytes, *arguments: Any, **options: Any) -> Any:
        return (never_return if b"id-C" in body else read)(body, *arguments, **options)

    def decide_all_but_c(parsed_records: list[ParsedRecord], *arguments: Any, **options: Any) -> Any:
        orders = {each.notification.order for each in parsed_records if each.notification is not None}
        return (never_return if "C" in orders else decide)(parsed_records, *arguments, **options)

    if step == "read":
        monkeypatch.setattr(interpret, "read", read_all_but_c)
    else:
        monkeypatch.setattr(decision, "decide", decide_all_but_c)
    with limit.watching():
        await worker.process(*(paid(order) for order in "ABCDEFGH"))
    ends = worker.outcomes()
    assert ends.pop(2) == (Disposition.DEAD, Reason.OUR_FAULT)
    assert ends == [APPLIED] * 7
    assert worker.held(2).record == paid("C")


async def test_reading_that_never_returns_for_any_record_stops_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = TimeLimit(0.2)
    worker = MemoryWorker(time_limit=limit, dead_letters_max=3)
    monkeypatch.setattr(interpret, "read", never_return)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    settle = worker.store.settle

    async def settle_in_turns(needs: LoadRequest, decide: Decide) -> WritePlan:
        await asyncio.sleep(0)
        return await settle(needs, decide)

    monkeypatch.setattr(worker.store, "settle", settle_in_turns)
    others = asyncio.create_task(take_turns())
    with limit.watching(), pytest.raises(TooManyDeadLetters):
        await worker.process(*(paid(str(number)) for number in range(500)))
    others.cancel()
    assert worker.outcomes() == [(Disposition.DEAD, Reason.OUR_FAULT)] * 3
    assert turns >= 3


async def test_record_that_the_store_never_settles_is_dead_and_its_neighbours_are_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = MemoryWorker(settling_max_s=0.2)
    settle = worker.store.settle

    async def settle_all_but_c(needs: LoadRequest, decide: Decide) -> WritePlan:
        if any(order == "C" for _, order in needs.orders):
            await asyncio.Event().wait()
        return await settle(needs, decide)

    monkeypatch.setattr(worker.store, "settle", settle_all_but_c)
    async with asyncio.timeout(60):
        await worker.process(*(paid(order) for order in "ABCDEFGH"))
    ends = worker.outcomes()
    assert ends.pop(2) == (Disposition.DEAD, Reason.OUR_FAULT)
    assert ends == [APPLIED] * 7


async def test_store_that_settles_nothing_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = MemoryWorker(settling_max_s=0.05)
    settle = worker.store.settle

    async def never(needs: LoadRequest, decide: Decide) -> WritePlan:
        return await asyncio.Future()

    monkeypatch.setattr(worker.store, "settle", never)
    batch = [worker.log.log_record(paid(order)) for order in "AB"]
    with pytest.raises(InfrastructureDown):
        await worker.processing.process(batch)
    assert not worker.store.held
    monkeypatch.setattr(worker.store, "settle", settle)
    await worker.processing.process(batch)
    assert worker.outcomes() == [APPLIED] * 2
