"""Retry at once what was parked because its account was unknown, as soon as the account is learnt.

An account is learnt when the process starts with it or reloads it. Several workers learn it at different moments. If
the one that sweeps retries too early, it parks the rows again, and wakes them when it has learnt the account itself.

If the merchants of an account have changed, notifications that are parked may belong to another scope now
(`schemas.scopes.former`). Orders that are registered there wake them no more, so they are retried once and filed anew.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import structs

from schemas import scopes
from schemas.accounts import Account
from schemas.dispositions import Disposition
from workers.errors import InfrastructureDown
from workers.processing import Store
from workers.queries import HeldGroup, HeldPage, HeldPlace, HeldQuery
from workers.settlement import drafting, loading, parking

RETRY_S = 1.0  # while the store does not answer
ROWS_MAX = 1000  # of one page of parked rows


class ParkedStore(Store, Protocol):
    """The order store, with its lists of held rows."""

    async def held_list(self, query: HeldQuery) -> Sequence[HeldPage]: ...

    async def held_groups(self, query: HeldQuery) -> Sequence[HeldGroup]: ...


class LearntAccounts:
    """Wakes the parked rows of learnt accounts. `run` is a background task beside the worker's loops."""

    def __init__(self, accounts: Mapping[str, Account], store: ParkedStore, *, retry_s: float = RETRY_S) -> None:
        self._accounts = accounts
        self._store = store
        self._retry_s = retry_s
        self._names: set[str] = set()
        self._is_any = asyncio.Event()

    def learn(self, names: Iterable[str]) -> None:
        """Note that these accounts are configured now, or otherwise than before."""
        self._names.update(names)
        self._is_any.set()

    async def run(self) -> None:
        """Wake rows whenever accounts are learnt, until cancelled."""
        if self._names:  # this task failed, and is started again
            self._is_any.set()
        while True:
            await self._is_any.wait()
            self._is_any.clear()
            await self._wake(frozenset(self._names))

    async def _wake(self, names: frozenset[str]) -> None:
        learnt = [account for name in names if (account := self._accounts.get(name)) is not None]
        try:
            await self._settle({(account.name, parking.account_key(account.family)) for account in learnt})
            await self._wake_former_scopes(learnt)
        except InfrastructureDown:
            self._is_any.set()
            await asyncio.sleep(self._retry_s)
        else:
            self._names -= names

    async def _settle(self, wakes: set[tuple[str, str]]) -> None:
        """Wake the rows that wait for these conditions; the store does it slice by slice if they are many."""
        if not wakes:
            return
        plan = drafting.empty()
        plan.wakes.update(wakes)
        await self._store.settle(loading.load_request([]), lambda _: plan)

    async def _wake_former_scopes(self, learnt: Sequence[Account]) -> None:
        """Wake the rows that are parked in scopes that the accounts have had before, page by page."""
        former = {account.name: scopes.former(account) for account in learnt}
        if not any(former.values()):
            return
        parked = HeldQuery(disposition=Disposition.PARKED, limit=ROWS_MAX)
        with_rows = {scopes.account_of(group.account) for group in await self._store.held_groups(parked)}
        for scope in (scope for name, scopes_ in former.items() if name in with_rows for scope in scopes_):
            query, woken = structs.replace(parked, scope=scope), set[str]()
            while pages := await self._store.held_list(query):
                waits = {page.row.waits_for for page in pages if page.row.waits_for} - woken
                await self._settle({(scope, waits_for) for waits_for in waits})
                woken |= waits
                last = pages[-1].row
                place = HeldPlace(first_at_ms=last.first_at_ms, position=last.position)
                query = structs.replace(query, after=place)
