"""Alipay's cashier: the pages that a buyer sees at Alipay, and the effects of paying, cancelling and refunding.

A payment starts two things that do not wait for each other, as in reality: the signed Notification is delivered to the
merchant's notify_url, with retries, and the buyer returns to the return_url with a signed Return.

A cancelled trade closes at once. The real Alipay lets it time out first; the notification is the same. `ENDINGS` are
the ways in which a payment surprises a merchant: each ends with the Return and the notifications that Alipay sends.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from deploy.sandbox import field_sets, gateway, pages, serials, signing
from deploy.sandbox.answers import TradeQueries
from deploy.sandbox.delivery import DeliveryJob, Sender
from deploy.sandbox.gateway import RefusedRequestError, VerifiedRequest
from deploy.sandbox.identities import SHOP
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.notifications import MessageKind, SandboxRefund, Trade, TradeEvent
from deploy.sandbox.world import SandboxAccount, World
from schemas import money

# Payments kept in memory. The pages of older ones answer 404.
_PAYMENTS_MAX = 10_000
# Notifications that wait for a retry. Beyond this number, a new one is delivered once only.
_UNDER_WAY_MAX = 5_000

# How long the notification waits for the buyer to be back first, in seconds.
_BUYER_FIRST_S = 6.0

State = Literal["open", "paid", "closed"]
Ending = Literal["failed", "expired", "twice", "browser_closed", "return_first", "notified_first"]

# The endings that the cashier offers beside paying and cancelling, in words for the page.
ENDINGS: Mapping[Ending, str] = {
    "return_first": "Pay; I am back at the shop before the notification",
    "notified_first": "Pay; the notification arrives before I am back",
    "browser_closed": "Pay, and close the browser: no Return",
    "twice": "Pay twice: a second trade for this order",
    "failed": "Fail: too little money; the order stays open",
    "expired": "Wait until the payment times out",
}


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One trade at the cashier."""

    token: str
    trade: Trade
    notify_url: str
    return_url: str
    state: State = "open"
    goes_back: bool = True  # false: the buyer never returns with a signed Return
    order_string: str = ""  # the signed part, if an app opened the payment
    charset: str = "utf-8"  # of the Request
    method: str = ""  # of the Open Platform's Request
    rmb_minor: int = 0  # the price in RMB, if the merchant gave that
    refunds: tuple[SandboxRefund, ...] = ()

    @property
    def refunded_minor(self) -> int:
        """Return the sum of all refunds so far."""
        return sum(refund.amount_minor for refund in self.refunds)


