"""Cost of each step of an accepted notification in the receiver, by calling the real functions in a loop.

    python -m tests.benchmarks.receiver_steps [--rounds N]

The steps take turns, and the least of the rounds counts. The whole walk goes from the bytes of the socket to the bytes
of the answer, with everything between; the rest of a process's time is system calls and aiokafka's requests.
"""

import argparse
import asyncio
import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from aiokafka.producer.message_accumulator import BatchBuilder
from msgspec import Struct
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from deploy import process
from deploy.authentication import Authenticator
from deploy.logs import LogWriter
from deploy.spans import Places, ProcessTraces
from ingest import admission, authenticate, settings, signature
from ingest.authenticate import Authentic
from ingest.clock import SystemClock
from ingest.errors import Unavailable
from ingest.http import responses
from ingest.http.parsing import Parser
from ingest.http.request import Request
from ingest.http.responses import Reply, Stamp
from ingest.http.server import Receiver
from ingest.kafka.batches import PAUSE_S, Batches
from ingest.kafka.producer import BATCH_BYTES_MAX
from ingest.metrics import ReceiverMetrics
from ingest.pending import Pending
from ingest.quota import Quota
from ingest.receive import Reception
from ingest.recent_refusals import RecentRefusals
from ingest.reporting import Reporting
from schemas import form, record_format, topics
from schemas.record_format import Record, RecordContents
from tests.benchmarks import receiver_cost
from tests.benchmarks.receiver_cost import ACCOUNT

NOTIFICATIONS = 1_920
CONNECTIONS = 64  # each with one request at a time
PARTITIONS = 12
RECEIPT_KEY = bytes(32)


class Step(Struct, frozen=True, kw_only=True):
    """One step, measured: microseconds of CPU for each notification."""

    name: str
    about: str
    cpu_us: float


class _Planned(NamedTuple):
    """One step to measure; `run` does it for all notifications."""

    name: str
    about: str
    run: Callable[[], object]


class _Acknowledging:
    """A producer that acknowledges each batch in the next turn of the loop."""

    def new_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES_MAX, 0)

    def leader(self, partition: int, /) -> int:
        return 0

    def send(self, batch: BatchBuilder, partition: int, /) -> asyncio.Future[Any]:
        delivered = asyncio.get_running_loop().create_future()
        delivered.set_result(None)
        return delivered


def _unlimited() -> Quota:
    return Quota(count_max=1 << 20, bytes_max=1 << 40, exceeded=Unavailable)


class _BatchedLog:
    """The log on Kafka, without Kafka."""

    def __init__(self) -> None:
        self._quota = _unlimited()
        self._now_s = asyncio.get_running_loop().time
        self._batches = Batches(
            _Acknowledging(), self._quota, on_end=lambda *_: None, on_failed_send=print, on_overdue=lambda: None
        )

    def append(self, record: Record) -> Pending:
        self._quota.take(size := len(record.value))
        partition = topics.partition_of(record.key, PARTITIONS)
        return self._batches.append(record, partition, size, self._now_s() + 2.5)

    async def append_all(self, records: Sequence[Record]) -> None:
        for group in _groups(records):
            ends = list(map(self.append, group))
            while not ends[-1].is_done:  # noqa: ASYNC110 - the turns of the loop are part of the step
                await asyncio.sleep(0)
            await asyncio.sleep(PAUSE_S)  # turns of the loop during the pause would count as the step's


class _Sink:
    """The transport of a connection whose sender reads everything at once."""

    def write(self, data: bytes) -> None: ...
    def set_write_buffer_limits(self, *, high: int) -> None: ...
    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> Any:
        return mock.Mock()


