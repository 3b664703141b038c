"""Producers that do not start, break or fall silent are replaced; a stop ends in any case."""

import asyncio

import pytest

from ingest.kafka.in_flight import ProducerFault
from ingest.kafka.publisher import Publisher
from schemas import topics
from tests.support.fakes import MemoryLogger, ProducerObserver
from tests.support.kafka_clients import Delivered, Fails, FakeProducer, acknowledge, failing
from tests.support.kafka_publisher import IN_TIME_S, RECORD, Kit
from tests.support.waiting import until


async def test_start_without_brokers_is_unready_and_becomes_ready_by_itself(kit: Kit) -> None:
    away = [FakeProducer() for _ in range(3)]
    for producer in away:
        producer.starts = [OSError("connection refused")]
    await kit.start(*away)
    await kit.refused("no Kafka broker")
    await until(lambda: "connection refused" in (kit.publisher.trouble or ""))
    await until(lambda: kit.publisher.trouble is None)
    await kit.append()
    assert [producer.closed for producer in kit.built] == [True, True, True, False]
    assert kit.observer.faults == [], "nothing was replaced"


async def test_producer_whose_start_hangs_is_closed_and_replaced(kit: Kit) -> None:
    hanging = FakeProducer()
    hanging.never_starts = True
    await kit.start(hanging)
    await until(lambda: kit.publisher.trouble is None)
    assert hanging.closed


async def test_settings_that_no_producer_accepts_fail_the_start() -> None:
    def build() -> FakeProducer:
        raise ValueError("no such security protocol")

    publisher = Publisher(build=build, observer=ProducerObserver(), logger=MemoryLogger())
    with pytest.raises(ValueError, match="security protocol"):
        await publisher.start()
    await publisher.stop()


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
async def test_producer_is_replaced_after_an_error_that_makes_it_unusable(kit: Kit, fault: ProducerFault) -> None:
    broken = await kit.ready(FakeProducer(answer=failing(Fails(fault=fault))))
    await kit.refused()
    await kit.accepted_again()
    assert kit.observer.faults == [fault]
    await until(lambda: broken.closed)
    assert len(kit.built) == 2
    assert kit.logger.of("producer replaced")[0]["reason"] == fault


async def test_producer_that_accepts_no_records_is_replaced(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.refuses = Fails(fault=ProducerFault.CLOSED)
    await kit.refused()
    await kit.accepted_again()
    assert kit.observer.faults == [ProducerFault.CLOSED]


async def test_producer_whose_sender_has_ended_is_replaced(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.has_ended = True
    await until(lambda: kit.observer.faults == [ProducerFault.SENDER_ENDED])
    await kit.append()


async def test_silent_producer_is_replaced_only_if_records_wait_for_acknowledgement(kit: Kit) -> None:
    silent = await kit.ready(FakeProducer())
    await until(lambda: silent.refreshes == 2)  # two checks of an idle producer, which take longer than silent_s
    assert kit.observer.faults == []
    await kit.refused()
    await until(lambda: kit.observer.faults == [ProducerFault.SILENT])
    await until(lambda: silent.closed and kit.publisher.in_flight == 0)
    await kit.append()


async def test_idle_producer_whose_brokers_do_not_answer_is_unready_and_replaced(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.answers = False
    await until(lambda: kit.publisher.trouble == "no Kafka broker answers")
    await until(lambda: kit.observer.faults == [ProducerFault.SILENT])
    await until(lambda: kit.publisher.trouble is None)


async def test_old_producer_stays_in_service_until_the_new_one_has_started(kit: Kit) -> None:
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


async def test_silent_producer_that_recovers_stays_in_service(kit: Kit) -> None:
    old = FakeProducer()
    candidates = [FakeProducer() for _ in range(50)]
    for candidate in candidates:
        candidate.starts = [OSError("refused")]
    await kit.ready(old, *candidates)
    old.answers = False
    await kit.refused()
    await until(lambda: len(kit.built) > 2)
    old.answers = True
    old.under_way[0].set_result(None)
    await until(lambda: kit.publisher.trouble is None)
    old.answer = acknowledge
    await kit.append()
    assert kit.observer.faults == []
    assert not old.closed


async def test_failures_of_a_replaced_producer_do_not_count_for_its_successor(kit: Kit) -> None:
    old = await kit.ready(FakeProducer())
    old.never_closes = True
    appending = [asyncio.create_task(kit.try_append(number)) for number in range(8)]
    await until(lambda: len(old.sent) == 8)
    old.has_ended = True
    await until(lambda: kit.observer.faults == [ProducerFault.SENDER_ENDED])
    for delivered in old.under_way[:-1]:
        delivered.set_exception(Fails(fault=ProducerFault.FENCED))
    old.under_way[-1].set_result(None)
    assert sum(await asyncio.gather(*appending)) == len(old.batches[-1][0]) < 8
    await until(lambda: kit.built[-1].refreshes)  # many ticks of the supervisor later
    assert kit.observer.faults == [ProducerFault.SENDER_ENDED]
    assert kit.publisher.trouble is None
    await kit.append()


async def test_producers_that_all_fail_are_built_with_pauses(kit: Kit) -> None:
    kit.planned += [FakeProducer(answer=failing(Fails(fault=ProducerFault.SEQUENCE))) for _ in range(500)]
    await kit.ready()
    until_s = asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until_s:
        await kit.refused()
        await asyncio.sleep(0.001)
    assert 2 <= len(kit.built) < 40


async def test_stop_ends_even_if_a_producer_does_not_close(kit: Kit) -> None:
    class Hanging(FakeProducer):
        async def close(self, *, flush_s: float) -> None:
            await asyncio.Event().wait()

    producer = await kit.ready(Hanging())
    appending = asyncio.create_task(kit.try_append())
    await until(lambda: bool(producer.under_way))
    began_s = asyncio.get_running_loop().time()
    await kit.publisher.stop()
    assert asyncio.get_running_loop().time() - began_s < IN_TIME_S
    assert not await appending


async def test_stop_during_an_outage_ends_at_once(kit: Kit) -> None:
    hanging = FakeProducer()
    hanging.never_starts = True
    await kit.start(hanging)
    await until(lambda: hanging.starting)
    began_s = asyncio.get_running_loop().time()
    await kit.publisher.stop()
    assert asyncio.get_running_loop().time() - began_s < IN_TIME_S
    assert hanging.closed


async def test_stop_right_after_the_start_closes_the_candidate(kit: Kit) -> None:
    await kit.start()
    await kit.publisher.stop()
    assert [producer.closed for producer in kit.built] == [True]


async def test_outage_is_logged_at_a_limited_rate(kit: Kit) -> None:
    away = [FakeProducer() for _ in range(20)]
    for producer in away:
        producer.starts = [OSError("connection refused")]
    await kit.start(*away)
    await until(lambda: len(kit.built) > 10)
    assert len(kit.logger.of("no broker answers")) == 1


async def test_supervisor_logs_an_unexpected_error_and_continues(kit: Kit) -> None:
    class Odd(FakeProducer):
        async def refresh_metadata(self) -> bool:
            self.refreshes += 1
            if self.refreshes == 1:
                raise RuntimeError("never seen before")
            return True

    odd = await kit.ready(Odd(answer=acknowledge))
    await until(lambda: odd.refreshes > 2)
    assert len(kit.logger.of("unexpected error in the producer supervisor")) == 1
    await kit.append()