class Cashier:
    """The routes of the gateway and the cashier, and their payments."""

    def __init__(
        self, *, world: World, sender: Sender, issued: IssuedIds, queries: TradeQueries, notify_delay_s: float
    ) -> None:
        self._world = world
        self._sender = sender
        self._issued = issued
        self._queries = queries
        self._notify_delay_s = notify_delay_s
        self._chance = SystemRandom()
        self._numbers = serials.Serials(self._chance)
        self._payments: OrderedDict[str, Payment] = OrderedDict()
        self._tokens: dict[tuple[str, str, str], str] = {}
        self._under_way: set[asyncio.Task[object]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the gateway and the cashier."""
        return [
            web.get("/gateway.do", self.gateway),
            web.post("/gateway.do", self.gateway),
            web.get("/app", self.app),
            web.post("/app", self.app_opened),
            web.get("/cashier/{token}", self.show),
            web.post("/cashier/{token}/pay", self.pay),
            web.post("/cashier/{token}/cancel", self.cancel),
            web.post("/cashier/{token}/end", self.end),
        ]

    async def close(self) -> None:
        """Stop all deliveries; later retries are not sent."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def gateway(self, request: web.Request) -> web.StreamResponse:
        """Answer a Request; the parameter `service` selects the service."""
        encoded = await request.text() if request.method == "POST" else request.rel_url.raw_query_string
        try:
            params = gateway.parameters(encoded)
            service = params.get("service", "")
            if service == gateway.VERIFY_SERVICE:
                return self._verify(params)
            if self._queries.is_question(params):
                return self._queries.answer(params)
            if service == gateway.REFUND_SERVICE:
                return self._refund(params)
            if service in gateway.PAY_SERVICES or params.get("method") in gateway.PAY_METHODS:
                payment = self._opened(gateway.verified(params, self._world))
                raise web.HTTPSeeOther(f"/cashier/{payment.token}")
            raise RefusedRequestError("ILLEGAL_SERVICE", "the sandbox does not offer this service")
        except RefusedRequestError as refused:
            return _refusal(refused)

    async def app(self, _request: web.Request) -> web.Response:
        """Show the page on which an app's order string is opened, in place of the Alipay app."""
        return pages.page("app.html", title="Alipay 支付宝", skin="cashier")

    async def app_opened(self, request: web.Request) -> web.StreamResponse:
        """Open the payment of an order string."""
        text = str((await request.post()).get("order_string", ""))
        try:
            verified, content = gateway.opened_by_app(text, self._world)
            payment = self._opened(verified, order_string=content)
        except RefusedRequestError as refused:
            return _refusal(refused)
        raise web.HTTPSeeOther(f"/cashier/{payment.token}")

    def _verify(self, params: dict[str, str]) -> web.Response:
        known = {account.identity.partner for account in self._world.accounts.values() if account.identity.partner}
        partner = params.get("partner", "")
        answer = self._issued.confirm(
            partner=partner if partner in known else "", notify_id=params.get("notify_id", "")
        )
        return web.Response(text=answer)

    def _opened(self, request: VerifiedRequest, *, order_string: str = "") -> Payment:
        """Return the payment of this Request; the same Request again returns the same payment."""
        price = request.price
        key = _key(request)
        if known := self._payments.get(self._tokens.get(key, "")):
            asked = (known.trade.amount_minor, known.trade.currency, known.rmb_minor)
            if asked != (price.amount_minor, price.currency, price.rmb_minor):
                raise RefusedRequestError("CONTEXT_INCONSISTENT", "this order exists with another amount")
            return known
        now = datetime.now(UTC)
        trade = Trade(
            account=request.account,
            order=request.required("out_trade_no"),
            trade_no=self._numbers.trade_no(now),
            amount_minor=price.amount_minor,
            currency=price.currency,
            subject=request.required("subject"),
            created=now,
            paid=now,
        )
        payment = Payment(
            token=secrets.token_urlsafe(16),
            trade=trade,
            notify_url=request.address("notify_url"),
            return_url="" if order_string else request.address("return_url"),
            order_string=order_string,
            charset=request.charset,
            method=request.params.get("method", ""),
            rmb_minor=price.rmb_minor,
        )
        self._tokens[key] = payment.token
        self._keep(payment)
        return payment

    def _keep(self, payment: Payment) -> None:
        self._payments[payment.token] = payment
        while len(self._payments) > _PAYMENTS_MAX:
            _, oldest = self._payments.popitem(last=False)
            self._tokens.pop(_key_of(oldest.trade.account, oldest.trade.order), None)

    def _payment(self, request: web.Request) -> Payment:
        payment = self._payments.get(request.match_info["token"])
        if payment is None:
            raise web.HTTPNotFound(text="The sandbox does not know this payment, or it is too old.\n")
        return payment

    async def show(self, request: web.Request) -> web.Response:
        """Show the cashier page."""
        payment = self._payment(request)
        trade = payment.trade
        return pages.page(
            "cashier.html" if payment.state == "open" else f"cashier_{payment.state}.html",
            title="Alipay cashier 支付宝收银台",
            skin="cashier",
            token=payment.token,
            is_shop=trade.account.identity.name == SHOP,
            merchant=urlsplit(payment.return_url or payment.notify_url).netloc,
            partner=trade.account.identity.partner or trade.account.identity.seller_id,
            rmb=money.major(payment.rmb_minor, "CNY") if payment.rmb_minor else "",
            subject=trade.subject,
            order=trade.order,
            amount=money.major(trade.amount_minor, trade.currency),
            currency=trade.currency,
            back=self._return_to(payment),
            goes_back=payment.goes_back,
            failed="failed" in request.query,
            result=self._result(payment),
            endings=ENDINGS,
        )

    async def pay(self, request: web.Request) -> web.StreamResponse:
        """Pay, and send the buyer back. Paying again, for example by a reload, only sends the buyer back."""
        return self._end(self._payment(request), state="paid", kind=MessageKind.PAID)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Close the trade without a payment, and send the buyer back."""
        return self._end(self._payment(request), state="closed", kind=MessageKind.CLOSED)

    async def end(self, request: web.Request) -> web.StreamResponse:
        """End the payment in one of the ways of `ENDINGS`. A payment that has ended only sends the buyer back."""
        payment = self._payment(request)
        ending = str((await request.post()).get("ending", ""))
        if ending not in ENDINGS:
            raise web.HTTPBadRequest(text=f"ending is one of {', '.join(ENDINGS)}\n")
        if payment.state != "open":
            return self._leave(payment)
        match ending:
            case "failed":
                # The trade waits for another attempt, and Alipay sends nothing.
                raise web.HTTPSeeOther(f"/cashier/{payment.token}?failed")
            case "expired":
                payment, _ = self._ended(payment, state="closed", kind=MessageKind.CLOSED, goes_back=False)
            case "twice":
                payment, _ = self._ended(payment, state="paid", kind=MessageKind.PAID)
                again = msgspec.structs.replace(payment.trade, trade_no=self._numbers.trade_no(payment.trade.paid))
                self._notify(
                    msgspec.structs.replace(payment, trade=again), TradeEvent(kind=MessageKind.PAID, at=again.paid)
                )
            case "browser_closed":
                payment, _ = self._ended(payment, state="paid", kind=MessageKind.PAID, goes_back=False)
            case "return_first":
                payment, _ = self._ended(payment, state="paid", kind=MessageKind.PAID, delay_s=_BUYER_FIRST_S)
            case _:
                payment, delivery = self._ended(payment, state="paid", kind=MessageKind.PAID, delay_s=0.0)
                await asyncio.wait([delivery], timeout=_BUYER_FIRST_S)
        return self._leave(payment)

    def _end(self, payment: Payment, *, state: State, kind: MessageKind) -> web.StreamResponse:
        if payment.state == "open":
            payment, _ = self._ended(payment, state=state, kind=kind)
        return self._leave(payment)

    def _ended(
        self, payment: Payment, *, state: State, kind: MessageKind, goes_back: bool = True, delay_s: float | None = None
    ) -> tuple[Payment, asyncio.Task[object]]:
        """Return the payment in its new state, and the first delivery of its notification."""
        now = datetime.now(UTC)
        trade = msgspec.structs.replace(payment.trade, paid=now)
        payment = msgspec.structs.replace(payment, trade=trade, state=state, goes_back=goes_back)
        self._keep(payment)
        return payment, self._notify(payment, TradeEvent(kind=kind, at=now), delay_s=delay_s)

    def _leave(self, payment: Payment) -> web.StreamResponse:
        goes_back = payment.goes_back and not payment.order_string
        raise web.HTTPSeeOther(self._return_to(payment) if goes_back else f"/cashier/{payment.token}")

    def _result(self, payment: Payment) -> str:
        """Return the text that the app receives from the Alipay app, if an app opened the payment and it has ended."""
        if not payment.order_string or not payment.goes_back or payment.state == "open":
            return ""
        status, signer = 9000 if payment.state == "paid" else 6001, payment.trade.account.signer
        if payment.trade.account.identity.family == "openapi":
            # Of a payment that was cancelled, the Open Platform signs nothing.
            signed = signing.open_app_return(_app_fields(payment), signer=signer) if status == 9000 else ""
            return signing.sdk_result(signed, status)
        return signing.in_app_result(payment.order_string, signer=signer, charset=payment.charset, status=status)

    def _return_to(self, payment: Payment) -> str:
        """Return the URL that the buyer goes back to, with a signed Return if the trade has ended."""
        if payment.state == "open" or not payment.goes_back:
            return payment.return_url
        account = payment.trade.account
        query = signing.return_query(_return_fields(payment), signer=account.signer, charset=account.identity.charset)
        return f"{payment.return_url}{'&' if '?' in payment.return_url else '?'}{query}"

    def _refund(self, params: dict[str, str]) -> web.Response:
        """Answer `forex_refund` in XML, and notify. The same refund number again changes nothing."""
        try:
            request = gateway.verified(params, self._world)
            self._refunded(request)
        except RefusedRequestError as refused:
            return _xml(f"<is_success>F</is_success><error>{refused.code}</error>")
        return _xml("<is_success>T</is_success>")

    def _refunded(self, request: VerifiedRequest) -> None:
        payment = self._payments.get(self._tokens.get(_key(request), ""))
        number = request.required("out_return_no")
        if payment is None or payment.state != "paid":
            raise RefusedRequestError("PURCHASE_TRADE_NOT_EXIST", "no paid trade has this order number")
        if any(refund.number == number for refund in payment.refunds):
            return
        part = request.amount_minor("return_amount")
        total = payment.refunded_minor + part
        if total > payment.trade.amount_minor:
            raise RefusedRequestError("RETURN_AMOUNT_EXCEED", "the refunds would exceed the payment")
        now = datetime.now(UTC)
        refund = SandboxRefund(
            number=number, refund_id=self._numbers.payment_id(now), amount_minor=part, total_minor=total
        )
        self._keep(msgspec.structs.replace(payment, refunds=(*payment.refunds, refund)))
        self._notify(payment, TradeEvent(kind=MessageKind.REFUND, at=now, refund=refund))

    def _notify(self, payment: Payment, event: TradeEvent, *, delay_s: float | None = None) -> asyncio.Task[object]:
        """Start to deliver the notification of this event; the task ends with the first delivery."""
        delay_s = self._notify_delay_s if delay_s is None else delay_s
        one = field_sets.compose(payment.trade, event, numbers=self._numbers, chance=self._chance)
        job = DeliveryJob(notification=one, url=payment.notify_url, at=event.at + timedelta(seconds=delay_s))
        return self._start(self._deliver(job, delay_s))

    async def _deliver(self, job: DeliveryJob, delay_s: float) -> None:
        # The notification takes a moment: usually the buyer is back at the shop before it arrives.
        await asyncio.sleep(delay_s)
        first = await self._sender.attempt(job)
        if len(self._under_way) <= _UNDER_WAY_MAX:
            self._start(self._sender.resend(job, after=first))

    def _start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


def _key(request: VerifiedRequest) -> tuple[str, str, str]:
    return _key_of(request.account, request.required("out_trade_no"))


def _key_of(account: SandboxAccount, order: str) -> tuple[str, str, str]:
    """Return the key of a payment: its account, the merchant of a service provider, and the order number."""
    return account.identity.name, account.identity.auth_app_id, order


def _app_fields(payment: Payment) -> signing.Fields:
    """Return the fields of the result that the Alipay app gives to the merchant's app."""
    outcome = (("code", "10000"), ("msg", "Success"))
    return outcome + tuple(pair for pair in _return_fields(payment) if pair[0] not in ("method", "version"))


def _return_fields(payment: Payment) -> signing.Fields:
    trade, identity = payment.trade, payment.trade.account.identity
    amount = money.major(trade.amount_minor, trade.currency)
    if identity.product == "open":
        return (
            ("app_id", identity.app_id), ("auth_app_id", identity.auth_app_id or identity.app_id),
            ("charset", identity.charset), ("method", f"{payment.method}.return"), ("version", "1.0"),
            ("seller_id", identity.seller_id),
            ("timestamp", serials.moment(trade.paid)), ("out_trade_no", trade.order), ("trade_no", trade.trade_no),
            ("total_amount", amount),
        )  # fmt: skip
    # As in their notifications: the website product names no seller.
    seller = (("seller_id", identity.seller_id),) if identity.seller_id else ()
    return (
        ("out_trade_no", trade.order), ("trade_no", trade.trade_no), ("total_fee", amount),
        ("currency", trade.currency), *seller,
        ("trade_status", "TRADE_FINISHED" if payment.state == "paid" else "TRADE_CLOSED"),
    )  # fmt: skip


def _refusal(refused: RefusedRequestError) -> web.Response:
    return pages.page(
        "refused.html",
        title="Alipay 支付宝",
        skin="cashier",
        status=400,
        code=refused.code,
        hint=refused.hint,
        signed_text=refused.signed_text,
    )


def _xml(inner: str) -> web.Response:
    document = f'<?xml version="1.0" encoding="utf-8"?>\n<alipay>{inner}</alipay>'
    return web.Response(text=document, content_type="text/xml")
