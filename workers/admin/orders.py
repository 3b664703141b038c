"""Orders over HTTP, for merchants' programs: show one, wait for a change, and register the expected amounts.

The page that a buyer returns to polls here with `?wait=20s&version=N`: the answer comes when the order has a newer
version, or when the time is over. A Return has the claims of the buyer's browser; this answer has Alipay's.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from aiohttp import web
from msgspec import UNSET, Struct

from schemas import money, scopes
from schemas.accounts import Account, Family
from schemas.money import Money
from schemas.orders import Order
from workers.admin import cursors, merchants, order_filters, responses, shapes, sign_in
from workers.admin.process_state import RefusedOne
from workers.admin.responses import ApiError
from workers.admin.timeline_entries import RefusedRequest
from workers.errors import RefundTaken, VersionConflict
from workers.long_poll import OrderChanges
from workers.queries import OrderPage, OrdersPort
from workers.settlement import decision
from workers.settlement.plan import Registration, WritePlan
from workers.time_limit import TimeLimit

NUMBER_CHARACTERS_MAX = 64  # Alipay's own limit for out_trade_no
REFUNDS_MAX = 100
AMOUNTS_MAX = 10
MINOR_MAX = 10**12
VERSION_CONFLICTS_MAX = 3  # attempts after version conflicts with batches, before the answer is 503


class RefusedRequests(Protocol):
    """The requests that the receivers have refused recently, oldest first."""

    def of_order(self, scope: str, order: str) -> Sequence[RefusedRequest]: ...

    def newest(self, limit: int) -> Sequence[RefusedOne]: ...


class ExpectedAmount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount in one of two forms: a text with the currency's decimals, or smallest units."""

    amount: str | None = None
    amount_minor: int | None = None
    currency: str | None = None


