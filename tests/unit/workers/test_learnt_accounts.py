"""What is parked for an account comes due when the account is learnt, and no record is lost or dead meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from tests.support import facts
from tests.support.waiting import until
from tests.unit.workers.in_memory import APPLIED, SHOP, MemoryWorker, paid
from workers.errors import InfrastructureDown
from workers.learnt_accounts import LearntAccounts
from workers.settlement import parking
from workers.settlement.plan import HeldRow, LoadRequest, StoreSnapshot, WritePlan

NOW_MS = 1_743_480_000_000
UNKNOWN = (Disposition.PARKED, Reason.UNKNOWN_ACCOUNT)


@pytest.fixture
def accounts() -> dict[str, Account]:
    return {name: account for name, account in facts.ACCOUNTS.items() if name != SHOP.name}


@pytest.fixture
def worker(accounts: dict[str, Account]) -> MemoryWorker:
    return MemoryWorker(accounts=accounts)


@asynccontextmanager
async def learning(accounts: dict[str, Account], worker: MemoryWorker) -> AsyncIterator[LearntAccounts]:
    learnt = LearntAccounts(accounts, worker.store, retry_s=0.001)
    task = asyncio.create_task(learnt.run())
    yield learnt
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def due(worker: MemoryWorker, now_ms: int = NOW_MS) -> list[HeldRow]:
    return worker.store.due_now(now_ms=now_ms)


async def test_record_of_an_unknown_account_is_applied_once_the_account_is_added(
    accounts: dict[str, Account], worker: MemoryWorker
) -> None:
    await worker.process(*(paid(order) for order in "ABC"))
    assert worker.outcomes() == [UNKNOWN] * 3
    async with learning(accounts, worker) as learnt:
        accounts[SHOP.name] = SHOP
        learnt.learn([SHOP.name])
        await until(lambda: len(due(worker)) == 3)
    await worker.processing.retry(due(worker))
    assert worker.outcomes() == [APPLIED] * 3


async def test_removed_account_parks_what_the_log_and_the_held_rows_have_of_it(
    accounts: dict[str, Account], worker: MemoryWorker
) -> None:
    accounts["mapi-registered"] = registered = facts.account("mapi", "registered")
    waiting = facts.record(facts.body(facts.form("w", "TRADE_SUCCESS", order="W")), registered, number="W")
    await worker.process(waiting)
    row = worker.held()
    assert row.reason is Reason.UNKNOWN_ORDER
    del accounts["mapi-registered"]
    await worker.process(waiting)
    await worker.processing.retry([row])
    assert worker.outcomes() == [UNKNOWN] * 2
    async with learning(accounts, worker) as learnt:
        accounts["mapi-registered"] = registered
        learnt.learn(["mapi-registered"])
        await until(lambda: len(due(worker)) == 2)
    await worker.processing.retry(due(worker))
    assert worker.outcomes() == [(Disposition.PARKED, Reason.UNKNOWN_ORDER), (Disposition.DUPLICATE, Reason.SAME_ID)]


async def test_record_of_an_unknown_account_is_retried_without_limit(worker: MemoryWorker) -> None:
    await worker.process(paid("A"))
    waits = []
    for _ in range(30):
        row = worker.held()
        assert row.due_at_ms is not None
        waits.append(row.due_at_ms - NOW_MS)
        await worker.processing.retry([row])
    assert waits[:3] == [30_000, 300_000, 3_600_000]
    assert set(waits[3:]) == {3_600_000}
    assert worker.outcomes() == [UNKNOWN]
    assert len(worker.store.outbox) == 1, "one notice"


async def test_records_of_unknown_accounts_never_stop_the_worker(accounts: dict[str, Account]) -> None:
    worker = MemoryWorker(accounts=accounts, dead_letters_max=3)
    await worker.process(*(paid(str(number)) for number in range(30)))
    assert worker.outcomes() == [UNKNOWN] * 30


async def test_account_learnt_between_reading_and_deciding_makes_its_rows_due(
    accounts: dict[str, Account], worker: MemoryWorker
) -> None:
    """Its wake found no row, or the retry's write came after it."""
    settle = worker.store.settle

    async def settle_late(needs: LoadRequest, decide: Callable[[StoreSnapshot], WritePlan]) -> WritePlan:
        accounts[SHOP.name] = SHOP
        return await settle(needs, decide)

    worker.store.settle = settle_late  # type: ignore[method-assign]
    await worker.process(paid("A"))
    assert worker.outcomes() == [UNKNOWN]
    assert len(due(worker)) == 1
    await worker.processing.retry(due(worker))
    assert worker.outcomes() == [APPLIED]


async def test_account_removed_between_reading_and_deciding_decides_as_it_was_read(
    accounts: dict[str, Account], worker: MemoryWorker
) -> None:
    accounts[SHOP.name] = SHOP
    settle = worker.store.settle

    async def settle_late(needs: LoadRequest, decide: Callable[[StoreSnapshot], WritePlan]) -> WritePlan:
        accounts.clear()
        return await settle(needs, decide)

    worker.store.settle = settle_late  # type: ignore[method-assign]
    await worker.process(paid("A"))
    assert worker.outcomes() == [APPLIED]


async def test_account_of_another_family_does_not_wake_the_rows(
    accounts: dict[str, Account], worker: MemoryWorker
) -> None:
    accounts[SHOP.name] = facts.account("openapi")
    await worker.process(paid("A"))
    assert worker.outcomes() == [UNKNOWN]
    async with learning(accounts, worker) as learnt:
        learnt.learn([SHOP.name])
        await until(lambda: not learnt._names)
    assert due(worker) == []
    assert worker.held().waits_for == parking.account_key("mapi")


async def test_store_that_does_not_answer_is_asked_again(accounts: dict[str, Account], worker: MemoryWorker) -> None:
    await worker.process(paid("A"))
    accounts[SHOP.name] = SHOP
    worker.store.trouble = [InfrastructureDown("away"), InfrastructureDown("away")]
    async with learning(accounts, worker) as learnt:
        learnt.learn([SHOP.name])
        await until(lambda: len(due(worker)) == 1)


async def test_task_that_failed_wakes_the_rows_when_it_is_started_again(
    accounts: dict[str, Account], worker: MemoryWorker
) -> None:
    await worker.process(paid("A"))
    accounts[SHOP.name] = SHOP
    worker.store.trouble = [RuntimeError("a bug")]
    learnt = LearntAccounts(accounts, worker.store)
    learnt.learn([SHOP.name])
    with pytest.raises(RuntimeError):
        await learnt.run()
    task = asyncio.create_task(learnt.run())
    await until(lambda: len(due(worker)) == 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
