"""A log's client that does what it is told: acknowledge, fail, hang, refuse to start or to end."""

import asyncio
from collections.abc import Callable
from typing import Any

from ingest.kafka.in_flight import AppendFailure, ProducerFault
from schemas.record_format import Record

Delivered = asyncio.Future[Any]


class Fails(Exception):
    """What a record fails of, with what that is to mean."""

    def __init__(self, meaning: AppendFailure = AppendFailure.UNKNOWN, fault: ProducerFault | None = None) -> None:
        super().__init__(meaning.value)
        self.meaning = meaning
        self.fault = fault


class FakeProducer:
    """Keeps the future of each record in `under_way` until `answer` decides on it at once, or the test does."""

    def __init__(self, *, partitions: int = 12, answer: Callable[[Delivered], None] | None = None) -> None:
        self.partitions = partitions
        self.has_ended = False
        self.answers_looks = True
        self.answer = answer
        self.starts: list[BaseException] = []  # what the next starts fail of
        self.never_starts = False
        self.never_closes = False
        self.is_full = False
        self.refuses: BaseException | None = None
        self.sent: list[tuple[Record, int]] = []
        self.under_way: list[Delivered] = []
        self.looks = 0
        self.closed = False
        self.started = False

    async def start(self) -> None:
        if self.never_starts:
            await asyncio.Event().wait()
        if self.starts:
            raise self.starts.pop(0)
        self.started = True

    async def send(self, record: Record, partition: int, /) -> Delivered:
        while self.is_full:  # noqa: ASYNC110 - as aiokafka does, it looks again
            await asyncio.sleep(0.01)
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((record, partition))
        delivered: Delivered = asyncio.get_running_loop().create_future()
        self.under_way.append(delivered)
        if self.answer is not None:
            self.answer(delivered)
        return delivered

    async def look(self) -> bool:
        self.looks += 1
        return self.answers_looks

    async def close(self, *, flush_s: float) -> None:
        self.closed = True
        if self.never_closes:
            await asyncio.sleep(flush_s)

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        return error.fault if isinstance(error, Fails) else None

    def meaning_of(self, error: BaseException) -> AppendFailure:
        return error.meaning if isinstance(error, Fails) else AppendFailure.OURS


def acknowledge(delivered: Delivered) -> None:
    delivered.set_result(None)


def failing(error: BaseException) -> Callable[[Delivered], None]:
    return lambda delivered: delivered.set_exception(error)


class Counted:
    """Who counts rebuilds."""

    def __init__(self) -> None:
        self.faults: list[ProducerFault] = []

    def producing(self) -> None: ...

    def rebuilt(self, fault: ProducerFault) -> None:
        self.faults.append(fault)


class Said:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for said, fields in self.lines if said == event]