class Expectation(ExpectedAmount, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a registration: the order's amount or amounts, and the refunds that were requested.

    `amounts` has one per currency; if it is empty, any amount is accepted. `by` is the operator's name, for the audit
    row.
    """

    amounts: tuple[ExpectedAmount, ...] | None = None
    refunds: tuple[str, ...] = ()
    by: str = ""


class OrdersPart:
    """The API for orders."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrdersPort,
        changes: OrderChanges,
        refusals: RefusedRequests,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
        time_limit: TimeLimit,
    ) -> None:
        self._accounts = accounts
        self._time_limit = time_limit
        self._orders = orders
        self._changes = changes
        self._refusals = refusals
        self._wake = wake
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/orders", self.list_),
            web.get("/api/find", self.find),
            web.get("/api/orders/{account}/{order:[^/]+}", self.show),
            web.put("/api/orders/{account}/{order:[^/]+}", self.register),
            web.get("/api/orders/{account}/{order:[^/]+}/movements", self.movements),
        ]

    async def list_(self, request: web.Request) -> web.Response:
        """Return a page of the orders that match: the last changed first, or by number if a prefix of it is given."""
        found = await self._orders.order_list(order_filters.query(request, self._accounts, now_ms=self._now_ms()))
        next_ = None if found.next_ is None else cursors.after_order(found.next_)
        return responses.json({"orders": [shapes.listed(page) for page in found.pages], "next": next_})

    async def find(self, request: web.Request) -> web.Response:
        """Return the orders with this number, and the notifications with this id or that name this number."""
        number = request.query.get("number", "").strip()
        if not number:
            raise responses.bad_request("number is missing: give an order, trade, notification or other number")
        found = await self._orders.find(number)
        notifications = [shapes.found(each) for each in await self._orders.notifications(number)]
        matches = [shapes.match(scope, order) for scope, order in found]
        return responses.json({"matches": matches, "notifications": notifications})

    async def show(self, request: web.Request) -> web.Response:
        """Return the order with its timeline; with `wait`, as soon as it is newer than `version`.

        The orders of an account that was removed from accounts.toml are still shown.
        """
        scope, number = self._scope(request), request.match_info["order"]
        wait_s = responses.wait_s(request)
        version = responses.whole_number(request, "version", default=0)
        page = await self._page(scope, number)
        # The order of an account that was removed may still change; one that it does not have is not waited for.
        if wait_s and (page is not None or request.match_info["account"] in self._accounts):
            page = await self._newer(scope, number if page is None else page.number, version, wait_s)
        if page is None:
            self._account(request.match_info["account"])
            found = await self._orders.notifications(number)
            hint = "; notifications name it, or may name it: see /api/find or `alipay-notify find`" if found else ""
            raise ApiError(404, "unknown_order", f"account {scope} has no order {number}{hint}")
        account = self._accounts.get(scopes.account_of(scope))
        return responses.json(shapes.order(page, self._refusals.of_order(scope, number), account))

    async def movements(self, request: web.Request) -> web.Response:
        """Return a page of the order's refunds and captures, each report of an amount once."""
        scope, number = self._scope(request), request.match_info["order"]
        limit = responses.whole_number(request, "limit", default=100, most=responses.LIMIT_MAX)
        after = cursors.movement_place(request)
        found = await self._orders.movements(scope, number, after=after, limit=limit + 1)
        if found is None:
            page = await self._page(scope, number)
            if page is None:
                raise ApiError(404, "unknown_order", f"account {scope} has no order {number}")
            found = await self._orders.movements(scope, page.number, after=after, limit=limit + 1) or ()
        next_ = cursors.after_movement(found[limit - 1][0]) if 0 < limit < len(found) else None
        return responses.json({"movements": [shapes.movement(each) for _, each in found[:limit]], "next": next_})

    async def register(self, request: web.Request) -> web.Response:
        """Register an order's amounts or refunds; notifications that waited for it become due at once."""
        name, number = request.match_info["account"], request.match_info["order"]
        scope = registered_scope(self._account(name), request.query.get("auth_app_id", ""))
        _check_number(number, "the order number")
        expectation = await responses.body(request, Expectation)
        registration = parse(expectation, self._account(name))  # once more: a reload may have removed it meanwhile
        created = await self.record(scope, number, registration, sign_in.acting(request, expectation.by))
        page = await self._page(scope, number)
        if page is None:
            raise ApiError(503, "unavailable", "the order was registered but cannot be read now; try again")
        return responses.json(shapes.order(page), status=201 if created else 200)

    async def record(self, scope: str, number: str, registration: Registration, by: str) -> bool:
        """Register an order; return whether it is new.

        Raises:
            ApiError: 409, one of the refunds belongs to another order.
        """
        number = await self._own_number(scope, number)
        created = False

        def decide(order: Order | None) -> WritePlan:
            nonlocal created
            created = order is None
            decided = partial(decision.register, order, scope, number, registration, now_ms=self._now_ms())
            return self._time_limit.run(decided, "decide")

        await self._register(scope, number, registration, decide, by=by)
        self._changes.changed(scope, number)
        self._wake()
        return created

    async def _register(
        self,
        scope: str,
        number: str,
        registration: Registration,
        decide: Callable[[Order | None], WritePlan],
        *,
        by: str,
    ) -> None:
        why = _summary(registration)
        for left in reversed(range(VERSION_CONFLICTS_MAX)):
            try:
                await self._orders.register(scope, number, registration.refunds, decide, by=by, why=why)
            except RefundTaken as taken:
                raise ApiError(409, "conflict", str(taken)) from None
            except VersionConflict:
                if not left:
                    raise
            else:
                return

    async def _own_number(self, scope: str, number: str) -> str:
        """Return the number under which the order is filed; only Antom may name a payment's order in two ways."""
        is_antom = self._account(scopes.account_of(scope)).family is Family.ANTOM
        page = await self._orders.order_page(scope, number) if is_antom else None
        return number if page is None else page.number

    async def _page(self, scope: str, number: str) -> OrderPage | None:
        """Return the page; also if there are only refused requests, because they show why an order is not paid."""
        page = await self._orders.order_page(scope, number)
        if page is None and self._refusals.of_order(scope, number):
            return OrderPage(account=scope, number=number, order=None, view=None, deliveries=(), events=())
        return page

    async def _newer(self, scope: str, number: str, version: int, wait_s: float) -> OrderPage | None:
        """Return the page once its version is above `version`, or the present page when the time is over."""
        deadline = time.monotonic() + wait_s
        with self._changes.watch(scope, number) as waiter:
            while True:
                page = await self._page(scope, number)
                if page is not None and page.order is not None and page.order.version > version:
                    return page
                if self._changes.is_closed or not await waiter.wait(deadline - time.monotonic()):
                    return page

    def _scope(self, request: web.Request) -> str:
        return scope_of_request(request, self._accounts)

    def _account(self, name: str) -> Account:
        return responses.known_account(self._accounts, name)