class _Encoding(SpanExporter):
    """An exporter without its collector: it encodes the spans, on its thread, whose time counts too."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def _traces(ratio: float) -> ProcessTraces:
    places = Places(system="kafka", group="workers")
    return ProcessTraces(BatchSpanProcessor(_Encoding()), ratio=ratio, places=places, service="steps", version="1")


class _Given:
    """The notifications, and what each step of the receiver hands to the next."""

    def __init__(self, files: Path) -> None:
        self.requests = receiver_cost.make_requests(files, NOTIFICATIONS)
        merchant = receiver_cost.merchant(files)
        self.in_use = merchant.in_use
        self.account, self.ring = merchant.accounts[ACCOUNT], self.in_use.ring(ACCOUNT)
        self.bodies = [request.partition(b"\r\n\r\n")[2] for request in self.requests]
        self.forms = [form.read(body) for body in self.bodies]
        self.signed = [(form.signed_text(each), each.sign or b"") for each in self.forms]
        self.authentics = [authenticate.check(self.account, self.ring, body) for body in self.bodies]
        self.receipt = Authenticator(self.in_use, [RECEIPT_KEY]).receipt
        self.contents = [self._content(body) for body in self.bodies]
        self.records = [self.sealed(*each) for each in zip(self.contents, self.authentics, strict=True)]

    def _content(self, body: bytes) -> RecordContents:
        return RecordContents(
            account=ACCOUNT,
            family=self.account.family.value,
            received_at_ms=1_790_000_000_000,
            path=receiver_cost.PATH.encode(),
            content_type=b"application/x-www-form-urlencoded; charset=utf-8",
            key_id=self.ring.keys[0].id,
            confirmed=False,
            body=body,
            key_digest=self.ring.digests[self.ring.keys[0].id],
        )

    def sealed(self, contents: RecordContents, authentic: Authentic) -> Record:
        return record_format.encode(contents, authentic.number, RECEIPT_KEY)


class _Process:
    """A receiver without its sockets: as many connections, and a log that needs no broker."""

    def __init__(self, given: _Given) -> None:
        clock = SystemClock()
        self.given = given
        self.lines = LogWriter(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open while it measures
        self.lines.start()
        self.metrics = ReceiverMetrics(CollectorRegistry())
        self.metrics.accounts_in_use([given.ring])
        reporting = partial(Reporting, metrics=self.metrics, logger=self.lines, recent=RecentRefusals(), clock=clock)
        self.reporting, self.counting = reporting(), reporting(accepted_sample=1 << 60)
        self.log = _BatchedLog()
        self._reception = reception = Reception(
            accounts=given.in_use,
            quota=_unlimited(),
            confirm=mock.Mock(),
            log=self.log,
            clock=clock,
            observer=self.metrics,
            receipts=given.receipt,
        )
        told = settings.load({}, accounts="accounts.toml", port=0, drain_delay_s=0.0)
        receiver = Receiver(settings=told, reception=reception, reporting=self.reporting, clock=clock)
        receiver.is_accepting = True
        self._connections = [receiver.new_connection() for _ in range(CONNECTIONS)]
        for connection in self._connections:
            connection.connection_made(_Sink())  # type: ignore[arg-type]

    def parse(self) -> None:
        arrived: deque[Request | None] = deque()
        parser = Parser(mock.Mock(), arrived)
        for request in self.given.requests:
            parser.parse(request)
            arrived.clear()

    def admit(self) -> None:
        for each in self.given.forms:
            admission.admit_form(each, self.given.account)

    def report(self, reporting: Reporting) -> None:
        for authentic in self.given.authentics:
            reporting.accepted(ACCOUNT, authentic, is_stale=False, began_s=0.0, is_gone=False)
            self.metrics.appended(0.001, durable=True)

    async def walk(self) -> None:
        for requests in _groups(self.given.requests):
            for connection, request in zip(self._connections, requests, strict=True):
                connection.data_received(request)
            while not self._connections[-1].is_idle:  # noqa: ASYNC110 - the turns of the loop are part of the walk
                await asyncio.sleep(0)

    async def walk_traced(self, traces: ProcessTraces) -> None:
        self._reception._spans = traces
        try:
            await self.walk()
        finally:
            self._reception._spans = None


def _groups(each: Sequence[Any]) -> list[Sequence[Any]]:
    return [each[first : first + CONNECTIONS] for first in range(0, len(each), CONNECTIONS)]


def _steps(process: _Process) -> list[_Planned]:
    given = process.given
    account, ring = given.account, given.ring
    reply, stamp = Reply(responses.success(account), False), Stamp()
    return [
        _Planned("parse HTTP", "llhttp, its limits, the header fields that are kept", process.parse),
        _Planned("form", "percent-decoding, grammar, names", lambda: list(map(form.read, given.bodies))),
        _Planned("canonical text", "names sorted and joined", lambda: list(map(form.signed_text, given.forms))),
        _Planned("digest", "SHA-256 of the text", lambda: [hashlib.sha256(text) for text, _ in given.signed]),
        _Planned(
            "verification",
            "the digest, base64 and RSA-2048",
            lambda: [signature.is_signed_by(ring.keys[0], *each, ring.sign_type) for each in given.signed],
        ),
        _Planned("admission", "whose it is", process.admit),
        _Planned(
            "authenticity",
            "the five above, as the receiver asks for them",
            lambda: [authenticate.check(account, ring, body) for body in given.bodies],
        ),
        _Planned("receipt", "the MAC for the worker", lambda: list(map(given.receipt, given.contents))),
        _Planned("sealing", "key and headers", lambda: list(map(given.sealed, given.contents, given.authentics))),
        _Planned("partition", "murmur2", lambda: [topics.partition_of(each.key, PARTITIONS) for each in given.records]),
        _Planned(
            "batch append",
            "partition, Kafka's format, sending, the end of each wait",
            lambda: process.log.append_all(given.records),
        ),
        _Planned("metrics", "counters and durations", lambda: process.report(process.counting)),
        _Planned("log line", "queued, and rendered by its thread; metrics", lambda: process.report(process.reporting)),
        _Planned("answer", "its bytes", lambda: [stamp.render(reply, has_body=True) for _ in given.bodies]),
        _Planned("whole walk", "from the bytes received to the bytes of the answer", process.walk),
        *(
            _Planned(f"… traced, {ratio:.0%}", "the same, and its spans", partial(process.walk_traced, _traces(ratio)))
            for ratio in (0.01, 1.0)
        ),
    ]


async def measure(rounds: int) -> list[Step]:
    """Return every step, measured."""
    with tempfile.TemporaryDirectory() as temporary:
        planned = _steps(_Process(_Given(Path(temporary))))
        process.freeze_heap()
        costs: dict[str, list[float]] = {each.name: [] for each in planned}
        for _ in range(rounds):
            for each in planned:
                before = time.process_time()
                running = each.run()
                if asyncio.iscoroutine(running):
                    await running
                costs[each.name].append((time.process_time() - before) / NOTIFICATIONS * 1e6)
    return [Step(name=each.name, about=each.about, cpu_us=min(costs[each.name])) for each in planned]


def table(steps: Sequence[Step]) -> str:
    """All steps as text."""
    return "\n".join(f"{each.name:16}{each.cpu_us:8.2f}  {each.about}" for each in steps)


def run(rounds: int = 15) -> list[Step]:
    """Return every step, measured in a loop of its own."""
    with asyncio.Runner(loop_factory=receiver_cost.loop_factory()) as runner:
        return runner.run(measure(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of each step of a notification in the receiver.")
    parser.add_argument("--rounds", type=int, default=15)
    print(table(run(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
