"""The amounts of held notifications, and their sums by currency, read from the signed bytes.

The order store has no column for them. So a sum is that of the oldest `SUMMED_MAX` rows, and says so if there are more.
It is kept for some seconds, since each console that is open asks for it at every change.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping

from msgspec import Struct, structs

from schemas import money
from schemas.accounts import Account
from schemas.dispositions import Reason
from schemas.notification import Notification
from workers.admin import notifications, reported
from workers.admin.reported import AmountOf, ReportedAmount
from workers.queries import HeldPage, HeldPort, HeldQuery
from workers.settlement.plan import Position
from workers.time_limit import TimeLimit, TookTooLong

SUMMED_MAX = 1000
KEPT_S = 5.0
KEPT_AMOUNTS = 10_000
KEPT_SUMS = 50
READ_AT_ONCE = 100  # then the event loop is free for others
UNVERIFIED = frozenset({Reason.MALFORMED, Reason.UNAUTHENTICATED, Reason.BAD_RECORD})  # no money of Alipay


class HeldSum(Struct, frozen=True, kw_only=True):
    """One sum of one currency. `amount` is null if ISO 4217 gives the currency no decimals."""

    of: AmountOf
    currency: str
    amount_minor: int
    amount: str | None
    count: int


class HeldSums(Struct, frozen=True, kw_only=True):
    """The sums, the largest count first: of all that match if `is_whole`, else of the oldest `counted`.

    `first_at_ms` has the moments at which these rows were first held.
    """

    sums: tuple[HeldSum, ...]
    first_at_ms: tuple[int, ...]
    counted: int
    is_whole: bool


class HeldTrade(Struct, frozen=True, kw_only=True):
    """What held notifications report of one payment: the largest amount, and when the first of them was held."""

    of: AmountOf
    scope: str
    currency: str
    minor: int
    first_at_ms: int


class HeldTrades(Struct, frozen=True, kw_only=True):
    """The payments of all that match if `is_whole`, else of the oldest `counted`; and when these rows were held."""

    trades: tuple[HeldTrade, ...]
    first_at_ms: tuple[int, ...]
    counted: int
    is_whole: bool


class HeldAmounts:
    """Reads held notifications with the present accounts. `held` is the order store."""

    def __init__(self, *, accounts: Mapping[str, Account], held: HeldPort, time_limit: TimeLimit) -> None:
        self._accounts = accounts
        self._held = held
        self._time_limit = time_limit
        self._amounts: OrderedDict[Position, ReportedAmount] = OrderedDict()
        self._sums: OrderedDict[HeldQuery, tuple[float, HeldSums]] = OrderedDict()
        self._summing = asyncio.Lock()

    def notification(self, page: HeldPage) -> Notification | None:
        """Return the notification without verifying it again; `None` if it cannot be read now."""
        try:
            found = self._time_limit.run(lambda: notifications.read(page.row.record, self._accounts), "read")
        except TookTooLong:
            return None
        return found if isinstance(found, Notification) else None

    def of(self, page: HeldPage) -> ReportedAmount | None:
        """Return the amount that a held notification reports; `None` if it cannot be read now, or names none."""
        known = self._amounts.get(page.row.position)
        if known is not None:
            return known
        notification = self.notification(page)
        amount = None if notification is None else reported.amount(notification)
        if amount is not None:
            self._amounts[page.row.position] = amount
            if len(self._amounts) > KEPT_AMOUNTS:
                self._amounts.popitem(last=False)
        return amount

    async def sums(self, query: HeldQuery) -> HeldSums:
        """Return the sums of the rows that match, at most some seconds old; a trade counts once."""
        asked = structs.replace(query, after=None, limit=SUMMED_MAX)
        async with self._summing:
            kept = self._sums.get(asked)
            if kept is not None and time.monotonic() - kept[0] < KEPT_S:
                return kept[1]
            found = await self._sum(asked)
            self._sums[asked] = (time.monotonic(), found)
            if len(self._sums) > KEPT_SUMS:
                self._sums.popitem(last=False)
            return found

    async def trades(self, query: HeldQuery) -> HeldTrades:
        """Return the payments in the rows that match, read now.

        Raises:
            InfrastructureDown, ReadTooSlow: as `HeldPort.held_list`.
        """
        pages = await self._held.held_list(structs.replace(query, after=None, limit=SUMMED_MAX + 1))
        found: dict[tuple[AmountOf, str, str], HeldTrade] = {}
        for index, page in enumerate(pages[:SUMMED_MAX]):
            row = page.row
            amount = self.of(page) if row.reason not in UNVERIFIED else None
            if amount is not None:
                key = (amount.of, amount.currency, f"{row.account}:{amount.trade or row.position}")
                # The rows come oldest first.
                known = found.get(key)
                found[key] = HeldTrade(
                    of=amount.of,
                    scope=row.account,
                    currency=amount.currency,
                    minor=max(amount.minor, 0 if known is None else known.minor),
                    first_at_ms=row.first_at_ms if known is None else known.first_at_ms,
                )
            if index % READ_AT_ONCE == READ_AT_ONCE - 1:
                await asyncio.sleep(0)
        return HeldTrades(
            trades=tuple(found.values()),
            first_at_ms=tuple(page.row.first_at_ms for page in pages[:SUMMED_MAX]),
            counted=min(len(pages), SUMMED_MAX),
            is_whole=len(pages) <= SUMMED_MAX,
        )

    async def _sum(self, query: HeldQuery) -> HeldSums:
        found = await self.trades(query)
        minors: dict[tuple[AmountOf, str], list[int]] = {}
        for trade in found.trades:
            minors.setdefault((trade.of, trade.currency), []).append(trade.minor)
        sums = [
            HeldSum(
                of=of,
                currency=currency,
                amount_minor=sum(each),
                amount=money.text(sum(each), currency),
                count=len(each),
            )
            for (of, currency), each in minors.items()
        ]
        return HeldSums(
            sums=tuple(sorted(sums, key=lambda each: (-each.count, each.currency, each.of))),
            first_at_ms=found.first_at_ms,
            counted=found.counted,
            is_whole=found.is_whole,
        )
