"""The demo shop: the smallest program that does everything a merchant must do.

It registers the order before the buyer leaves, signs the Request with the merchant's key, checks the Return when the
buyer comes back, and then trusts only the state that the receiver has applied. It reaches the receiver as any
merchant's program does: through the admin API over HTTP.

The function that builds a signed Request is an argument, so that the shop depends neither on the merchant's signing
code nor on Alipay's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.sandbox import pages, serials
from deploy.sandbox.admin_api import AdminApi, AdminUnavailableError
from deploy.sandbox.identities import SHOP
from deploy.sandbox.world import World
from schemas import money

_SHOP = "Harbour Museum"
_PRODUCT = "Museum pass, two days"
_PRICE = "12.80"
_ORDER = re.compile(r"[A-Za-z0-9-]{1,64}")


class RedirectUrl(Protocol):
    """Builds the URL that sends a buyer to Alipay with a signed Request."""

    def __call__(
        self, gateway: str, params: Mapping[str, str], *, key: rsa.RSAPrivateKey, sign_type: str, charset: str
    ) -> str: ...


class Shop:
    """The shop's pages and their actions."""

    def __init__(
        self, *, world: World, http: aiohttp.ClientSession, request_url: RedirectUrl, admin: AdminApi, shop_url: str
    ) -> None:
        self._world = world
        self._http = http
        self._request_url = request_url
        self._admin = admin
        self._shop_url = shop_url
        self._key = world.shop_key()
        self._numbers = serials.Serials(SystemRandom())

    def routes(self) -> list[web.RouteDef]:
        """Return the shop's routes."""
        return [
            web.get("/shop", self.product),
            web.post("/shop/pay", self.pay),
            web.get("/shop/return", self.returned),
            web.get("/shop/orders/{order}", self.order),
            web.get("/shop/orders/{order}/state", self.state),
            web.post("/shop/orders/{order}/refund", self.refund),
        ]

    async def product(self, _request: web.Request) -> web.Response:
        """Show the product page, with the button *Pay with Alipay*."""
        return pages.page(
            "product.html", title=_SHOP, skin="shop", product=_PRODUCT, price=_PRICE, currency=self._currency
        )

    async def pay(self, _request: web.Request) -> web.StreamResponse:
        """Create an order and send the buyer to Alipay.

        The order is registered first, because a notification can arrive as soon as the buyer leaves, and its amount is
        compared with the registered one.
        """
        order = self._numbers.order("WEB", datetime.now(UTC))
        try:
            await self._admin.register(SHOP, order, {"amount": _PRICE, "currency": self._currency})
        except AdminUnavailableError as error:
            return self._sorry(str(error))
        raise web.HTTPSeeOther(self._signed(self._payment_params(order)))

    async def returned(self, request: web.Request) -> web.Response:
        """Receive the buyer back. The Return is checked and shown; it changes no order."""
        query = request.rel_url.raw_query_string
        order = request.query.get("out_trade_no", "")
        if not _ORDER.fullmatch(order):
            return self._sorry("Alipay sent you back without an order number: nothing was paid.")
        try:
            authentic = await self._admin.check_return(SHOP, query)
        except AdminUnavailableError:
            authentic = None
        return self._order_page(order, note=_RETURN_NOTES[authentic])

    async def order(self, request: web.Request) -> web.Response:
        """Show the order page."""
        return self._order_page(_order_of(request), note="")

    async def state(self, request: web.Request) -> web.Response:
        """Answer the page's script with the order's state, as soon as it is newer than the page's version."""
        version = request.query.get("version", "0")
        if not version.isascii() or not version.isdigit():
            raise web.HTTPBadRequest(text="version is a number\n")
        try:
            known = _shown(await self._admin.newer_order(SHOP, _order_of(request), than=int(version)))
        except AdminUnavailableError as error:
            return web.json_response({"error": str(error)}, status=503, headers={"Retry-After": "1"})
        return web.json_response(known, headers={"Cache-Control": "no-store"})

    async def refund(self, request: web.Request) -> web.StreamResponse:
        """Ask Alipay for a full refund. As for the payment, the page changes when the notification arrives."""
        order = _order_of(request)
        params = self._common("forex_refund") | {
            "out_trade_no": order,
            "out_return_no": f"{order}-R1",
            "return_amount": _PRICE,
            "currency": self._currency,
            "gmt_return": serials.moment(datetime.now(UTC)).replace("-", "").replace(":", "").replace(" ", ""),
        }
        try:
            async with self._http.get(self._signed(params), allow_redirects=False) as response:
                accepted = response.status == 200 and "<is_success>T</is_success>" in await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            accepted = False
        if not accepted:
            return self._sorry("Alipay did not accept the refund.")
        raise web.HTTPSeeOther(f"/shop/orders/{order}")

    @property
    def _currency(self) -> str:
        return self._world.account(SHOP).identity.currency

    def _payment_params(self, order: str) -> dict[str, str]:
        return self._common("create_forex_trade_wap") | {
            "notify_url": self._world.notify_base + self._world.account(SHOP).identity.path,
            "return_url": f"{self._shop_url}/shop/return",
            "product_code": "NEW_WAP_OVERSEAS_SELLER",
            "out_trade_no": order,
            "subject": _PRODUCT,
            "total_fee": _PRICE,
            "currency": self._currency,
        }

    def _common(self, service: str) -> dict[str, str]:
        return {"service": service, "partner": self._world.account(SHOP).identity.partner, "_input_charset": "utf-8"}

    def _signed(self, params: Mapping[str, str]) -> str:
        gateway = f"{self._world.gateway_url}/gateway.do"
        return self._request_url(gateway, params, key=self._key, sign_type="RSA", charset="utf-8")

    def _order_page(self, order: str, *, note: str) -> web.Response:
        return pages.page(
            "order.html",
            title=f"Order {order}",
            skin="shop",
            order=order,
            product=_PRODUCT,
            price=_PRICE,
            currency=self._currency,
            note=note,
        )

    def _sorry(self, why: str) -> web.Response:
        return pages.page("sorry.html", why=why, title=_SHOP, skin="shop", status=503)


_RETURN_NOTES: Mapping[bool | None, str] = {
    True: "You are back from Alipay, with a valid signature.",
    False: "You are back without a valid signature of Alipay. Only Alipay's own notification counts.",
    None: "You are back from Alipay.",
}


def _order_of(request: web.Request) -> str:
    order = request.match_info["order"]
    if not _ORDER.fullmatch(order):
        raise web.HTTPNotFound
    return order


def _shown(answer: Mapping[str, Any]) -> dict[str, object]:
    """Return the data that the page shows. Amounts are texts, because a script must not compute with money."""
    currency = str(answer.get("currency") or "")
    return {
        "status": str(answer.get("status") or "UNKNOWN"),
        "version": int(answer.get("version") or 0),
        "amount": money.major(int(answer.get("amount_minor") or 0), currency),
        "refunded_minor": int(answer.get("refunded_minor") or 0),
        "refunded": money.major(int(answer.get("refunded_minor") or 0), currency),
        "currency": currency,
        "flags": [str(flag) for flag in answer.get("flags") or ()],
        "timeline": [_entry(entry) for entry in answer.get("timeline") or () if _is_notification(entry)],
    }


def _is_notification(entry: object) -> bool:
    """Return whether a timeline entry is a notification; others are the events that were sent."""
    return isinstance(entry, dict) and entry.get("kind") == "notification"


def _entry(entry: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(entry.get(name) or "") for name in ("notification_id", "disposition", "reason")}
