"""An account becomes a service provider's: what was held before is filed, accepted and replayed for its merchants."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

import pytest
from msgspec import structs

from schemas.accounts import Account, Orders
from schemas.dispositions import Disposition, Flag, Reason
from schemas.orders import Status
from schemas.record_format import Record
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import dispositions, register
from tests.support import log_records
from tests.support.log_records import PROVIDER, Operator, Time
from workers.learnt_accounts import LearntAccounts
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.replays import NewTask
from workers.settlement.plan import HeldRow

APP, ONE, OTHER = "2021000000000001", "2021000000000008", "2021000000000009"
ALONE = structs.replace(PROVIDER, auth_app_ids=(), orders=Orders.REGISTERED, currency="USD")
SERVING = structs.replace(ALONE, auth_app_ids=(ONE, OTHER))
SCOPE = f"{ALONE.name}/{ONE}"


class Shop:
    """A worker and an operator whose account changes."""

    def __init__(self, store: AnyStore, time: Time) -> None:
        self.accounts: dict[str, Account] = {ALONE.name: ALONE}
        self.store, self.time = store, time
        self.work: Processing = log_records.processing(store, time, accounts=self.accounts)
        self.operator = Operator(store, time, accounts=self.accounts)
        self._offset = 0

    async def receive(self, *records: Record) -> None:
        batch = log_records.logged(records, first=self._offset + 1)
        self._offset += len(batch)
        await self.work.process(batch)

    async def become(self, account: Account) -> Sequence[HeldRow]:
        """Reload the account; return the rows that come due for that."""
        self.accounts[account.name] = account
        learnt = LearntAccounts(self.accounts, self.store)
        learning = asyncio.create_task(learnt.run())
        learnt.learn([account.name])
        async with asyncio.timeout(20):
            while learnt._names:
                await asyncio.sleep(0.01)
        learning.cancel()
        return await self.store.due(now_ms=self.time.now_ms, limit=100)

    async def shown(self, order: str, scope: str = ALONE.name) -> tuple[object, ...] | None:
        page = await self.store.order_page(scope, order)
        return None if page is None or page.view is None else (page.view.status, page.view.flags)


@pytest.fixture
def shop(store: AnyStore, time: Time) -> Shop:
    return Shop(store, time)


def paid(order: str, merchant: str = ONE, amount: str = "12.80", **more: str) -> Record:
    fields = log_records.payment(order, amount=amount, **more)
    fields |= {"app_id": APP, "auth_app_id": merchant, "total_amount": amount}
    del fields["seller_id"], fields["total_fee"]
    return log_records.sealed(urlencode(fields).encode(), order, account=ALONE)


async def test_rows_parked_before_are_filed_anew_at_the_reload(shop: Shop) -> None:
    await shop.receive(paid("N1"), paid("N2", OTHER))
    assert {page.row.account for page in await shop.store.held_list(HeldQuery())} == {ALONE.name}
    due = await shop.become(SERVING)
    assert len(due) == 2
    await shop.work.retry(due)
    filed = {page.row.order: page.row for page in await shop.store.held_list(HeldQuery())}
    assert {order: row.account for order, row in filed.items()} == {"N1": SCOPE, "N2": f"{ALONE.name}/{OTHER}"}
    assert {row.reason for row in filed.values()} == {Reason.UNKNOWN_ORDER}
    await register(shop.store, "N1", account=SCOPE)
    due = await shop.store.due(now_ms=shop.time.now_ms, limit=100)
    assert [row.order for row in due] == ["N1"], "its registration wakes it"
    await shop.work.retry(due)
    assert await dispositions(shop.store, "N1", SCOPE) == ["applied"]


async def test_rows_of_the_first_merchant_stay_and_the_way_back_files_them_anew(shop: Shop) -> None:
    await shop.receive(paid("N1"))
    await shop.work.retry(await shop.become(structs.replace(SERVING, first_auth_app_id=ONE)))
    (page,) = await shop.store.held_list(HeldQuery())
    assert page.row.account == ALONE.name
    await shop.work.retry(await shop.become(SERVING))
    (page,) = await shop.store.held_list(HeldQuery())
    assert page.row.account == SCOPE
    due = await shop.become(structs.replace(ALONE, auth_app_id=ONE))
    await shop.work.retry(due)
    (page,) = await shop.store.held_list(HeldQuery())
    assert page.row.account == ALONE.name


async def test_reload_of_an_account_without_parked_rows_wakes_nothing(shop: Shop) -> None:
    assert await shop.become(SERVING) == []
    assert await shop.become(ALONE) == []


async def test_row_held_before_is_accepted_for_the_order_that_it_flagged(shop: Shop) -> None:
    await register(shop.store, "N1", minor=9900, account=ALONE.name)
    await shop.receive(paid("N1"))
    assert await shop.shown("N1") == (Status.WAITING, (Flag.AMOUNT_MISMATCH,))
    await shop.become(SERVING)
    await shop.operator.accept("0-1")
    assert await shop.shown("N1") == (Status.PAID, ())
    assert await shop.shown("N1", SCOPE) is None
    assert (await shop.operator.page("0-1")).resolution == "accepted"


async def test_row_held_before_without_an_order_is_accepted_for_its_merchant(shop: Shop) -> None:
    shop.accounts[ALONE.name] = structs.replace(ALONE, orders=Orders.ANY)
    await shop.receive(paid("N1", trans_currency="EUR"))
    (page,) = await shop.store.held_list(HeldQuery())
    assert page.row.reason is Reason.CURRENCY_MISMATCH
    await shop.become(structs.replace(SERVING, orders=Orders.ANY))
    await shop.operator.accept("0-1")
    assert await shop.shown("N1", SCOPE) == (Status.PAID, ())


async def test_row_held_before_is_discarded_from_its_own_order_only(shop: Shop) -> None:
    """The merchant has an order of the same number, trade and amount by now, which the decision is not about."""
    await register(shop.store, "N1", minor=9900, account=ALONE.name)
    await shop.receive(paid("N1"))
    await shop.become(SERVING)
    await register(shop.store, "N1", account=SCOPE)
    await shop.receive(paid("N1", id_="later"))
    assert await shop.shown("N1", SCOPE) == (Status.PAID, ())
    await shop.operator.discard("0-1")
    assert await shop.shown("N1") == (Status.WAITING, ())
    assert await shop.shown("N1", SCOPE) == (Status.PAID, ())


async def test_row_held_before_is_replayed_for_its_merchant(shop: Shop) -> None:
    await register(shop.store, "N1", minor=9900, account=ALONE.name)
    await shop.receive(paid("N1"))
    await shop.become(SERVING)
    await register(shop.store, "N1", account=SCOPE)
    (page,) = await shop.store.held_list(HeldQuery())
    assert page.row.disposition is Disposition.QUARANTINED
    await shop.work.retry([page.row])
    assert await shop.shown("N1", SCOPE) == (Status.PAID, ())
    assert (await shop.operator.page("0-1")).resolution == "applied"


async def test_replay_of_one_merchant_leaves_the_others(shop: Shop) -> None:
    shop.accounts[ALONE.name] = structs.replace(SERVING, first_auth_app_id=OTHER)
    await shop.receive(paid("N1"), paid("N1", OTHER))
    for scope, ids in ((SCOPE, ["0-1"]), (ALONE.name, ["0-2"])):
        query = HeldQuery(account=ALONE.name, scope=scope, order="N1", before_ms=shop.time.now_ms + 1)
        new = NewTask(query=query, rate=10, by="ana", why="a test")
        task = await shop.store.start_replay(new, now_ms=shop.time.now_ms)
        assert (task.total, task.query.scope, task.query.account) == (1, scope, ALONE.name)
        stored = await shop.store.replay(task.number)
        assert stored is not None
        assert [page.row.id for page in await shop.store.held_list(stored.query)] == ids
