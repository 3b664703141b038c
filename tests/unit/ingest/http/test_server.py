"""The public port: its limits, an unexpected exception, a sender that left, and the drain.

`tests/bad_input` sends it hostile requests over raw sockets.
"""

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest import accounts_in_use, app, settings
from ingest.accounts_in_use import AccountsInUse
from ingest.errors import Unavailable
from ingest.http.connection import Connection
from ingest.http.server import ACCEPTED_AT_ONCE, Receiver
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from ingest.settings import ReceiverSettings
from schemas import accounts_toml
from schemas.record_format import Record
from tests.support.fakes import MemoryLogger
from tests.support.waiting import until
from tests.unit.ingest.http.test_connection import Transport
from tests.unit.ingest.test_receive import BODY, KEY

REQUEST = (
    b"POST /notify/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY
CHUNKED = b"Transfer-Encoding: chunked"


class Log:
    """Keeps each record as soon as `may_go_on` is set, or raises `error`. `appends` counts the calls."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.appends = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.error: Exception | None = None

    async def append(self, record: Record) -> None:
        self.appends += 1
        if self.error is not None:
            raise self.error
        await self.may_go_on.wait()
        self.records.append(record)


class Harness:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = Log()
        self.logger = MemoryLogger()
        self.registry = CollectorRegistry()

    def serving(self, **changes: float) -> AbstractAsyncContextManager[Receiver]:
        from cryptography.hazmat.primitives import serialization

        public = KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.directory / "key.pem").write_bytes(public)
        shop = {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["key.pem"]}
        configured = accounts_toml.parse({"accounts": {"shop": shop}})
        return app.serving(
            settings=load(**changes),
            accounts=AccountsInUse(accounts_in_use.load(configured, self.directory)),
            log=self.log,
            logger=self.logger,
            metrics=ReceiverMetrics(self.registry),
            recent=RecentRefusals(),
        )

    def counted(self, outcome: str) -> float | None:
        labels = {"account": "shop", "outcome": outcome}
        return self.registry.get_sample_value("alipay_notify_received_total", labels)


def load(**changes: float) -> ReceiverSettings:
    return settings.load({}, accounts="a.toml", port=0, **({"drain_delay_s": 0.0} | changes))


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


@asynccontextmanager
async def connected(receiver: Receiver) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def test_success_is_sent_only_after_the_log_has_the_record(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        harness.log.may_go_on.set()
        assert (await answer_of(reader)).endswith(b"\r\n\r\nsuccess")
        assert len(harness.log.records) == 1


async def test_silent_log_is_answered_503_at_the_request_deadline(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    limits = {"body_deadline_s": 0.1, "confirm_deadline_s": 0.1, "request_deadline_s": 0.3}
    async with harness.serving(**limits) as receiver, connected(receiver) as (reader, writer):
        began = asyncio.get_running_loop().time()
        writer.write(REQUEST)
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 60\r\n" in answer
        assert asyncio.get_running_loop().time() - began < 0.35
    assert harness.counted("unavailable") == 1


async def test_unexpected_exception_is_answered_503_and_logged_with_its_traceback(harness: Harness) -> None:
    harness.log.error = ZeroDivisionError("of ours")
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"\r\n\r\nfail")
    assert ("unexpected exception", harness.log.error) in [
        (event, fields.get("error")) for event, fields in harness.logger.lines
    ]


async def known_by_its_end(receiver: Receiver, sent: bytes, how: str) -> "weakref.ref[Connection]":
    """Serve a connection to its end, and return how to know whether it is still there."""
    connection, transport = receiver.new_connection(), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.data_received(sent)
    await until(lambda: bool(transport.written or connection._awaited))
    if how == "late":
        connection.expire()
    elif how == "slow" and connection._current is not None:
        connection._current.expire()
    elif how == "broken":
        connection.data_received(b"no chunk\r\n")
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return weakref.ref(connection)


@pytest.mark.parametrize("how", ["answered", "early", "gone", "slow", "broken", "no log", "late"])
async def test_connection_is_freed_at_its_end_however_its_request_ended(harness: Harness, how: str) -> None:
    half, chunked = REQUEST[:-1], REQUEST[: -len(BODY)].replace(b"Content-Length: %d" % len(BODY), CHUNKED)
    sent = {"early": half.replace(b"/shop", b"/nobody"), "gone": half, "slow": half, "broken": chunked}
    harness.log.error = Unavailable("no") if how == "no log" else None
    if how == "late":
        harness.log.may_go_on.clear()
    async with harness.serving() as receiver:
        gc.disable()
        try:
            known = await known_by_its_end(receiver, sent.get(how, REQUEST), how)
            await asyncio.sleep(0)
            assert known() is None
        finally:
            gc.enable()


async def test_append_is_finished_after_the_sender_has_left(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver:
        async with connected(receiver) as (_, writer):
            writer.write(REQUEST)
            await until(lambda: harness.log.appends)
            sending: socket.socket = writer.get_extra_info("socket")
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        await until(lambda: not list(receiver._surroundings.connections))
        harness.log.may_go_on.set()
        await until(lambda: harness.counted("gone"))
        assert len(harness.log.records) == 1
    assert harness.counted("gone") == 1
    assert harness.counted("accepted") == 0


async def test_sender_that_sends_nothing_more_gets_its_answers(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST + REQUEST)
        writer.write_eof()
        await until(lambda: harness.log.appends)
        harness.log.may_go_on.set()
        assert (await asyncio.wait_for(reader.read(), 5)).count(b"success") == 2


async def test_drain_answers_requests_and_closes_their_connections(harness: Harness) -> None:
    async with harness.serving(drain_delay_s=0.4) as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        assert b"Connection: close" not in await answer_of(reader)
        stopping = asyncio.create_task(receiver.stop())
        await until(lambda: not receiver.is_accepting)
        async with connected(receiver) as (late_reader, late_writer):
            late_writer.write(REQUEST)
            answer = await answer_of(late_reader)
            assert answer.endswith(b"success")
            assert b"Connection: close\r\n" in answer
        port = receiver.port
        await stopping
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stop_waits_for_a_request_in_flight(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        await until(lambda: harness.log.appends)
        stopping = asyncio.create_task(receiver.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        harness.log.may_go_on.set()
        assert (await answer_of(reader)).endswith(b"success")
        await stopping


async def test_receiver_can_be_stopped_twice(harness: Harness) -> None:
    async with harness.serving() as receiver:
        await receiver.stop()


def test_many_connections_are_accepted_in_one_turn_of_the_loop(harness: Harness) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def accepted_in_a_few_turns() -> int:
        async with harness.serving() as receiver:
            senders = [socket.socket() for _ in range(2 * ACCEPTED_AT_ONCE)]
            for sender in senders:
                sender.connect(("127.0.0.1", receiver.port))
            for _ in range(8):
                await asyncio.sleep(0)
            found = len(list(receiver._surroundings.connections))
            for sender in senders:
                sender.close()
            return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(accepted_in_a_few_turns()) >= ACCEPTED_AT_ONCE, "uvloop alone accepts one in each turn"


async def test_senders_beyond_the_limit_of_connections_are_answered_503(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving(connections_max=8, in_flight_max=8) as receiver, AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(connected(receiver)) for _ in range(8)]
        for _, writer in busy:
            writer.write(REQUEST)
        await until(lambda: all(not connection.is_idle for connection in receiver._surroundings.connections))
        for _ in range(2):
            reader, writer = await stack.enter_async_context(connected(receiver))
            writer.write(REQUEST)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 503 ")
            assert await asyncio.wait_for(reader.read(), 5) == b""
        harness.log.may_go_on.set()
        assert [(await answer_of(reader))[-7:] for reader, _ in busy] == [b"success"] * 8
    labels = {"account": "unknown", "outcome": "throttled"}
    assert harness.registry.get_sample_value("alipay_notify_received_total", labels) == 2


async def test_idle_connection_cannot_be_closed_while_bytes_wait_to_be_read(harness: Harness) -> None:
    async with harness.serving() as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port)) as sender:
            await until(lambda: list(receiver._surroundings.connections))
            (connection,) = receiver._surroundings.connections
            assert isinstance(connection, Connection)
            assert (connection.is_idle, connection.can_be_closed) == (True, True)
            sender.send(REQUEST[:9])
            assert (connection.is_idle, connection.can_be_closed) == (True, False)
