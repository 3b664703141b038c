"""Compare a bill with the order store, over the admin API: batch by batch, in both directions.

First each trade of the bill is looked up by its numbers. Then the orders that changed since the period began are gone
through, and those that were paid or refunded in the period must be in the bill. Orders go on changing meanwhile, so
that the walk is repeated for those that changed during it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import structs

from deploy.bills import judgement
from deploy.bills.judgement import BillPeriod, ListedFacts, OrderFacts
from deploy.bills.sheet import BilledTrade, Sheet
from schemas import times
from workers.bills import DIFFERENCES_MAX, BillDifference, BillSum, DifferenceKind, OrderHistory

T = TypeVar("T")

TRADES_AT_ONCE = 200
BATCH_CHARACTERS_MAX = 8000  # of the numbers in a question, which may become six times as many bytes in JSON
HISTORIES_AT_ONCE = 50
LISTED_AT_ONCE = 200
WALKS_MAX = 5
OVERLAP_MS = 10_000  # of two walks: a change is seen at its commit, some time after the moment that it has


class BillApi(Protocol):
    """The part of `deploy.cli.admin.AdminClient` that is used here."""

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]: ...

    def send(self, method: str, *path: str, body: Mapping[str, object]) -> dict[str, Any]: ...


class Comparison:
    """One comparison, and what it has found: the first differences, and the counts and sums of all."""

    def __init__(
        self,
        api: BillApi,
        account: str,
        sheet: Sheet,
        *,
        sharing: Sequence[str] = (),
        merchant: tuple[str, str] | None = None,
    ) -> None:
        """`sharing` are other accounts of the seller, whose trades are in the same bill.

        `merchant` is the number and the scope of the only merchant whose orders are compared.
        """
        self._api = api
        self._account = account
        self._sheet = sheet
        self._sharing = sharing
        self._auth_app_id = None if merchant is None else merchant[0]
        self._scope = account if merchant is None else merchant[1]
        self.counts: Counter[str] = Counter()
        self.elsewhere: Counter[str] = Counter()  # rows of trades that another of these accounts has
        self._certain: list[BillDifference] = []
        self._uncertain: list[BillDifference] = []
        self._here: dict[tuple[str, str], tuple[int, int]] = {}

    @property
    def differences(self) -> list[BillDifference]:
        """The first `DIFFERENCES_MAX`, those that are uncertain at the end."""
        return (self._certain + self._uncertain)[:DIFFERENCES_MAX]

    def of_bill(self, advance: Callable[[int], None], span: BillPeriod | None = None) -> None:
        """Look up each trade of the bill. `advance` is called with the number of trades that are done.

        `span` is the period of the bill, if it has one. Then refunds that are older than it are none of the bill's.
        """
        for batch in _batches(self._sheet.trades()):
            found = self._orders(self._account, batch)
            elsewhere = self._elsewhere([each for each in batch if not _has_trade(found(each), each)])
            unsure: list[tuple[BilledTrade, OrderFacts]] = []
            for trade in batch:
                if trade.trade in elsewhere:
                    self.elsewhere[elsewhere[trade.trade]] += trade.payments + trade.refunds
                    continue
                refunds = self._sheet.refunds(trade) if trade.refunds else ()
                order = found(trade)
                judged = judgement.of_trade(self._scope, trade, refunds, order)
                self._add(trade, judged)
                if order is not None and judged.may_lack_a_refund:
                    unsure.append((trade, order))
            if span is not None:
                self._check_refunds(unsure, span)
            advance(len(batch))

    def of_store(self, span: BillPeriod, advance: Callable[[int], None]) -> None:
        """Look for payments and refunds of the period that the bill does not have."""
        newest_ms = span.since_ms
        for _ in range(WALKS_MAX):
            before_ms = newest_ms
            for listed in self._listed(max(span.since_ms, newest_ms - OVERLAP_MS)):
                newest_ms = max(newest_ms, times.iso_to_epoch_ms(listed[0].changed_at))
                missing = [each for each in listed if self._is_missing(each, span)]
                fresh = [each for each in missing if self._sheet.is_new(each.scope, each.order)]
                for some in _some(fresh, HISTORIES_AT_ONCE):
                    self._judge(some, span)
                advance(len(listed))
            if newest_ms == before_ms:
                break

    def of_neighbours(self, payments: Iterable[BillDifference]) -> None:
        """Note those of these payments near the edge, missing in a neighbouring bill, that this one does not have."""
        for each in payments:
            if not self._sheet.has_payment(each.order, each.trade):
                missing = DifferenceKind.PAYMENT_ONLY_HERE
                self._note(structs.replace(each, kind=missing, detail=judgement.IN_NEITHER))

    def sums(self) -> tuple[BillSum, ...]:
        """Return the sums of the bill by currency, with those of the same rows here."""
        found = []
        for kind, currency, count, minor in self._sheet.sums():
            here_count, here_minor = self._here.get((kind, currency), (0, 0))
            found.append(
                BillSum(
                    kind=kind,
                    currency=currency,
                    bill_count=count,
                    bill_minor=minor,
                    here_count=here_count,
                    here_minor=here_minor,
                )
            )
        return tuple(found)

    def _elsewhere(self, unknown: Sequence[BilledTrade]) -> dict[str, str]:
        """Return the accounts that share the seller and have trades that are unknown here, by the trade."""
        accounts: dict[str, str] = {}
        for account in self._sharing if unknown else ():
            found = self._orders(account, unknown)
            for each in unknown:
                if _has_trade(found(each), each):
                    accounts.setdefault(each.trade, account)
        return accounts

    def _orders(self, account: str, batch: Sequence[BilledTrade]) -> Callable[[BilledTrade], OrderFacts | None]:
        """Ask for the orders of these trades. An order with the trade is preferred to one with the number."""
        body = {
            "account": account,
            "orders": [each.order for each in batch if each.order],
            "trades": [each.trade for each in batch if each.trade],
        }
        answer = self._api.send("POST", "bills", "orders", body=body)
        orders = msgspec.convert(answer["orders"], list[OrderFacts])
        if self._auth_app_id is not None and account == self._account:
            orders = [each for each in orders if each.scope == self._scope]
        by_number = {each.order: each for each in orders}
        by_trade = {payment.trade: each for each in orders for payment in each.payments}

        def found(trade: BilledTrade) -> OrderFacts | None:
            return by_trade.get(trade.trade) if trade.trade in by_trade else by_number.get(trade.order)

        return found

    def _add(self, trade: BilledTrade, judged: judgement.Judgement) -> None:
        for difference in judged.differences:
            self._note(difference)
        for kind, rows, money in (("payment", trade.payments, judged.paid), ("refund", trade.refunds, judged.refunded)):
            if money is not None and money.minor:
                count, minor = self._here.get((kind, money.currency), (0, 0))
                self._here[kind, money.currency] = (count + rows, minor + money.minor)

    def _check_refunds(self, unsure: Sequence[tuple[BilledTrade, OrderFacts]], span: BillPeriod) -> None:
        for some in _some(unsure, HISTORIES_AT_ONCE):
            histories = self._histories([order for _, order in some])
            for trade, order in some:
                history = histories.get(_key(order))
                difference = None if history is None else judgement.of_earlier_refunds(trade, order, history, span)
                if difference is not None:
                    count, minor = self._here["refund", trade.currency]
                    missing_minor = trade.refunded_minor - (difference.here_minor or 0)
                    self._here["refund", trade.currency] = (count, minor - missing_minor)
                    self._note(difference)

    def _note(self, difference: BillDifference | None) -> None:
        if difference is None:
            return
        self.counts[difference.kind.value] += 1
        kept = self._uncertain if difference.kind is DifferenceKind.UNCERTAIN else self._certain
        if len(kept) < DIFFERENCES_MAX:
            kept.append(difference)

    def _listed(self, since_ms: int) -> Iterator[list[ListedFacts]]:
        """Yield the orders that changed since then, page by page, the last changed first."""
        cursor = None
        since = times.from_epoch_ms(since_ms).isoformat()
        while True:
            query = {"auth_app_id": self._auth_app_id, "since": since, "limit": LISTED_AT_ONCE, "cursor": cursor}
            answer = self._api.get("orders", account=self._account, **query)
            if listed := msgspec.convert(answer["orders"], list[ListedFacts]):
                yield listed
            cursor = answer["next"]
            if cursor is None:
                return

    def _is_missing(self, listed: ListedFacts, span: BillPeriod) -> bool:
        """Return whether a payment or a refund of the order may be missing in the bill."""
        if not listed.was_paid:
            return False
        trade = listed.trade or ""
        if span.may_have(trade) and not self._sheet.has_payment(listed.order, trade):
            return True
        return listed.refunded_minor > self._sheet.refunded_minor(listed.order, trade)

    def _judge(self, some: Sequence[ListedFacts], span: BillPeriod) -> None:
        histories = self._histories(some)
        for listed in some:
            history = histories.get(_key(listed))
            if history is None:
                continue
            trade = listed.trade or ""
            if not self._sheet.has_payment(listed.order, trade):
                self._note(judgement.of_payment_here(listed, history, span))
            billed_minor = self._sheet.refunded_minor(listed.order, trade)
            if listed.refunded_minor > billed_minor:
                self._note(judgement.of_refunds_here(listed, history, span, billed_minor))

    def _histories(self, some: Sequence[ListedFacts | OrderFacts]) -> dict[tuple[str, str], OrderHistory]:
        """Return when these orders were paid and refunded, by the order's key."""
        named = [
            {"order": each.order} | ({"auth_app_id": each.auth_app_id} if each.auth_app_id else {}) for each in some
        ]
        body = {"account": self._account, "orders": named}
        answer = self._api.send("POST", "bills", "histories", body=body)
        return {
            (each["order"], each.get("auth_app_id", "")): msgspec.convert(each["history"], OrderHistory)
            for each in answer["histories"]
        }


def _key(order: ListedFacts | OrderFacts) -> tuple[str, str]:
    return order.order, order.auth_app_id or ""


def _has_trade(order: OrderFacts | None, trade: BilledTrade) -> bool:
    return order is not None and bool(trade.trade) and any(each.trade == trade.trade for each in order.payments)


def _batches(trades: Iterable[BilledTrade]) -> Iterator[list[BilledTrade]]:
    batch: list[BilledTrade] = []
    size = 0
    for trade in trades:
        batch.append(trade)
        size += len(trade.order) + len(trade.trade)
        if len(batch) == TRADES_AT_ONCE or size > BATCH_CHARACTERS_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _some(items: Iterable[T], count: int) -> Iterator[list[T]]:
    items = iter(items)
    while some := list(islice(items, count)):
        yield some
