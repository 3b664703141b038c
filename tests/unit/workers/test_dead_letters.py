"""The limit of dead letters in a row: which count, and how a restarted worker goes on counting."""

import pytest

from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from tests.support import plans
from tests.unit.workers.in_memory import MemoryWorker, paid
from workers import dead_letters
from workers.dead_letters import DeadLetters
from workers.errors import TooManyDeadLetters
from workers.settlement.plan import WritePlan

GOOD = (Disposition.APPLIED, Reason.CHANGED)
BROKEN_PROGRAM = (Disposition.DEAD, Reason.OUR_FAULT)
STRANGER = (Disposition.DEAD, Reason.BAD_RECORD)
SENDER = (Disposition.DEAD, Reason.UNAUTHENTICATED)


def plan(*ends: tuple[Disposition, Reason]) -> WritePlan:
    return plans.plan(
        deliveries=[
            plans.delivery(offset, disposition=disposition, reason=reason)
            for offset, (disposition, reason) in enumerate(ends)
        ]
    )


@pytest.mark.parametrize("fault", [BROKEN_PROGRAM, STRANGER])
def test_limit_is_reached_by_dead_letters_in_a_row(fault: tuple[Disposition, Reason]) -> None:
    counted = DeadLetters(3)
    counted.count(plan(fault, fault, GOOD, fault, fault), [])
    with pytest.raises(TooManyDeadLetters, match="3 dead letters in a row"):
        counted.count(plan(fault), [])


def test_wrong_message_of_a_sender_does_not_count() -> None:
    counted = DeadLetters(3)
    for _ in range(10):
        counted.count(plan(SENDER, BROKEN_PROGRAM), [])


@pytest.mark.parametrize(("earlier", "more"), [(0, 3), (1, 2), (2, 1), (500, 1)])
def test_earlier_dead_letters_count_and_leave_room_for_one(earlier: int, more: int) -> None:
    counted = DeadLetters(3)
    counted.count_earlier(earlier)
    for _ in range(more - 1):
        counted.count(plan(STRANGER), [])
    with pytest.raises(TooManyDeadLetters):
        counted.count(plan(STRANGER), [])


def test_good_record_ends_the_row_of_earlier_workers() -> None:
    counted = DeadLetters(3)
    counted.count_earlier(500)
    counted.count(plan(GOOD, STRANGER, STRANGER), [])


async def test_recent_dead_letters_are_those_by_our_own_fault() -> None:
    worker = MemoryWorker()
    assert await dead_letters.recent(worker.store, now_ms=0) == 0
    await worker.process(Record(b"x", b"x", ()), paid("N1"), paid("N2", body="forged"))
    assert await dead_letters.recent(worker.store, now_ms=0) == 1
