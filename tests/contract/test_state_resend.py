"""The compacted state topic: an order's state is resent if an older copy may have arrived last."""

import pytest

from schemas import topics
from tests.contract.several_workers import LOOK_EVERY_MS, ORPHANED_AFTER_MS, Opener, at, names, sent
from tests.support import log_records
from tests.support.log_records import REGISTERED, Time
from workers.postgres import state_resend
from workers.postgres.state_resend import RESEND_AFTER_MS
from workers.postgres.store import PostgresOrderStore

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")


class LateArrival:
    """An order whose first event was sent by two workers: by the leader, which adopted it, and by a slow one."""

    def __init__(self, slow: PostgresOrderStore, leader: PostgresOrderStore, time: Time) -> None:
        self.slow = slow
        self.leader = leader
        self._time = time
        self._numbers: list[int] = []

    async def begin(self) -> None:
        assert await self.leader.sending.leads()
        await self.process(self.slow, 0)
        self._numbers = [number for number, _ in await self.slow.unsent(10)]
        assert await sent(self.leader) == []  # its first sight of the event
        self._time.now_ms += ORPHANED_AFTER_MS
        assert await sent(self.leader) == ["shop-sg:N1:1"]

    async def process(self, worker: PostgresOrderStore, place: int) -> None:
        record = log_records.record("N1", STATUSES[place])
        await log_records.processing(worker, self._time).process([at(place, 1, record)])

    async def mark_slow_copy(self) -> None:
        """The slow worker's copy is acknowledged too, and marked."""
        await self.slow.mark_sent(self._numbers)

    def pass_resend_time(self) -> None:
        self._time.now_ms += RESEND_AFTER_MS + LOOK_EVERY_MS


@pytest.fixture
async def late(workers: Opener, time: Time) -> LateArrival:
    slow, leader = await workers(2)
    found = LateArrival(slow, leader, time)
    await found.begin()
    return found


async def test_state_is_resent_after_an_event_that_arrived_late(late: LateArrival) -> None:
    await late.process(late.leader, 1)
    assert await sent(late.leader) == ["shop-sg:N1:2"]
    late.pass_resend_time()
    await late.mark_slow_copy()
    assert await sent(late.slow) == await sent(late.leader) == []
    late.pass_resend_time()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
    late.pass_resend_time()
    assert await sent(late.leader) == []


async def test_state_is_resent_if_the_late_sender_dies_before_it_marks(late: LateArrival) -> None:
    await late.process(late.leader, 1)
    assert await sent(late.leader) == ["shop-sg:N1:2"]
    assert await sent(late.leader) == []
    late.pass_resend_time()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
    late.pass_resend_time()
    assert await sent(late.leader) == []


async def test_state_is_resent_if_the_leader_dies_with_adopted_events(workers: Opener, time: Time) -> None:
    slow, leader, heir = await workers(3)
    assert await leader.sending.leads()
    await log_records.processing(slow, time).process([at(0, 1, log_records.record("N1"))])
    in_flight = await slow.unsent(10)
    assert await sent(leader) == []
    time.now_ms += ORPHANED_AFTER_MS
    assert names(await leader.unsent(10)) == ["shop-sg:N1:1"]
    await slow.mark_sent([number for number, _ in in_flight])
    await log_records.processing(slow, time).process([at(0, 2, log_records.record("N1", "TRADE_FINISHED"))])
    assert await sent(slow) == ["shop-sg:N1:2"]
    await leader.sending.resign()
    time.now_ms += RESEND_AFTER_MS
    assert await sent(heir) == ["state of shop-sg:N1:2"]


async def test_next_leader_resends_a_state_that_the_last_one_reserved(late: LateArrival, workers: Opener) -> None:
    late.pass_resend_time()
    assert names(await late.leader.unsent(10)) == ["state of shop-sg:N1:1"]
    await late.leader.sending.resign()
    (heir,) = await workers(1)
    assert await sent(heir) == []  # the leader's copy may be in flight
    late.pass_resend_time()
    assert await sent(heir) == ["state of shop-sg:N1:1"]
    late.pass_resend_time()
    assert await sent(heir) == []


async def test_resend_that_a_former_leader_sends_late_is_followed_by_another(
    late: LateArrival, workers: Opener
) -> None:
    late.pass_resend_time()
    resent = await late.leader.unsent(10)
    assert names(resent) == ["state of shop-sg:N1:1"]
    await late.leader.sending.resign()
    (heir,) = await workers(1)
    await late.process(heir, 1)
    assert await sent(heir) == ["shop-sg:N1:2"]
    late.pass_resend_time()
    assert await sent(heir) == ["state of shop-sg:N1:2"]
    await late.leader.mark_sent([number for number, _ in resent])
    late.pass_resend_time()
    assert await sent(heir) == ["state of shop-sg:N1:2"]
    late.pass_resend_time()
    assert await sent(heir) == []


