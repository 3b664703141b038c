"""Rounds of batches; the wait of a sender ends at its deadline, and the quota counts a record until it has ended."""

import asyncio
import random
from typing import Any

import pytest

from ingest.errors import Unavailable
from ingest.kafka.batches import ROUND_S, Append, Batches
from ingest.kafka.in_flight import QuotaLimits, record_quota
from ingest.quota import Quota
from schemas.record_format import Record
from tests.support.kafka_clients import FakeProducer, acknowledge, failing
from tests.support.waiting import until

SIZE = 100
LONG_S = 60
DEADLINE_S = 0.05  # of records that are to pass theirs
TURNS = 3  # of the loop, until a round is sent


class Kit:
    """The batches of one producer, and the calls that they make."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.quota: Quota = record_quota(QuotaLimits(records_max=200, bytes_max=100_000))
        self.ended: list[tuple[BaseException | None, int]] = []
        self.not_sent: list[Exception] = []
        self.overdue = 0
        self.batches = Batches(
            self.producer,
            self.quota,
            on_end=lambda error, count: self.ended.append((error, count)),
            on_failed_send=self.not_sent.append,
            on_overdue=self._late,
        )

    def _late(self) -> None:
        self.overdue += 1

    def append(self, partition: int = 0, *, name: str = "N1", within_s: float = LONG_S) -> Append:
        self.quota.take(SIZE)
        due_s = asyncio.get_running_loop().time() + within_s
        return self.batches.append(Record(name.encode(), b"body", ()), partition, SIZE, due_s)

    async def turn(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    @property
    def sent(self) -> list[tuple[str, int]]:
        """The keys of each batch that was sent, and its partition."""
        return [(" ".join(each.key.decode() for each in records), at) for records, at in self.producer.batches]

    @property
    def left(self) -> tuple[int, int, bool]:
        return self.quota.count, self.quota.bytes, bool(self.batches)


@pytest.fixture
async def kit() -> Kit:
    return Kit()


async def test_records_of_one_turn_share_a_batch_and_its_end(kit: Kit) -> None:
    appends = [kit.append(name="N1"), kit.append(name="N2"), kit.append(1, name="N3")]
    assert kit.sent == []
    await kit.turn()
    assert kit.sent == [("N1 N2", 0), ("N3", 1)]
    kit.producer.under_way[0].set_result(None)
    await appends[0]
    await appends[1]
    assert not appends[2].is_done
    kit.producer.under_way[1].set_result(None)
    await appends[2]
    assert (kit.left, kit.ended) == ((0, 0, False), [(None, 2), (None, 1)])


async def test_records_of_a_round_on_its_way_share_the_next(kit: Kit) -> None:
    first = kit.append(name="N1")
    await kit.turn()
    later = [kit.append(name="N2"), kit.append(1, name="N3"), kit.append(1, name="N4")]
    await kit.turn()
    assert kit.sent == [("N1", 0)], "the broker has a round"
    kit.producer.under_way[0].set_result(None)
    await first
    later.append(kit.append(1, name="N5"))
    await kit.turn()
    assert kit.sent == [("N1", 0)], "the broker pauses, so that senders who were just answered share the round"
    await until(lambda: len(kit.sent) == 3)
    assert kit.sent[1:] == [("N2", 0), ("N3 N4 N5", 1)]
    for delivered in kit.producer.under_way[1:]:
        delivered.set_result(None)
    for append in later:
        await append


async def test_broker_that_pauses_delays_no_other(kit: Kit) -> None:
    kit.producer.leaders = {1: 2}
    kit.append(0)
    await kit.turn()
    kit.producer.under_way[0].set_result(None)
    waiting = kit.append(0, name="N2")
    await asyncio.sleep(0)
    kit.append(1, name="N3")
    await kit.turn()
    assert kit.sent == [("N1", 0), ("N3", 1)]
    await until(lambda: len(kit.sent) == 3)
    kit.producer.under_way[2].set_result(None)
    await waiting


async def test_silent_broker_delays_no_other(kit: Kit) -> None:
    kit.producer.leaders = {1: 2}
    kit.append(0)
    await kit.turn()
    kit.append(1, name="N2")
    await kit.turn()
    assert kit.sent == [("N1", 0), ("N2", 1)]


async def test_partition_without_an_answer_delays_the_others_for_a_limited_time(kit: Kit) -> None:
    kit.append(0)
    await kit.turn()
    other = kit.append(1, name="N2")
    again = kit.append(0, name="N3")
    await until(lambda: len(kit.sent) == 2)
    assert kit.sent[1] == ("N2", 1)
    kit.producer.under_way[1].set_result(None)
    await other
    await asyncio.sleep(2 * ROUND_S)
    assert len(kit.sent) == 2, "a partition has one batch on its way, so that its records stay in order"
    kit.producer.under_way[0].set_exception(OSError("gone"))
    await until(lambda: len(kit.sent) == 3)
    kit.producer.under_way[2].set_result(None)
    await again


async def test_partition_without_a_leader_is_sent_at_once_and_delays_nobody(kit: Kit) -> None:
    kit.producer.leader = lambda partition: None if partition == 0 else 1  # type: ignore[method-assign]
    kit.append(0)
    await kit.turn()
    kit.append(1, name="N2")
    kit.append(2, name="N3")
    await kit.turn()
    assert kit.sent == [("N1", 0), ("N2", 1), ("N3", 2)]


async def test_full_batch_goes_first(kit: Kit) -> None:
    kit.producer.room = 2
    appends = [kit.append(name=f"N{number}") for number in range(5)]
    for sent in range(3):
        await until(lambda: len(kit.sent) == sent + 1)  # noqa: B023
        kit.producer.under_way[sent].set_result(None)
    for append in appends:
        await append
    assert kit.sent == [("N0 N1", 0), ("N2 N3", 0), ("N4", 0)]


async def test_failed_batch_is_unknown_to_each_of_its_senders(kit: Kit) -> None:
    appends = [kit.append(), kit.append()]
    await kit.turn()
    error = OSError("gone")
    kit.producer.under_way[0].set_exception(error)
    for append in appends:
        with pytest.raises(Unavailable, match="unknown whether written"):
            await append
    assert (kit.left, kit.ended) == ((0, 0, False), [(error, 2)])


async def test_batch_that_cannot_be_sent_is_refused_alone(kit: Kit) -> None:
    kit.producer.cannot_send = OSError("closed")
    append = kit.append()
    with pytest.raises(Unavailable, match="could not be sent"):
        await append
    assert (kit.left, kit.ended, kit.not_sent) == ((0, 0, False), [], [kit.producer.cannot_send])
    kit.producer.cannot_send = None
    append = kit.append()
    await kit.turn()
    kit.producer.under_way[0].set_result(None)
    await append


async def test_record_that_cannot_be_added_leaves_no_empty_batch(kit: Kit) -> None:
    kit.producer.refuses = TypeError("a header is no pair")
    with pytest.raises(TypeError):
        kit.append()
    await kit.turn()
    assert (kit.sent, bool(kit.batches)) == ([], False)


async def test_record_whose_wait_timed_out_counts_until_it_has_ended(kit: Kit) -> None:
    append = kit.append(within_s=DEADLINE_S)
    with pytest.raises(Unavailable, match="in time"):
        await append
    assert (kit.left, kit.overdue, kit.ended) == ((1, SIZE, True), 1, [])
    kit.producer.under_way[0].set_result(None)
    await kit.turn()
    assert (kit.left, kit.ended) == ((0, 0, False), [(None, 1)])


async def test_record_that_nobody_waits_for_any_more_is_not_sent(kit: Kit) -> None:
    first = kit.append(name="N1", within_s=DEADLINE_S)
    await kit.turn()
    second = kit.append(name="N2", within_s=DEADLINE_S)
    for append in (first, second):
        with pytest.raises(Unavailable):
            await append
    kit.producer.under_way[0].set_result(None)
    await kit.turn()
    assert (kit.sent, kit.left) == ([("N1", 0)], (0, 0, False))


async def test_cancelled_sender_cancels_neither_the_record_nor_its_count(kit: Kit) -> None:
    async def wait() -> None:
        await kit.append(within_s=DEADLINE_S)

    task = asyncio.create_task(wait())
    await kit.turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not kit.producer.under_way[0].done()
    await until(lambda: kit.overdue)  # reported even without a sender
    assert kit.left == (1, SIZE, True)
    kit.producer.under_way[0].set_result(None)
    await kit.turn()
    assert (kit.left, kit.ended) == ((0, 0, False), [(None, 1)])


async def test_each_wait_ends_at_its_own_deadline(kit: Kit) -> None:
    clock = asyncio.get_running_loop().time
    waits = []
    for _ in range(2):
        waits.append((clock(), kit.append(within_s=DEADLINE_S)))
        await asyncio.sleep(0.03)
    for began_s, append in waits:
        with pytest.raises(Unavailable):
            await append
        assert clock() - began_s >= 0.045


async def test_flush_sends_what_waits_and_returns_when_all_has_ended(kit: Kit) -> None:
    kit.append(0)
    await kit.turn()
    waiting = kit.append(1, name="N2")
    flushing = asyncio.create_task(kit.batches.flush(within_s=LONG_S))
    await until(lambda: len(kit.sent) == 2)
    kit.producer.under_way[0].set_result(None)
    await kit.turn()
    assert not flushing.done()
    kit.producer.under_way[1].set_result(None)
    await flushing
    assert waiting.is_done


def fail(_: object, *__: object) -> None:
    raise LookupError("a bug")


async def test_sender_that_fails_when_it_goes_on_leaves_no_other_waiting(kit: Kit) -> None:
    told: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    appends = [kit.append(name=f"N{number}") for number in range(3)]
    appends[0].add_done_callback(fail)
    await kit.turn()
    kit.producer.under_way[0].set_result(None)
    await asyncio.gather(*appends[1:])
    assert (kit.left, kit.ended) == ((0, 0, False), [(None, 3)])
    assert [type(error) for error in told] == [LookupError]


async def test_sender_that_fails_at_its_deadline_leaves_no_other_waiting(kit: Kit) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    appends = [kit.append(name=f"N{number}", within_s=DEADLINE_S) for number in range(3)]
    appends[0].add_done_callback(fail)
    for append in appends[1:]:
        with pytest.raises(Unavailable):
            await append


@pytest.mark.parametrize("is_sent", [True, False])
async def test_report_that_fails_leaves_no_sender_waiting_and_nothing_counted(kit: Kit, is_sent: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    kit.batches._on_end = kit.batches._on_failed_send = fail
    kit.producer.cannot_send = None if is_sent else OSError("closed")
    append = kit.append()
    await kit.turn()
    if is_sent:
        kit.producer.under_way[0].set_exception(OSError("gone"))
    with pytest.raises(Unavailable):
        await append
    assert kit.left == (0, 0, False)


@pytest.mark.parametrize("seed", range(8))
async def test_each_record_of_a_random_history_ends_once_and_in_order(kit: Kit, seed: int) -> None:
    chance, producer = random.Random(seed), kit.producer
    ends = [acknowledge, acknowledge, failing(RuntimeError("lost")), failing(asyncio.CancelledError())]
    producer.room = 3
    appends = []
    for number in range(150):
        producer.leaders = {partition: chance.randrange(3) for partition in range(4)}
        producer.cannot_send = RuntimeError("no") if chance.random() < 0.05 else None
        appends.append(kit.append(chance.randrange(4), name=str(number)))
        for each in producer.under_way:
            if not each.done() and chance.random() < 0.3:
                chance.choice(ends)(each)
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
    producer.cannot_send, producer.answer = None, acknowledge
    for each in producer.under_way:
        if not each.done():
            acknowledge(each)
    await until(lambda: not kit.batches)
    assert kit.left == (0, 0, False)
    written: list[tuple[int, int]] = []
    for (records, at), end in zip(producer.batches, producer.under_way, strict=True):
        written += [(int(record.key), at) for record in records if end.exception() is None]
    well = [number for number, each in enumerate(appends) if each.exception() is None]
    assert sorted(number for number, _ in written) == well
    for partition in range(4):
        numbers = [number for number, at in written if at == partition]
        assert numbers == sorted(numbers)
    assert all(each.is_done for each in appends)


async def test_end_all_ends_sent_and_unsent_records(kit: Kit) -> None:
    appends: list[Any] = [kit.append(name="N1")]
    await kit.turn()
    appends.append(kit.append(name="N2"))
    kit.batches.end_all()
    for append in appends:
        with pytest.raises(Unavailable):
            await append
    assert (kit.left, len(kit.ended)) == ((0, 0, False), 2)
    kit.producer.under_way[0].set_exception(OSError("late"))
    await kit.turn()
    assert len(kit.ended) == 2


async def test_quota_limits_records_and_bytes_in_flight() -> None:
    quota = record_quota(QuotaLimits(records_max=3, bytes_max=250))
    for size in (1, 1, 1):
        quota.take(size)
    with pytest.raises(Unavailable):
        quota.take(1)
    quota.release(1)
    with pytest.raises(Unavailable):
        quota.take(249)
    quota.take(248)
    assert (quota.count, quota.bytes) == (3, 250)
    quota.release(250, 3)
    assert (quota.count, quota.bytes) == (0, 0)
