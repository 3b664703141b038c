"""The public port: its limits as they are in force, a fault of ours, a client that is gone, and the drain.

What senders do to it is tried over raw sockets by `tests/bad_input`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp.http_parser
import pytest
from prometheus_client import CollectorRegistry

from ingest import app, settings
from ingest.http import server
from ingest.http.server import Receiver, WrongParser
from ingest.keys import Rings
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from ingest.settings import ReceiverSettings
from schemas import accounts
from schemas.record_format import Record
from tests.unit.ingest.test_receive import BODY, KEY
from tests.unit.ingest.test_reporting import Kept

REQUEST = (
    b"POST /notify/shop HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY


class Log:
    """A log that takes as long as it is told to, or fails as nobody expects."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.error: Exception | None = None

    async def append(self, record: Record) -> None:
        if self.error is not None:
            raise self.error
        await self.may_go_on.wait()
        self.records.append(record)


class Harness:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = Log()
        self.kept = Kept()
        self.registry = CollectorRegistry()

    def serving(self, **changes: float) -> AbstractAsyncContextManager[Receiver]:
        from cryptography.hazmat.primitives import serialization

        public = KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.directory / "key.pem").write_bytes(public)
        shop = {"family": "openapi", "sign_type": "RSA2", "app_id": "1", "keys": ["key.pem"]}
        configured = accounts.parse({"accounts": {"shop": shop}})
        return app.serving(
            settings=load(**changes),
            accounts=configured,
            rings=Rings(configured, self.directory),
            log=self.log,
            logger=self.kept,
            metrics=ReceiverMetrics(self.registry, configured),
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


async def test_every_limit_that_is_set_is_in_force(harness: Harness) -> None:
    """aiohttp drops every keyword in silence when it does not know one of them."""
    async with harness.serving(keepalive_timeout_s=33.0, lingering_s=1.5) as receiver:
        connection = receiver.new_connection()
        assert connection._keepalive_timeout == 33
        assert connection._lingering_time == 1.5
        assert (connection.max_line_size, connection.max_field_size, connection.max_headers) == (4096, 4096, 64)
        assert connection._read_bufsize == 65536
        assert not connection._logging_enabled
        assert connection._manager is not None
        assert connection._manager.handler_cancellation is False


def test_without_the_c_parser_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.http_parser, "HttpRequestParser", aiohttp.http_parser.HttpRequestParserPy)
    with pytest.raises(WrongParser):
        server.assert_c_parser()


async def test_success_is_said_after_the_log_has_the_record_and_not_before(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        harness.log.may_go_on.set()
        assert (await answer_of(reader)).endswith(b"\r\n\r\nsuccess")
        assert len(harness.log.records) == 1


async def test_a_log_that_does_not_answer_is_not_waited_for_longer_than_the_deadline(harness: Harness) -> None:
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


async def test_a_fault_of_ours_is_answered_503_and_told_with_its_traceback(harness: Harness) -> None:
    harness.log.error = ZeroDivisionError("of ours")
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"\r\n\r\nfail")
    assert ("fault of ours", harness.log.error) in [
        (event, fields.get("error")) for event, fields in harness.kept.lines
    ]


async def test_what_was_begun_is_finished_though_the_sender_left(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver:
        async with connected(receiver) as (_, writer):
            writer.write(REQUEST)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        harness.log.may_go_on.set()
        await asyncio.sleep(0.05)
        assert len(harness.log.records) == 1
    assert harness.counted("gone") == 1
    assert harness.counted("accepted") == 0


async def test_while_it_drains_it_serves_and_sends_everybody_away(harness: Harness) -> None:
    async with harness.serving(drain_delay_s=0.4) as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        assert b"Connection: close" not in await answer_of(reader)
        stopping = asyncio.create_task(receiver.stop())
        await asyncio.sleep(0.05)
        assert not receiver.is_accepting
        async with connected(receiver) as (late_reader, late_writer):
            late_writer.write(REQUEST)
            answer = await answer_of(late_reader)
            assert answer.endswith(b"success")
            assert b"Connection: close\r\n" in answer
        port = receiver.port
        await stopping
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_request_in_flight_is_finished_before_it_closes(harness: Harness) -> None:
    harness.log.may_go_on.clear()
    async with harness.serving() as receiver, connected(receiver) as (reader, writer):
        writer.write(REQUEST)
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(receiver.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        harness.log.may_go_on.set()
        assert (await answer_of(reader)).endswith(b"success")
        await stopping


async def test_stopping_twice_does_no_harm(harness: Harness) -> None:
    async with harness.serving() as receiver:
        await receiver.stop()
