"""The open loop against servers that answer late, never or wrongly, or are not there: every wait is counted."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from deploy.load import generator
from deploy.load.generator import Call, LoadLimits, Schedule, SendAttempt, Target
from deploy.load.wire import request_bytes

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsuccess"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfail"
CLOSING = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

Answers = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts requests and connections. The test gives its answers."""

    def __init__(self, answer: Answers) -> None:
        self._answer = answer
        self.requests = 0
        self.connections = 0
        self.open = 0
        self.open_most = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.open_most = max(self.open_most, self.open)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(3)
                self.requests += 1
                await self._answer(self.requests, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def serving(answer: Answers) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def always(answer: bytes, *, after_s: float = 0.0) -> Answers:
    async def write(_number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(after_s)
        writer.write(answer)
        if b"close" in answer:
            writer.close()

    return write


async def sent(
    port: int,
    count: int,
    *,
    rate: float | None = 200.0,
    limits: LoadLimits | None = None,
    retries: generator.RetryPolicy | None = None,
    observer: generator.LoadObserver | None = None,
) -> list[SendAttempt]:
    requests = [request_bytes("h", "/", (), b"x=1") for _ in range(count)]
    schedule = None if rate is None else Schedule(start=time.monotonic() + 0.05, rate=rate)
    return await generator.run(
        requests,
        Target(host="127.0.0.1", port=port),
        schedule=schedule,
        limits=limits or LoadLimits(connections=8, timeout_s=1.0, drain_s=1.0),
        retries=retries,
        observer=observer,
    )


def test_shares_of_a_schedule_add_up_to_the_whole() -> None:
    whole = Schedule(start=100.0, rate=50.0)
    parts = [Schedule(start=100.0, rate=50.0, first=first, stride=3) for first in range(3)]
    assert sorted(part.due(number) for part in parts for number in range(4)) == pytest.approx(
        [whole.due(number) for number in range(12)]
    )


async def test_each_request_is_sent_once_when_it_is_due() -> None:
    async with serving(always(OK)) as server:
        attempts = await sent(server.port, 40, rate=200.0)
    assert server.requests == 40
    assert sorted(one.index for one in attempts) == list(range(40))
    assert {one.outcome for one in attempts} == {"ok"}
    due = sorted(one.due for one in attempts)
    assert due[-1] - due[0] == pytest.approx(39 / 200)
    assert all(one.began >= one.due for one in attempts)


async def test_stall_of_the_receiver_counts_for_all_requests_due_meanwhile() -> None:
    """The test of coordinated omission: one connection, one answer half a second late, twenty requests due in it."""

    async def stall_once(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5 if number == 1 else 0)
        writer.write(OK)

    async with serving(stall_once) as server:
        attempts = await sent(server.port, 20, rate=100.0, limits=LoadLimits(connections=1, timeout_s=2.0, drain_s=2.0))
    waits = sorted(one.ended - one.due for one in attempts)
    assert {one.outcome for one in attempts} == {"ok"}
    assert waits[10] > 0.3, "half of them waited most of the stall, though none was answered slowly once it was sent"


async def test_connections_are_bounded_and_further_requests_wait() -> None:
    async with serving(always(OK, after_s=0.05)) as server:
        attempts = await sent(
            server.port, 60, rate=1000.0, limits=LoadLimits(connections=5, timeout_s=2.0, drain_s=5.0)
        )
    assert server.open_most <= 5
    assert [one.outcome for one in attempts] == ["ok"] * 60


async def test_missing_answer_is_silent_after_the_time_out() -> None:
    async def never(_number: int, _writer: asyncio.StreamWriter) -> None:
        pass

    async with serving(never) as server:
        attempts = await sent(server.port, 3, limits=LoadLimits(connections=8, timeout_s=0.2, drain_s=2.0))
    assert [(one.outcome, one.why) for one in attempts] == [("silent", generator.TIMED_OUT)] * 3
    assert all(0.2 <= one.ended - one.began < 1.0 for one in attempts)


async def test_request_without_a_free_connection_is_recorded_as_unsent() -> None:
    async def never(_number: int, _writer: asyncio.StreamWriter) -> None:
        pass

    async with serving(never) as server:
        attempts = await sent(
            server.port, 10, rate=1000.0, limits=LoadLimits(connections=2, timeout_s=5.0, drain_s=0.3)
        )
    outcomes = [one.outcome for one in attempts]
    assert sorted(one.index for one in attempts) == list(range(10))
    assert (outcomes.count("silent"), outcomes.count("unsent")) == (2, 8)
    assert server.requests == 2


async def test_refused_connection_is_silent_and_no_failure_of_the_sender(unused_port: int) -> None:
    attempts = await sent(unused_port, 10)
    assert [(one.outcome, one.why) for one in attempts] == [("silent", generator.NO_CONNECTION)] * 10


async def test_connection_lost_during_a_request_is_silent() -> None:
    async def drop(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(drop) as server:
        attempts = await sent(server.port, 5)
    assert [(one.outcome, one.why) for one in attempts] == [("silent", "connection lost")] * 5


async def test_closed_connection_is_replaced_for_the_next_request() -> None:
    async with serving(always(CLOSING)) as server:
        attempts = await sent(server.port, 30, limits=LoadLimits(connections=3, timeout_s=2.0, drain_s=2.0))
    assert [one.outcome for one in attempts] == ["ok"] * 30


async def test_long_idle_connection_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may close an idle connection, and a request that crosses with the close would be lost."""
    idle_s = 0.4
    monkeypatch.setattr(generator, "IDLE_MAX_S", idle_s)
    async with serving(always(OK)) as server:
        often = await sent(server.port, 5, rate=100.0, limits=LoadLimits(connections=1))
        seldom = await sent(server.port, 3, rate=0.5 / idle_s, limits=LoadLimits(connections=1))
    assert [one.outcome for one in (*often, *seldom)] == ["ok"] * 8
    assert server.connections == 1 + 3


async def test_other_answer_than_success_is_refused_with_its_status() -> None:
    async with serving(always(BUSY)) as server:
        attempts = await sent(server.port, 4)
    assert [(one.outcome, one.status) for one in attempts] == [("refused", 503)] * 4


async def test_without_a_schedule_each_connection_sends_after_its_answer() -> None:
    async with serving(always(OK)) as server:
        attempts = await sent(server.port, 300, rate=None)
    assert server.requests == 300
    assert sorted(one.index for one in attempts) == list(range(300))
    assert server.open_most <= 8


class Stubborn:
    """Retries at once, a number of times."""

    def __init__(self, times: int) -> None:
        self._times = times
        self.repeated: list[tuple[int, int]] = []

    def delay_s(self, attempt: SendAttempt) -> float | None:
        return 0.01 if attempt.number <= self._times else None

    def request(self, index: int, number: int) -> bytes:
        self.repeated.append((index, number))
        return request_bytes("h", "/", (), b"x=2")


async def test_failed_request_is_retried_as_long_as_the_policy_allows() -> None:
    async def third_time(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if number > 2 else BUSY)

    again = Stubborn(times=5)
    async with serving(third_time) as server:
        attempts = await sent(server.port, 1, retries=again)
    assert [(one.number, one.outcome) for one in attempts] == [(1, "refused"), (2, "refused"), (3, "ok")]
    assert again.repeated == [(0, 2), (0, 3)]


class Seen:
    def __init__(self) -> None:
        self.late: list[float] = []
        self.calls: list[tuple[int, int]] = []
        self.ends: list[tuple[int, int]] = []

    def dispatched(self, late_s: float) -> None:
        self.late.append(late_s)

    def called(self, call: Call) -> None:
        self.calls.append((call.index, call.number))

    def ended(self, attempt: SendAttempt) -> None:
        self.ends.append((attempt.index, attempt.number))


async def test_observer_sees_every_call_and_its_end(unused_port: int) -> None:
    seen = Seen()
    async with serving(always(BUSY)) as server:
        await sent(server.port, 3, retries=Stubborn(times=1), observer=seen)
    assert sorted(seen.calls) == sorted(seen.ends) == [(index, number) for index in range(3) for number in (1, 2)]
    assert len(seen.late) == 3
    nobody = Seen()
    await sent(unused_port, 2, observer=nobody)
    assert sorted(nobody.calls) == sorted(nobody.ends) == [(0, 1), (1, 1)]
