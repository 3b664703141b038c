"""One producer in service: the records it carries, and what they tell of its health."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, assert_never

from ingest.breaker import Breaker
from ingest.faults import Fault, Meaning
from ingest.flights import Delivered, Flights, Places
from schemas.record_format import Record

Sending = Coroutine[Any, Any, Delivered]


class Producer(Protocol):
    """One client of the log, from its start to its end. It is never started twice."""

    @property
    def partitions(self) -> int:
        """How many the topic has by the latest metadata; 0 while it is not known to exist."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing that is handed to it will ever be sent."""

    async def start(self) -> None:
        """Returns when a broker has told about the cluster; anything that it raises means that none did."""

    def send(self, record: Record, partition: int, /) -> Sending:
        """Hand over one record. It does not wait unless the partition's batch is full; the future says how it ended.

        Cancelled while it waits, the record is not sent. The future is the caller's alone: nobody else awaits it.
        """

    async def look(self) -> bool:
        """Ask for the cluster's and the topic's state anew; whether a broker answered in time."""

    async def close(self, *, flush_s: float) -> None:
        """Let what is under way end within that time, and then be gone, whatever happens.

        When this returns, every future that `send` gave is over.
        """

    def fault_of(self, error: BaseException, *, was_sent: bool) -> Fault | None:
        """Whether it is of no more use, after this error of a record that was sent or could not be."""

    def meaning_of(self, error: BaseException) -> Meaning:
        """What this error of a record says about the log."""


class Carrier:
    """`acknowledged` counts records; `is_in_want` says that some were handed over or lost since the last of them."""

    def __init__(
        self,
        producer: Producer,
        *,
        places: Places,
        breaker: Breaker,
        deadline_s: float,
        refused: Callable[[Meaning, BaseException], None],
    ) -> None:
        self.producer = producer
        self.flights = Flights(places, landed=self._landed, overdue=self._overdue, deadline_s=deadline_s)
        self.fault: Fault | None = None
        self.acknowledged = 0
        self._breaker = breaker
        self._refused = refused
        self._has_lost = False
        self._is_retired = False

    @property
    def is_in_want(self) -> bool:
        return self._has_lost or bool(self.flights)

    def lost(self, error: Exception) -> None:
        """A record could not be handed over: nothing was sent of it."""
        self.fault = self.fault or self.producer.fault_of(error, was_sent=False)
        self._tell(error)

    async def retire(self, *, flush_s: float) -> None:
        """End what is under way within that time, and then the producer. All records are over soon after."""
        self._is_retired = True
        try:
            await self.producer.close(flush_s=flush_s)
        finally:
            self.flights.forget()

    def _landed(self, error: BaseException | None) -> None:
        if error is None:
            self.acknowledged += 1
            self._has_lost = False
            self._breaker.succeeded()
        elif not self._is_retired:  # what becomes of a retired producer's records says nothing of its successor
            self.fault = self.fault or self.producer.fault_of(error, was_sent=True)
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        meaning = self.producer.meaning_of(error)
        match meaning:
            case Meaning.UNKNOWN:
                self._has_lost = True
                self._breaker.failed(f"Kafka acknowledges nothing: {error!r}")
            case Meaning.REFUSED:
                self._breaker.failed(f"Kafka refuses every record: {error!r}")
                self._refused(meaning, error)
            case Meaning.FORBIDDEN:
                self._breaker.trip(f"Kafka forbids us to write: {error!r}")
                self._refused(meaning, error)
            case Meaning.OURS:
                self._breaker.failed(f"no record can be handed over: {error!r}")
                self._refused(meaning, error)
            case _:
                assert_never(meaning)

    def _overdue(self) -> None:
        if not self._is_retired:
            self._has_lost = True
            self._breaker.failed("Kafka acknowledges nothing in time")


def begun(sending: Sending) -> Delivered | None:
    """The future of a record that could be handed over at once. `None`: it has to wait for room, and nothing was sent.

    Nearly every record goes this way, and a coroutine that does not wait needs neither a deadline nor a task.
    """
    try:
        sending.send(None)
    except StopIteration as ended:
        delivered: Delivered = ended.value
        return delivered
    sending.close()
    return None


async def when_there_is_room(send: Callable[[], Sending], *, within_s: float) -> Delivered:
    """The future of a record that has to wait until a batch has gone.

    Raises:
        TimeoutError: it waited too long; it was not sent.
    """
    async with asyncio.timeout(within_s):
        return await send()
