"""Faults of Kafka under the publisher.

Acknowledged records are in the topic after recovery (I1), and no append waits beyond the deadline (I12). Clients reach
the broker through a wire that can be cut, because the broker advertises the wire's address.
"""

import asyncio
import time as clock
from itertools import count
from typing import Any

import pytest
from aiokafka.admin import NewPartitions

from ingest.errors import Unavailable
from ingest.kafka.in_flight import ProducerFault
from schemas import topics
from schemas.record_format import Record
from tests.faults.publisher_kit import PARTITIONS, RECOVERED_S, Kit, Place, connected, until

LOST_MAX = 5


async def test_records_arrive_unchanged_in_the_partitions_of_their_keys(kit: Kit) -> None:
    await kit.ready()
    await asyncio.gather(*(kit.taken_again(30) for _ in range(500)))
    await asyncio.gather(*(kit.taken_again(30, key=b"shop-sg:one", size=60_000) for _ in range(40)))
    await kit.nothing_is_missing()
    assert len(kit.acknowledged) == 540
    assert kit.publisher.in_flight == 0


async def test_killed_broker_that_returns_is_used_without_a_restart(kit: Kit) -> None:
    await kit.ready()
    broker = kit.place.broker.process

    async def kill_and_start() -> None:
        await asyncio.sleep(0.3)
        await broker.kill()
        await until(lambda: kit.publisher.trouble is not None)
        await asyncio.sleep(4)
        assert kit.publisher.in_flight <= 4096
        await broker.start()

    await kit.append_while(kill_and_start)
    assert await kit.taken_again() < RECOVERED_S
    await until(lambda: kit.publisher.trouble is None)
    await until(lambda: kit.publisher.in_flight == 0, 2 * RECOVERED_S)
    assert len(kit.refused) > 100, "while it was away, refusals came fast"
    await kit.nothing_is_missing()


async def test_frozen_broker_loses_nothing(kit: Kit) -> None:
    await kit.ready()
    broker = kit.place.broker.process

    async def freeze_and_thaw() -> None:
        await asyncio.sleep(0.3)
        broker.freeze()
        try:
            await until(lambda: kit.publisher.trouble is not None)
            await asyncio.sleep(6)
        finally:
            broker.thaw()

    await kit.append_while(freeze_and_thaw)
    assert await kit.taken_again() < RECOVERED_S
    await until(lambda: kit.publisher.in_flight == 0, 2 * RECOVERED_S)
    await kit.nothing_is_missing()


@pytest.mark.parametrize("idempotent", [False, True])
async def test_lost_answer_is_unknown_and_may_leave_two_records(place: Place, idempotent: bool) -> None:
    async with connected(place, idempotent=idempotent) as kit:
        await kit.ready()
        assert await kit.append()
        # On a busy machine the client may send its batch again too late for the deadline: then one copy is left.
        for number in range(1, LOST_MAX + 1):
            kit.line.swallow_after = key = b"shop-sg:the-one-whose-answer-is-lost-%d" % number
            await kit.append(key=key)
            await kit.taken_again()
            await until(lambda: kit.publisher.in_flight == 0)
            assert kit.line.cuts == number
            copies = sum(record.key == key for record in await kit.written())
            assert copies == 1 if idempotent else copies >= 1
            if idempotent or copies > 1:
                break
        assert idempotent or copies > 1
        await kit.nothing_is_missing()


async def test_missing_topic_makes_the_publisher_unready_until_it_is_created(kit: Kit) -> None:
    await kit.publisher.start()
    await until(lambda: "no partition of the topic" in (kit.publisher.trouble or ""))
    assert not await kit.append()
    await kit.create()
    await until(lambda: kit.publisher.trouble is None)
    assert await kit.append()
    await kit.nothing_is_missing()


async def test_added_partitions_are_used(kit: Kit) -> None:
    await kit.ready()
    async with kit.admin() as admin:
        await admin.create_partitions({kit.topic: NewPartitions(total_count=2 * PARTITIONS)})
    await until(lambda: kit.built[0].partitions == 2 * PARTITIONS)
    key = next(key for key in (b"k%d" % n for n in count()) if topics.partition_of(key, 12) >= PARTITIONS)
    await until(lambda: kit.publisher.trouble is None)
    await kit.taken_again()
    assert await kit.append(key=key)
    await kit.nothing_is_missing()


async def test_sequence_gap_of_an_idempotent_producer_is_overcome(place: Place) -> None:
    async with connected(place, idempotent=True) as kit:
        await kit.ready()
        assert await kit.append()
        sequence: Any = kit.built[0]._client._txn_manager
        for partition in range(PARTITIONS):
            sequence.increment_sequence_number((kit.topic, partition), 7)
        key = kit.acknowledged[0].key
        assert not await kit.append(key=key)
        assert await kit.taken_again() < RECOVERED_S
        await until(lambda: kit.observer.faults == [ProducerFault.SEQUENCE])
        await kit.nothing_is_missing()


async def test_ended_sender_task_is_replaced(kit: Kit) -> None:
    await kit.ready()
    assert await kit.append()
    kit.built[0]._client._sender.sender_task.cancel()
    await until(lambda: kit.observer.faults == [ProducerFault.SENDER_ENDED])
    assert await kit.append()
    await kit.nothing_is_missing()


async def test_record_too_large_for_the_topic_is_refused_alone(kit: Kit) -> None:
    await kit.ready(**{"max.message.bytes": "2000", "compression.type": "uncompressed"})
    assert await kit.append()
    random = bytes(number * number % 251 for number in range(20_000))
    with pytest.raises(Unavailable):
        await kit.publisher.append(Record(b"shop-sg:large", random, ()))
    (line,) = kit.logger.of("Kafka refused records")
    assert "MessageSizeTooLarge" in line["error"]
    assert await kit.append()
    await kit.nothing_is_missing()


async def test_cancelled_append_does_not_harm_the_others(kit: Kit) -> None:
    await kit.ready()
    appending = [asyncio.create_task(kit.append(key=b"shop-sg:one")) for _ in range(100)]
    await asyncio.sleep(0)
    for task in appending[::2]:
        task.cancel()
    ends = await asyncio.gather(*appending, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True, False] * 50
    assert all(end is True for end in ends[1::2])
    await until(lambda: kit.publisher.in_flight == 0)
    await kit.nothing_is_missing()


@pytest.mark.parametrize("idempotent", [False, True])
async def test_stop_with_a_frozen_broker_ends_in_time(place: Place, idempotent: bool) -> None:
    async with connected(place, idempotent=idempotent) as kit:
        await kit.ready()
        assert await kit.append()
        kit.place.broker.process.freeze()
        try:
            appending = [asyncio.create_task(kit.append(size=30_000)) for _ in range(50)]
            await asyncio.sleep(0.2)
            began_s = clock.monotonic()
            await kit.publisher.stop()
            assert clock.monotonic() - began_s < 7
            assert not any(await asyncio.gather(*appending))
            assert kit.publisher.in_flight == 0
        finally:
            kit.place.broker.process.thaw()
