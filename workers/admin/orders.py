"""Orders, for the merchant's programs: what is known of one, the wait for news of it, and what the merchant expects.

The page that a buyer returns to asks here, again and again, with `?wait=20s&version=N`: the answer comes when there is
something newer, or when the time is over. A Return tells what the buyer's browser says; this tells what Alipay said.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from schemas import money
from schemas.accounts import Account
from schemas.money import Money
from schemas.orders import Order
from workers.admin import responses, shapes
from workers.admin.responses import ApiError
from workers.admin.shapes import RefusedRequest
from workers.errors import RefundTaken, VersionConflict
from workers.long_poll import OrderChanges
from workers.queries import OrderPage, OrdersPort
from workers.settlement import decision
from workers.settlement.plan import Registration, WritePlan

NUMBER_CHARACTERS_MAX = 64  # Alipay's own limit for out_trade_no
REFUNDS_MAX = 100
MINOR_MAX = 10**12
FENCED_MAX = 3  # so often a batch in between may have changed the order before the asker is told to ask again


class Refusals(Protocol):
    """The requests that the receiver turned away lately, where it runs in this process."""

    def of_order(self, account: str, order: str) -> Sequence[RefusedRequest]: ...


class Expectation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the merchant says of an order: its amount in one of two spellings, and refunds that it asked for.

    `by` is who says so; it goes into the audit row.
    """

    amount: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    refunds: tuple[str, ...] = ()
    by: str = ""


class OrdersPart:
    """The API's part about orders."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrdersPort,
        changes: OrderChanges,
        refusals: Refusals,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._changes = changes
        self._refusals = refusals
        self._wake = wake
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/orders", self.recent),
            web.get("/api/find", self.find),
            web.get("/api/orders/{account}/{order:[^/]+}", self.show),
            web.put("/api/orders/{account}/{order:[^/]+}", self.register),
        ]

    async def recent(self, request: web.Request) -> web.Response:
        """The orders that changed last."""
        limit = responses.whole_number(request, "limit", default=50, most=responses.LIMIT_MAX)
        return responses.json({"orders": [shapes.summary(page) for page in await self._orders.recent(limit)]})

    async def find(self, request: web.Request) -> web.Response:
        """Which orders have this number, be it the order's, the trade's or a notification's."""
        number = request.query.get("number", "").strip()
        if not number:
            raise responses.bad_request("number is what to look for: an order, trade or notification number")
        found = await self._orders.find(number)
        return responses.json({"matches": [{"account": account, "order": order} for account, order in found]})

    async def show(self, request: web.Request) -> web.Response:
        """The order with its timeline; with `wait`, as soon as it is newer than `version`."""
        account, number = self._named(request)
        wait_s = responses.wait_s(request)
        version = responses.whole_number(request, "version", default=0)
        page = await (self._newer(account, number, version, wait_s) if wait_s else self._page(account, number))
        if page is None:
            raise ApiError(404, "unknown_order", f"nothing is known of order {number} of account {account}")
        return responses.json(shapes.order(page, self._refusals.of_order(account, number)))

    async def register(self, request: web.Request) -> web.Response:
        """Remember what the merchant expects of an order; what waited for it goes on at once."""
        account, number = self._named(request)
        _check_number(number, "the order number")
        said = await responses.body(request, Expectation)
        registration = expected(said, self._accounts[account])
        created = False

        def decide(order: Order | None) -> WritePlan:
            nonlocal created
            created = order is None
            return decision.register(order, account, number, registration, now_ms=self._now_ms())

        await self._registered(account, number, registration, decide, by=responses.by(request, said.by))
        self._changes.changed(account, number)
        self._wake()
        page = await self._page(account, number)
        if page is None:
            raise ApiError(503, "unavailable", "the order was written and cannot be read; ask again")
        return responses.json(shapes.order(page), status=201 if created else 200)

    async def _registered(
        self,
        account: str,
        number: str,
        registration: Registration,
        decide: Callable[[Order | None], WritePlan],
        *,
        by: str,
    ) -> None:
        why = _words(registration)
        for left in reversed(range(FENCED_MAX)):
            try:
                await self._orders.register(account, number, registration.refunds, decide, by=by, why=why)
            except RefundTaken as taken:
                raise ApiError(409, "conflict", str(taken)) from None
            except VersionConflict:
                if not left:
                    raise
            else:
                return

    async def _page(self, account: str, number: str) -> OrderPage | None:
        """The page; an order of which only refusals are known has one too, for whoever asks why it is not paid."""
        page = await self._orders.order_page(account, number)
        if page is None and self._refusals.of_order(account, number):
            return OrderPage(account=account, number=number, order=None, view=None, deliveries=(), events=())
        return page

    async def _newer(self, account: str, number: str, version: int, wait_s: float) -> OrderPage | None:
        """The page once its version is above `version`, or as it is when the time is over."""
        deadline = time.monotonic() + wait_s
        with self._changes.watch(account, number) as waiter:
            while True:
                page = await self._page(account, number)
                if page is not None and page.order is not None and page.order.version > version:
                    return page
                if self._changes.is_closed or not await waiter.wait(deadline - time.monotonic()):
                    return page

    def _named(self, request: web.Request) -> tuple[str, str]:
        account = request.match_info["account"]
        if account not in self._accounts:
            raise ApiError(404, "unknown_account", f"no account {account} is configured")
        return account, request.match_info["order"]


def expected(said: Expectation, account: Account) -> Registration:
    """What the merchant's words come to.

    Raises:
        ApiError: an amount in two spellings or none, or not in its exact form; a number that cannot be one.
    """
    for refund in said.refunds:
        _check_number(refund, "a refund number")
    if len(said.refunds) > REFUNDS_MAX:
        raise responses.bad_request(f"at most {REFUNDS_MAX} refunds at a time")
    if said.amount is None and said.amount_minor is None:
        if not said.refunds or said.currency is not None:
            raise responses.bad_request('say the amount: {"amount": "12.80", "currency": "USD"}, or amount_minor: 1280')
        return Registration(expected=None, refunds=said.refunds)
    if said.amount is not None and said.amount_minor is not None:
        raise responses.bad_request("say either amount or amount_minor, not both")
    return Registration(expected=_money(said, said.currency or account.currency), refunds=said.refunds)


def _words(registration: Registration) -> str:
    """What was registered, for the audit row."""
    expected = registration.expected
    amount = [] if expected is None else [f"{money.major(expected.minor, expected.currency)} {expected.currency}"]
    return ", ".join([*amount, *(f"refund {refund}" for refund in registration.refunds)])


def _money(said: Expectation, currency: str) -> Money:
    if currency not in money.DECIMALS:
        raise responses.bad_request(f"currency is one of {', '.join(money.DECIMALS)}")
    if said.amount is not None:
        try:
            amount = money.parse_major(said.amount, currency)
        except money.BadMoney as error:
            raise responses.bad_request(f"amount: {error}") from None
    else:
        amount = Money(said.amount_minor or 0, currency)
    if not 0 < amount.minor <= MINOR_MAX:
        raise responses.bad_request("the amount must be above zero, and at most twelve digits of the smallest unit")
    return amount


def _check_number(number: str, what: str) -> None:
    if not 0 < len(number) <= NUMBER_CHARACTERS_MAX or not number.isprintable():
        raise responses.bad_request(f"{what} has 1 to {NUMBER_CHARACTERS_MAX} printable characters")