def scope_of_request(request: web.Request, accounts: Mapping[str, Account]) -> str:
    """Return the scope that a request names by its path and its query; the account may have been removed.

    Raises:
        ApiError: as `merchants.scope_of`.
    """
    name, auth_app_id = request.match_info["account"], request.query.get("auth_app_id", "")
    account = accounts.get(name)
    return scopes.joined(name, auth_app_id or UNSET) if account is None else merchants.scope_of(account, auth_app_id)


def registered_scope(account: Account, auth_app_id: str) -> str:
    """Return the scope as `merchants.scope_of`, if the account serves the merchant.

    Raises:
        ApiError: as `merchants.scope_of`; or the merchant is none of the account's.
    """
    scope = merchants.scope_of(account, auth_app_id)
    if account.auth_app_ids and auth_app_id and not account.serves(auth_app_id):
        raise responses.bad_request(f"{auth_app_id} is not in auth_app_id of account {account.name}")
    return scope


def parse(expectation: Expectation, account: Account) -> Registration:
    """Return the registration for a request's body.

    Raises:
        ApiError: the amount is missing, given twice or malformed, or a refund number is not valid.
    """
    for refund in expectation.refunds:
        _check_number(refund, "a refund number")
    if len(expectation.refunds) > REFUNDS_MAX:
        raise responses.bad_request(f"refunds may have at most {REFUNDS_MAX} numbers")
    return Registration(amounts=_amounts(expectation, account), refunds=expectation.refunds)


def _amounts(expectation: Expectation, account: Account) -> tuple[Money, ...] | None:
    """Return the amounts; `None` if there are only refunds."""
    has_amount = expectation.amount is not None or expectation.amount_minor is not None
    given = expectation.amounts
    if given is None and has_amount:
        return (_money(expectation, account),)
    if given is None and expectation.refunds and expectation.currency is None:
        return None
    if given is None:
        raise responses.bad_request('give an amount: {"amount": "12.80", "currency": "USD"} or {"amount_minor": 1280}')
    if has_amount or expectation.currency is not None:
        raise responses.bad_request("give either amounts, or one amount with its currency, not both")
    if len(given) > AMOUNTS_MAX:
        raise responses.bad_request(f"amounts may have at most {AMOUNTS_MAX} entries")
    amounts = tuple(_money(each, account) for each in given)
    if len({amount.currency for amount in amounts}) < len(amounts):
        raise responses.bad_request("amounts may have one entry per currency")
    return amounts


def _summary(registration: Registration) -> str:
    """Return the registration as a text for the audit row."""
    amounts = ["any amount"] if registration.amounts == () else map(str, registration.amounts or ())
    return ", ".join([*amounts, *(f"refund {refund}" for refund in registration.refunds)])


def _money(given: ExpectedAmount, account: Account) -> Money:
    currency = given.currency or account.currency
    if given.amount is not None and given.amount_minor is not None:
        raise responses.bad_request("give either amount or amount_minor, not both")
    if given.amount is not None:
        try:
            amount = money.parse_major(given.amount, currency)
        except money.BadMoney as error:
            raise responses.bad_request(f"amount: {error}") from None
    else:
        amount = Money(given.amount_minor or 0, currency)
        if not money.is_code(currency):
            raise responses.bad_request(f"currency must be three capital letters, not {currency!r}")
    if not 0 < amount.minor <= MINOR_MAX:
        raise responses.bad_request("the amount must be above zero and at most 1,000,000,000,000 of the smallest unit")
    return amount


def _check_number(number: str, name: str) -> None:
    if not 0 < len(number) <= NUMBER_CHARACTERS_MAX or not number.isprintable():
        raise responses.bad_request(f"{name} must have 1 to {NUMBER_CHARACTERS_MAX} printable characters")
