"""One notification in several records, of which some are held before they are decided, in every order of their ends.

Whichever record is decided first brings the notification. Every other one is a duplicate of the same id, whether it
arrives later or was held and is replayed later. It is no notification of its own that happens to say the same.
"""

from collections.abc import Callable, Iterator
from itertools import permutations, product
from typing import Any

import pytest

from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from tests.support import facts
from tests.support.facts import Fact, batch, form, payment
from tests.support.planted_failures import FAILURES, all_is_well
from tests.unit.workers.in_memory import MemoryWorker
from workers.settlement.plan import LogRecord, Position

OTHER = {"id": "x", "fields": {"notify_id": "x", "notify_type": "something_new", "out_trade_no": "A"}}
KINDS: dict[str, tuple[str, Fact]] = {
    "payment": ("mapi", form("p", "TRADE_SUCCESS")),
    "moves no order": ("mapi", OTHER),
    "failed refund": ("mapi", batch("c", "T1^10.00^FAILED", "one")),
    "incomplete": ("mapi", form("q", "TRADE_SUCCESS", total_fee="")),
    "antom": ("antom", payment("x")),
}
SAME_ID = (Disposition.DUPLICATE, Reason.SAME_ID)
ARRIVES, REPLAYED = "arrives", "replayed"
Step = tuple[str, int]


def orders_of_steps() -> Iterator[tuple[Step, ...]]:
    """Yield each order of two records' arrivals and replays in which no record is replayed before it arrives."""
    steps = [(what, record) for record in range(2) for what in (ARRIVES, REPLAYED)]
    for order in permutations(steps):
        if all(order.index((ARRIVES, record)) < order.index((REPLAYED, record)) for record in range(2)):
            yield order


def copies(account_name: str, fact: Fact) -> list[Record]:
    account = facts.account(account_name)
    return [facts.record(facts.body(fact, resend=resend), account, number="A") for resend in range(2)]


@pytest.mark.parametrize("fails", FAILURES)
@pytest.mark.parametrize("kind", KINDS)
async def test_copies_are_duplicates_of_the_record_that_is_decided_first(kind: str, fails: Callable[[], Any]) -> None:
    first_and_second = copies(*KINDS[kind])
    for order in orders_of_steps():
        for failing in product((False, True), repeat=len(order)):
            worker = MemoryWorker()
            for (what, number), is_failing in zip(order, failing, strict=True):
                with fails() if is_failing else all_is_well():
                    await take(worker, what, Position(0, number), first_and_second[number])
            await worker.processing.retry(list(worker.store.held.values()))  # all that are left, as one batch
            judge(worker, f"{order} {failing}")


async def take(worker: MemoryWorker, what: str, position: Position, record: Record) -> None:
    if what == ARRIVES:
        await worker.processing.process([LogRecord(position, record)])
    elif position in worker.store.held:
        await worker.processing.retry([worker.store.held[position]])


def judge(worker: MemoryWorker, case: str) -> None:
    (entry,) = worker.store.ledger.values()
    ends = {position: (each.disposition, each.reason) for position, each in worker.store.deliveries.items()}
    assert ends.pop(entry.position) != SAME_ID, case
    assert list(ends.values()) == [SAME_ID], case
    assert worker.store.held.keys() <= {entry.position}, case