async def test_newer_event_in_flight_during_a_late_arrival_is_resent_once_marked(late: LateArrival) -> None:
    """The newer event may have arrived before the late one, and is not marked yet."""
    await late.process(late.leader, 1)
    in_flight = await late.leader.unsent(10)
    late.pass_resend_time()
    assert names(await late.leader.unsent(10)) == ["shop-sg:N1:2"]
    await late.leader.mark_sent([number for number, _ in in_flight])
    late.pass_resend_time()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]


async def test_request_that_cannot_be_sent_yet_is_postponed(late: LateArrival, time: Time) -> None:
    time.now_ms += LOOK_EVERY_MS
    await log_records.processing(late.leader, time).process([at(2, 1, log_records.record("N2"))])
    assert names(await late.leader.unsent(10)) == names(await late.leader.unsent(10)) == ["shop-sg:N2:1"]
    assert await sent(late.leader) == ["shop-sg:N2:1"]
    await late.process(late.slow, 1)
    late.pass_resend_time()

    async def taken() -> list[str]:
        due = await late.leader._database.write(
            lambda connection: state_resend.take_due(connection, 1, now_ms=time.now_ms)
        )
        return [each.state.id for each in due]

    assert [await taken() for _ in range(3)] == [[], ["shop-sg:N2:1"], []]


async def test_event_written_during_a_resend_is_resent_after_it(late: LateArrival, workers: Opener, time: Time) -> None:
    (third,) = await workers(1)
    late.pass_resend_time()
    resent = await late.leader.unsent(10)
    assert names(resent) == ["state of shop-sg:N1:1"]
    await late.process(third, 1)
    assert await sent(third) == ["shop-sg:N1:2"]
    await late.leader.mark_sent([number for number, _ in resent])
    time.now_ms += LOOK_EVERY_MS
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
    time.now_ms += LOOK_EVERY_MS
    assert await sent(late.leader) == []


async def test_request_made_during_a_resend_is_not_completed_by_it(late: LateArrival) -> None:
    late.pass_resend_time()
    resent = await late.leader.unsent(10)
    assert names(resent) == ["state of shop-sg:N1:1"]
    await late.mark_slow_copy()
    await late.leader.mark_sent([number for number, _ in resent])
    late.pass_resend_time()
    assert await sent(late.leader) == ["state of shop-sg:N1:1"]


async def test_failed_resend_is_sent_again_when_no_copy_can_be_in_flight(late: LateArrival, time: Time) -> None:
    late.pass_resend_time()
    assert names(await late.leader.unsent(10)) == ["state of shop-sg:N1:1"]
    await log_records.processing(late.leader, time).process([at(2, 1, log_records.record("N2"))])
    assert await sent(late.leader) == ["shop-sg:N2:1"]
    time.now_ms += LOOK_EVERY_MS
    assert await sent(late.leader) == []
    late.pass_resend_time()
    assert await sent(late.leader) == ["state of shop-sg:N1:1"]
    late.pass_resend_time()
    assert await sent(late.leader) == []


async def test_event_tried_twice_is_resent_when_no_copy_can_be_in_flight(workers: Opener, time: Time) -> None:
    (alone,) = await workers(1)
    assert await alone.sending.leads()
    await log_records.processing(alone, time).process(
        [at(0, 1, log_records.record("N1")), at(0, 2, log_records.record("N2"))]
    )
    assert names(await alone.unsent(1)) == ["shop-sg:N1:1"]
    assert await sent(alone) == ["shop-sg:N1:1", "shop-sg:N2:1"]
    assert await sent(alone) == []
    time.now_ms += RESEND_AFTER_MS + 1
    assert await sent(alone) == ["state of shop-sg:N1:1"]


async def test_notice_is_not_resent(workers: Opener, time: Time) -> None:
    (alone,) = await workers(1)
    await log_records.processing(alone, time).process([at(0, 1, log_records.record("N1", account=REGISTERED))])
    assert [event.topic for _, event in await alone.unsent(10)] == [topics.HELD]
    assert [event.topic for _, event in await alone.unsent(10)] == [topics.HELD]
    await sent(alone)
    time.now_ms += RESEND_AFTER_MS + 1
    assert await alone.unsent(10) == []


async def test_pruning_keeps_an_event_with_an_open_resend_request(late: LateArrival, time: Time) -> None:
    await late.process(late.leader, 1)
    assert await sent(late.leader) == ["shop-sg:N1:2"]
    assert await late.leader.prune_sent(older_than_ms=time.now_ms + 1)
    late.pass_resend_time()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
