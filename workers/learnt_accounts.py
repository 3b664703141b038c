"""Retry at once what was parked because its account was unknown, as soon as the account is learnt.

An account is learnt when the process starts with it or reloads it. Several workers learn it at different moments. If
the one that sweeps retries too early, it parks the rows again, and wakes them when it has learnt the account itself.
"""

import asyncio
from collections.abc import Iterable, Mapping

from schemas.accounts import Account
from workers.errors import InfrastructureDown
from workers.processing import Store
from workers.settlement import decision, drafting, parking
from workers.settlement.plan import StoreSnapshot, WritePlan

RETRY_S = 1.0  # while the store does not answer


class LearntAccounts:
    """Wakes the parked rows of learnt accounts. `run` is a background task beside the worker's loops."""

    def __init__(self, accounts: Mapping[str, Account], store: Store, *, retry_s: float = RETRY_S) -> None:
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
        while True:
            await self._is_any.wait()
            self._is_any.clear()
            await self._wake(frozenset(self._names))

    async def _wake(self, names: frozenset[str]) -> None:
        plan = drafting.empty()
        for name in names:
            account = self._accounts.get(name)
            if account is not None:
                plan.wakes.add((name, parking.account_key(account.family)))

        def decide(_: StoreSnapshot) -> WritePlan:
            return plan

        try:
            if plan.wakes:
                await self._store.settle(decision.load_request([]), decide)
        except InfrastructureDown:
            self._is_any.set()
            await asyncio.sleep(self._retry_s)
        else:
            self._names -= names
