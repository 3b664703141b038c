"""An append ends in time, well or as unknown; and a producer that is of no more use is replaced."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from ingest.errors import Unavailable
from ingest.kafka.breaker import BreakerPolicy
from ingest.kafka.in_flight import AppendFailure, ProducerFault, QuotaLimits
from ingest.kafka.publisher import Publisher
from ingest.kafka.supervisor import SupervisorTiming
from schemas import topics
from schemas.record_format import Record
from tests.support.fakes import MemoryLogger, ProducerObserver
from tests.support.kafka_clients import Delivered, Fails, FakeProducer, acknowledge, failing

RECORD = Record(b"shop-sg:N1", b"a=1&sign=x", (("account", b"shop-sg"),))
PACE = SupervisorTiming(
    tick_s=0.005,
    look_every_s=0.2,
    look_in_trouble_s=0.02,
    silent_s=0.15,
    start_within_s=0.1,
    start_pause_max_s=0.02,
    rebuild_pause_max_s=0.05,
    flush_s=0.1,
    stop_within_s=0.3,
)
PATIENCE = BreakerPolicy(failures_max=3, failing_s=0.01, open_s=0.01, open_max_s=0.05, probe_s=0.1)
DEADLINE_S = 0.05
IN_TIME_S = 1.0  # on a machine that has other work: many times what is meant, and far from for ever
SOON_S = 5.0


class Kit:
    """A publisher, its producers in the order in which they are built, and all that is told."""

    def __init__(self) -> None:
        self.planned: list[FakeProducer] = []
        self.built: list[FakeProducer] = []
        self.observer = ProducerObserver()
        self.logger = MemoryLogger()
        self.publisher = Publisher(
            build=self.build,
            observer=self.observer,
            logger=self.logger,
            deadline_s=DEADLINE_S,
            bounds=QuotaLimits(records_max=10, bytes_max=1_000_000),
            patience=PATIENCE,
            pace=PACE,
        )

    def build(self) -> FakeProducer:
        self.built.append(self.planned.pop(0) if self.planned else FakeProducer(answer=acknowledge))
        return self.built[-1]

    async def start(self, *planned: FakeProducer) -> None:
        self.planned += planned
        await self.publisher.start()

    async def ready(self, *planned: FakeProducer) -> FakeProducer:
        """With these producers, and the first of them in service."""
        await self.start(*planned)
        await until(lambda: self.publisher.trouble is None)
        return self.built[-1]

    async def append(self) -> None:
        await self.publisher.append(RECORD)

    async def refused(self, match: str | None = None) -> None:
        with pytest.raises(Unavailable, match=match):
            await self.append()

    async def is_taken(self) -> bool:
        try:
            await self.append()
        except Unavailable:
            return False
        return True

    async def taken_again(self) -> None:
        """Returns when an append has succeeded."""
        async with asyncio.timeout(SOON_S):
            while not await self.is_taken():  # noqa: ASYNC110 - as Alipay does
                await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - what it waits for announces nothing
            await asyncio.sleep(0.002)


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    kit = Kit()
    yield kit
    for producer in kit.built:
        for delivered in producer.under_way:
            delivered.cancel()
    await kit.publisher.stop()


async def test_an_append_returns_when_its_record_is_acknowledged_and_not_before(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    appending = asyncio.create_task(kit.append())
    await until(lambda: bool(producer.under_way))
    await asyncio.sleep(0.01)
    assert not appending.done()
    producer.under_way[0].set_result(None)
    await appending
    assert producer.sent == [(RECORD, topics.partition_of(RECORD.key, 12))]
    assert kit.publisher.on_the_way == 0


async def test_a_failure_is_unknown_and_is_not_repeated(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=failing(Fails())))
    await kit.refused("unknown whether written")
    assert len(producer.sent) == 1


async def test_no_answer_is_unknown_after_the_deadline_and_the_place_stays_taken(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    began_s = asyncio.get_running_loop().time()
    await kit.refused("unknown whether written")
    assert asyncio.get_running_loop().time() - began_s < IN_TIME_S
    assert kit.publisher.on_the_way == 1
    producer.under_way[0].set_result(None)
    await until(lambda: kit.publisher.on_the_way == 0)


async def test_what_exceeds_the_bound_is_refused_at_once_also_for_records_nobody_waits_for(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    appending = [asyncio.create_task(kit.append()) for _ in range(10)]
    await until(lambda: len(producer.under_way) == 10)
    for task in appending:
        task.cancel()
    await asyncio.gather(*appending, return_exceptions=True)
    assert kit.publisher.on_the_way == 10
    await kit.refused("too many")
    assert len(producer.sent) == 10
    for delivered in producer.under_way:
        assert not delivered.cancelled()
        delivered.set_result(None)
    await until(lambda: kit.publisher.on_the_way == 0)
    producer.answer = acknowledge
    await kit.append()


async def test_a_batch_that_is_full_is_waited_for_within_the_deadline(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=acknowledge))
    producer.is_full = True
    appending = asyncio.create_task(kit.append())
    await asyncio.sleep(0.01)
    assert kit.publisher.on_the_way == 1, "it takes a place while it waits"
    producer.is_full = False
    await appending
    assert len(producer.sent) == 1, "it is sent once, though it was begun twice"
    producer.is_full = True
    await kit.refused("could not be handed over")
    assert kit.publisher.on_the_way == 0
    assert len(producer.sent) == 1


async def test_whoever_is_cancelled_while_a_batch_is_full_leaves_nothing(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=acknowledge))
    producer.is_full = True
    appending = asyncio.create_task(kit.append())
    await asyncio.sleep(0.01)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    producer.is_full = False
    await asyncio.sleep(0.02)
    assert (kit.publisher.on_the_way, producer.sent) == (0, [])


async def test_an_error_of_ours_in_handing_over_is_refused_and_told(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.refuses = TypeError("a header is no pair")
    await kit.refused("could not be handed over")
    (line,) = kit.logger.of("Kafka refused records")
    assert line["reason"] == AppendFailure.OURS
    assert kit.publisher.on_the_way == 0


async def test_while_brokers_are_away_it_comes_up_unready_and_becomes_ready_by_itself(kit: Kit) -> None:
    away = [FakeProducer() for _ in range(3)]
    for producer in away:
        producer.starts = [OSError("connection refused")]
    await kit.start(*away)
    await kit.refused("no broker")
    await until(lambda: "connection refused" in (kit.publisher.trouble or ""))
    await until(lambda: kit.publisher.trouble is None)
    await kit.append()
    assert [producer.closed for producer in kit.built] == [True, True, True, False]
    assert kit.observer.faults == [], "nothing was replaced"


async def test_a_start_that_hangs_is_given_up(kit: Kit) -> None:
    hanging = FakeProducer()
    hanging.never_starts = True
    await kit.start(hanging)
    await until(lambda: kit.publisher.trouble is None)
    assert hanging.closed


async def test_parameters_that_no_producer_can_be_built_with_refuse_the_start() -> None:
    def build() -> FakeProducer:
        raise ValueError("no such security protocol")

    publisher = Publisher(build=build, observer=ProducerObserver(), logger=MemoryLogger())
    with pytest.raises(ValueError, match="security protocol"):
        await publisher.start()
    await publisher.stop()


async def test_a_topic_that_is_missing_is_trouble_until_it_is_there(kit: Kit) -> None:
    producer = FakeProducer(partitions=0, answer=acknowledge)
    await kit.start(producer)
    await until(lambda: "topic" in (kit.publisher.trouble or ""))
    await kit.refused("topic")
    await until(lambda: producer.looks >= 3)
    assert producer.sent == []
    producer.partitions = 3
    assert kit.publisher.trouble is None
    await kit.append()
    assert producer.sent[0][1] == topics.partition_of(RECORD.key, 3)


async def test_the_number_of_partitions_is_followed(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(partitions=3, answer=acknowledge))
    await kit.append()
    producer.partitions = 64
    await kit.append()
    assert [partition for _, partition in producer.sent] == [
        topics.partition_of(RECORD.key, count) for count in (3, 64)
    ]


async def test_after_nothing_but_failures_appends_are_refused_at_once_and_one_tries(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=failing(Fails())))
    async with asyncio.timeout(SOON_S):
        while kit.publisher.trouble is None:
            await kit.refused()
            await asyncio.sleep(0.005)
    assert "acknowledges nothing" in kit.publisher.trouble
    sent = len(producer.sent)
    producer.answers_looks = False
    await kit.refused("acknowledges nothing")
    assert len(producer.sent) == sent
    producer.answer = acknowledge
    producer.answers_looks = True
    await kit.taken_again()
    assert kit.publisher.trouble is None


async def test_brokers_gone_for_long_are_refused_fast_in_flat_memory_and_come_back_by_themselves(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.answers_looks = False
    gone = True

    class Gone(FakeProducer):
        async def start(self) -> None:
            if gone:
                raise OSError("connection refused")

    kit.planned += [Gone(answer=acknowledge) for _ in range(200)]
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 1
    fast = 0
    while loop.time() < until_s:
        began_s = loop.time()
        await kit.refused()
        assert loop.time() - began_s < IN_TIME_S
        fast += loop.time() - began_s < 0.01
        await asyncio.sleep(0.002)
    assert fast > 50
    assert kit.publisher.on_the_way <= 10
    assert len(producer.sent) <= 10
    assert len(kit.built) > 5
    assert sum(not each.closed for each in kit.built) <= 3, "one in service, one candidate, and one being ended"
    gone = False
    await kit.taken_again()
    assert kit.observer.faults == [ProducerFault.SILENT]
    await until(lambda: kit.publisher.trouble is None)


@pytest.mark.parametrize(
    "fault",
    [
        ProducerFault.SEQUENCE,
        ProducerFault.FENCED,
        ProducerFault.CLOSED,
        ProducerFault.UNEXPECTED,
        ProducerFault.REFUSED_BATCH,
    ],
)
async def test_a_producer_is_replaced_after_an_error_that_it_cannot_recover_from(
    kit: Kit, fault: ProducerFault
) -> None:
    broken = await kit.ready(FakeProducer(answer=failing(Fails(fault=fault))))
    await kit.refused()
    await kit.taken_again()
    assert kit.observer.faults == [fault]
    await until(lambda: broken.closed)
    assert len(kit.built) == 2
    assert kit.logger.of("producer replaced")[0]["reason"] == fault


async def test_a_producer_that_takes_nothing_any_more_is_replaced(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.refuses = Fails(fault=ProducerFault.CLOSED)
    await kit.refused()
    await kit.taken_again()
    assert kit.observer.faults == [ProducerFault.CLOSED]


async def test_a_producer_whose_sender_has_ended_is_replaced(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.has_ended = True
    await until(lambda: kit.observer.faults == [ProducerFault.SENDER_ENDED])
    await kit.append()


async def test_a_producer_that_is_silent_while_work_waits_is_replaced_and_an_idle_one_is_not(kit: Kit) -> None:
    silent = await kit.ready(FakeProducer())
    await asyncio.sleep(2 * PACE.silent_s)
    assert kit.observer.faults == []
    await kit.refused()
    await until(lambda: kit.observer.faults == [ProducerFault.SILENT])
    await until(lambda: silent.closed and kit.publisher.on_the_way == 0)
    await kit.append()


async def test_an_idle_producer_whose_brokers_do_not_answer_is_not_ready_and_is_replaced(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.answers_looks = False
    await until(lambda: kit.publisher.trouble == "no broker of Kafka answers")
    await until(lambda: kit.observer.faults == [ProducerFault.SILENT])
    await until(lambda: kit.publisher.trouble is None)


async def test_the_old_producer_stays_in_service_until_the_new_one_has_started(kit: Kit) -> None:
    def fails_of_one_partition(delivered: Delivered) -> None:
        if len(old.sent) == 1:
            delivered.set_exception(Fails(fault=ProducerFault.SEQUENCE))
        else:
            delivered.set_result(None)

    slow = FakeProducer(answer=acknowledge)
    slow.starts = [OSError("not yet")]
    old = FakeProducer(answer=fails_of_one_partition)
    await kit.ready(old, slow)
    await kit.refused()
    await until(lambda: len(kit.built) >= 2)
    await kit.append()
    await until(lambda: kit.observer.faults == [ProducerFault.SEQUENCE])
    await kit.append()
    assert kit.built[-1].sent == [(RECORD, topics.partition_of(RECORD.key, 12))]


async def test_a_silent_producer_that_comes_back_to_life_stays(kit: Kit) -> None:
    old = FakeProducer()
    candidates = [FakeProducer() for _ in range(50)]
    for candidate in candidates:
        candidate.starts = [OSError("refused")]
    await kit.ready(old, *candidates)
    old.answers_looks = False
    await kit.refused()
    await until(lambda: len(kit.built) > 2)
    old.answers_looks = True
    old.under_way[0].set_result(None)
    await until(lambda: kit.publisher.trouble is None)
    old.answer = acknowledge
    await kit.append()
    assert kit.observer.faults == []
    assert not old.closed


async def test_what_a_retired_producer_loses_says_nothing_of_its_successor(kit: Kit) -> None:
    old = await kit.ready(FakeProducer())
    old.never_closes = True
    appending = [asyncio.create_task(kit.is_taken()) for _ in range(8)]
    await until(lambda: len(old.under_way) == 8)
    old.has_ended = True
    await until(lambda: kit.observer.faults == [ProducerFault.SENDER_ENDED])
    for delivered in old.under_way[:-1]:
        delivered.set_exception(Fails(fault=ProducerFault.FENCED))
    old.under_way[-1].set_result(None)
    assert await asyncio.gather(*appending) == [False] * 7 + [True]
    await asyncio.sleep(0.05)
    assert kit.observer.faults == [ProducerFault.SENDER_ENDED]
    assert kit.publisher.trouble is None
    await kit.append()


async def test_producers_that_all_break_are_not_built_without_pause(kit: Kit) -> None:
    kit.planned += [FakeProducer(answer=failing(Fails(fault=ProducerFault.SEQUENCE))) for _ in range(500)]
    await kit.ready()
    until_s = asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until_s:
        await kit.refused()
        await asyncio.sleep(0.001)
    assert 2 <= len(kit.built) < 40


async def test_what_the_broker_refuses_is_told_of_but_not_without_limit(kit: Kit) -> None:
    await kit.ready(FakeProducer(answer=failing(Fails(AppendFailure.REFUSED))))
    for _ in range(50):
        await kit.refused()
        await asyncio.sleep(0.001)
    lines = kit.logger.of("Kafka refused records")
    assert 1 <= len(lines) <= 3
    assert lines[0]["reason"] == "refused"
    assert kit.observer.faults == [], "it answers, so it is not silent"


async def test_being_forbidden_to_write_is_trouble_until_an_append_succeeds(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=failing(Fails(AppendFailure.FORBIDDEN))))
    await kit.refused()
    assert "forbids" in (kit.publisher.trouble or "")
    assert kit.logger.of("Kafka refused records")[0]["reason"] == "forbidden"
    producer.answer = acknowledge
    await kit.taken_again()
    assert kit.publisher.trouble is None


async def test_a_stop_lets_what_is_under_way_end_and_takes_nothing_more(kit: Kit) -> None:
    class Flushing(FakeProducer):
        async def close(self, *, flush_s: float) -> None:
            await asyncio.sleep(0.01)
            for delivered in self.under_way:
                delivered.set_result(None)
            await super().close(flush_s=flush_s)

    producer = await kit.ready(Flushing())
    appending = asyncio.create_task(kit.append())
    await until(lambda: bool(producer.under_way))
    stopping = asyncio.create_task(kit.publisher.stop())
    await asyncio.sleep(0)
    await kit.refused("closing")
    await stopping
    await appending
    assert producer.closed
    assert kit.publisher.trouble == "the log is closing"
    producer.under_way.clear()


async def test_a_stop_ends_though_a_producer_does_not(kit: Kit) -> None:
    class Hanging(FakeProducer):
        async def close(self, *, flush_s: float) -> None:
            await asyncio.Event().wait()

    producer = await kit.ready(Hanging())
    appending = asyncio.create_task(kit.is_taken())
    await until(lambda: bool(producer.under_way))
    began_s = asyncio.get_running_loop().time()
    await kit.publisher.stop()
    assert asyncio.get_running_loop().time() - began_s < IN_TIME_S
    assert not await appending


async def test_a_stop_while_brokers_are_away_ends_at_once(kit: Kit) -> None:
    hanging = FakeProducer()
    hanging.never_starts = True
    await kit.start(hanging)
    await asyncio.sleep(0.01)
    began_s = asyncio.get_running_loop().time()
    await kit.publisher.stop()
    assert asyncio.get_running_loop().time() - began_s < IN_TIME_S
    assert hanging.closed


async def test_a_stop_right_after_the_start_closes_what_was_built(kit: Kit) -> None:
    await kit.start()
    await kit.publisher.stop()
    assert [producer.closed for producer in kit.built] == [True]


async def test_what_is_told_of_an_outage_does_not_flood_the_log(kit: Kit) -> None:
    away = [FakeProducer() for _ in range(20)]
    for producer in away:
        producer.starts = [OSError("connection refused")]
    await kit.start(*away)
    await until(lambda: len(kit.built) > 10)
    assert len(kit.logger.of("no broker answers")) == 1


async def test_a_fault_of_the_supervisor_is_told_and_survived(kit: Kit) -> None:
    class Odd(FakeProducer):
        async def look(self) -> bool:
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("never seen before")
            return True

    odd = await kit.ready(Odd(answer=acknowledge))
    await until(lambda: odd.looks > 2)
    assert len(kit.logger.of("fault of ours")) == 1
    await kit.append()
