"""Money at risk as a metric: payments that are acknowledged and verified, and not applied, because they are held.

The rule is that of the console's first number (`held_amounts`): each payment counts once, and of more than `SUMMED_MAX`
held rows only the oldest are read. What is still in the log is not read here; the consumer lag tells it.

One process at a time exports the amounts, so that a sum over processes counts each once: the worker that leads. Another
one, or the former leader, has no series. If the sums cannot be read, they stay as they are, and are not complete.
"""

import asyncio
import time
from collections.abc import Callable, Container

from prometheus_client import CollectorRegistry

from schemas import telemetry
from schemas.currencies import EXPONENTS
from schemas.times import DAY_MS, HOUR_MS
from workers import metrics
from workers.admin.held_amounts import HeldAmounts, HeldTrades
from workers.admin.reported import AmountOf
from workers.errors import InfrastructureDown
from workers.metrics import GAUGES_INTERVAL_S, OTHER, REST_PER_REFRESH
from workers.queries import HeldQuery


def age_class(age_ms: int) -> str:
    """Return the metrics label of how long a payment has been held: `1h` and `24h` are below these, else `older`."""
    if age_ms < HOUR_MS:
        return "1h"
    return "24h" if age_ms < DAY_MS else "older"


class MoneyAtRisk:
    """Keeps the gauges of one process. `leads` returns whether it is this process that exports them."""

    def __init__(
        self,
        *,
        amounts: HeldAmounts,
        accounts: Container[str],
        registry: CollectorRegistry,
        now_ms: Callable[[], int],
        leads: Callable[[], bool],
    ) -> None:
        self._amounts = amounts
        self._accounts = accounts
        self._now_ms = now_ms
        self._leads = leads
        self._minor = metrics.by_account(telemetry.MONEY_AT_RISK, registry)
        self._is_complete = metrics.gauge(telemetry.MONEY_AT_RISK_COMPLETE, registry)
        self._shown: set[tuple[str, str, str]] = set()
        self._is_complete.set(1)

    async def run(self, *, interval_s: float = GAUGES_INTERVAL_S) -> None:
        """Refresh every `interval_s` until cancelled, or less often if it takes long."""
        while True:
            begun = time.monotonic()
            await self.refresh()
            await asyncio.sleep(max(interval_s, (time.monotonic() - begun) * REST_PER_REFRESH))

    async def refresh(self) -> None:
        """Read the sums and show them, if this process leads."""
        if not self._leads():
            self._show({}, is_complete=True)
            return
        try:
            found = await self._amounts.trades(HeldQuery())
        except InfrastructureDown:
            self._is_complete.set(0)
            return
        self._show(self._by_label(found), is_complete=found.is_whole)

    def _by_label(self, found: HeldTrades) -> dict[tuple[str, str, str], int]:
        now_ms = self._now_ms()
        sums: dict[tuple[str, str, str], int] = {}
        for trade in found.trades:
            if trade.of is not AmountOf.PAID:
                continue
            currency = trade.currency if trade.currency in EXPONENTS else OTHER
            account = metrics.account_label(trade.scope, self._accounts)
            labels = (account, currency, age_class(now_ms - trade.first_at_ms))
            sums[labels] = sums.get(labels, 0) + trade.minor
        return sums

    def _show(self, sums: dict[tuple[str, str, str], int], *, is_complete: bool) -> None:
        """Show these sums and no others: a payment that is applied, or older now, leaves no series behind."""
        for labels in self._shown - sums.keys():
            self._minor.remove(*labels)
        for labels, minor in sums.items():
            self._minor.of(*labels).set(minor)
        self._shown = set(sums)
        self._is_complete.set(int(is_complete))
