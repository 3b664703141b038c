"""One append: its result, its deadline, the quota, refusals, and the stop."""

import asyncio

import pytest

from ingest.errors import Unavailable
from ingest.kafka.in_flight import AppendFailure, ProducerFault
from schemas import topics
from tests.support.kafka_clients import Fails, FakeProducer, acknowledge, failing
from tests.support.kafka_publisher import IN_TIME_S, RECORD, SOON_S, Kit
from tests.support.waiting import until


async def test_append_returns_when_its_record_is_acknowledged_and_not_before(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    appending = asyncio.create_task(kit.append())
    await until(lambda: bool(producer.under_way))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not appending.done()
    producer.under_way[0].set_result(None)
    await appending
    assert producer.sent == [(RECORD, topics.partition_of(RECORD.key, 12))]
    assert kit.publisher.in_flight == 0


async def test_failed_record_is_unknown_and_not_sent_again(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=failing(Fails())))
    await kit.refused("unknown whether written")
    assert len(producer.sent) == 1


async def test_unacknowledged_record_is_unknown_at_the_deadline_and_stays_in_flight(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    began_s = asyncio.get_running_loop().time()
    await kit.refused("unknown whether written")
    assert asyncio.get_running_loop().time() - began_s < IN_TIME_S
    assert kit.publisher.in_flight == 1
    producer.under_way[0].set_result(None)
    await until(lambda: kit.publisher.in_flight == 0)


async def test_quota_counts_records_whose_senders_were_cancelled(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    appending = [asyncio.create_task(kit.append()) for _ in range(10)]
    await until(lambda: len(producer.sent) == 10)
    for task in appending:
        task.cancel()
    await asyncio.gather(*appending, return_exceptions=True)
    assert kit.publisher.in_flight == 10
    await kit.refused("too many")
    assert len(producer.sent) == 10
    for delivered in producer.under_way:
        assert not delivered.cancelled()
        delivered.set_result(None)
    await until(lambda: kit.publisher.in_flight == 0)
    producer.answer = acknowledge
    await kit.append()


async def test_full_batches_of_a_partition_are_sent_one_after_the_other(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=acknowledge))
    producer.room = 2
    await asyncio.gather(*(kit.append() for _ in range(7)))
    assert [len(records) for records, _ in producer.batches] == [2, 2, 2, 1]
    assert kit.publisher.in_flight == 0


async def test_sender_cancelled_while_its_record_is_not_sent_yet_leaves_nothing_in_flight(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=acknowledge))
    appending = asyncio.create_task(kit.append())
    await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    await until(lambda: kit.publisher.in_flight == 0)
    assert len(producer.sent) == 1


async def test_record_that_cannot_be_sent_is_refused_and_logged(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.refuses = TypeError("a header is no pair")
    await kit.refused("could not be sent")
    (line,) = kit.logger.of("Kafka refused records")
    assert line["reason"] == AppendFailure.OURS
    assert kit.publisher.in_flight == 0


async def test_missing_topic_is_trouble_until_it_exists(kit: Kit) -> None:
    producer = FakeProducer(partitions=0, answer=acknowledge)
    await kit.start(producer)
    await until(lambda: "topic" in (kit.publisher.trouble or ""))
    await kit.refused("topic")
    await until(lambda: producer.refreshes >= 3)
    assert producer.sent == []
    producer.partitions = 3
    assert kit.publisher.trouble is None
    await kit.append()
    assert producer.sent[0][1] == topics.partition_of(RECORD.key, 3)


async def test_partition_follows_the_current_partition_count(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(partitions=3, answer=acknowledge))
    await kit.append()
    producer.partitions = 64
    await kit.append()
    assert [partition for _, partition in producer.sent] == [
        topics.partition_of(RECORD.key, count) for count in (3, 64)
    ]


async def test_after_only_failures_appends_are_refused_at_once_and_one_probes(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=failing(Fails())))
    async with asyncio.timeout(SOON_S):
        while kit.publisher.trouble is None:
            await kit.refused()
            await asyncio.sleep(0.005)
    assert "does not acknowledge" in kit.publisher.trouble
    sent = len(producer.sent)
    producer.answers = False
    await kit.refused("does not acknowledge")
    assert len(producer.sent) == sent
    producer.answer = acknowledge
    producer.answers = True
    await kit.accepted_again()
    assert kit.publisher.trouble is None


async def test_long_outage_refuses_fast_in_constant_memory_and_recovers(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    producer.answers = False
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
    assert kit.publisher.in_flight <= 10
    assert len(producer.sent) <= 10
    assert len(kit.built) > 5
    assert sum(not each.closed for each in kit.built) <= 3, "one in service, one candidate, and one that closes"
    gone = False
    await kit.accepted_again()
    assert kit.observer.faults == [ProducerFault.SILENT]
    await until(lambda: kit.publisher.trouble is None)


async def test_refused_records_are_logged_at_a_limited_rate(kit: Kit) -> None:
    await kit.ready(FakeProducer(answer=failing(Fails(AppendFailure.REFUSED))))
    for _ in range(50):
        await kit.refused()
        await asyncio.sleep(0.001)
    lines = kit.logger.of("Kafka refused records")
    assert 1 <= len(lines) <= 3
    assert lines[0]["reason"] == "refused"
    assert kit.observer.faults == [], "the producer answers, so it is not silent"


async def test_denied_permission_to_write_is_trouble_until_an_append_succeeds(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=failing(Fails(AppendFailure.FORBIDDEN))))
    await kit.refused()
    assert "denies" in (kit.publisher.trouble or "")
    assert kit.logger.of("Kafka refused records")[0]["reason"] == "forbidden"
    producer.answer = acknowledge
    await kit.accepted_again()
    assert kit.publisher.trouble is None


async def test_stop_lets_records_in_flight_end_and_refuses_new_ones(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer())
    sent, waiting = asyncio.create_task(kit.append()), None
    await until(lambda: len(producer.under_way) == 1)
    waiting = asyncio.create_task(kit.append())  # shares the next round
    await asyncio.sleep(0)
    stopping = asyncio.create_task(kit.publisher.stop())
    await asyncio.sleep(0)
    await kit.refused("closing")
    producer.answer = acknowledge
    producer.under_way[0].set_result(None)
    await stopping
    await sent
    await waiting
    assert producer.closed
    assert kit.publisher.trouble == "the log is closing"


async def test_refuse_if_refuses_each_append_before_anything_is_sent(kit: Kit) -> None:
    producer = await kit.ready(FakeProducer(answer=acknowledge))
    kit.refusal = "topic log.v1 has 1 replica, and acks need 2"
    with pytest.raises(Unavailable) as refused:
        await kit.append()
    assert (str(refused.value), producer.sent, kit.publisher.in_flight) == (kit.refusal, [], 0)
    assert kit.publisher.trouble is None, "the caller of refuse_if reports its reason to the readiness check"
    kit.refusal = None
    await kit.append()


async def test_reason_of_refuse_if_comes_before_those_of_the_log(kit: Kit) -> None:
    kit.refusal = "the topic was not checked yet"
    await kit.refused("not checked yet")
    kit.refusal = None
    await kit.refused("no Kafka broker")
