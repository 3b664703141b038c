"""A small town for the sandbox's tests: sandbox, merchant and buyer, over real sockets.

The merchant is a stand-in that does only what a merchant must: it verifies with `cryptography`, asks the gateway before
it answers, and keeps the state that its admin API serves.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World


def redirect_url(
    gateway: str,
    params: Mapping[str, str],
    *,
    key: rsa.RSAPrivateKey,
    sign_type: str = "RSA",
    charset: str = "utf-8",
) -> str:
    """A merchant's Request, signed as the documents say."""
    params = {name: value for name, value in params.items() if value}
    text = "&".join(f"{name}={value}" for name, value in sorted(params.items())).encode(charset)
    sign = b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA1())).decode()
    return f"{gateway}?{urlencode({**params, 'sign': sign, 'sign_type': sign_type})}"


class Merchant:
    """A receiver and its admin API, written from the documents alone."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.orders: dict[str, dict[str, object]] = {}
        self.confirmed: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.changed = asyncio.Condition()
        self.closing = False

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([
            web.post("/notify/demo-web", self.notified),
            web.put("/api/orders/demo-web/{order}", self.register),
            web.get("/api/orders/demo-web/{order}", self.order),
            web.post("/api/returns/demo-web", self.returned),
        ])  # fmt: skip
        return app

    def authentic(self, encoded: str) -> bool:
        assert self.world is not None
        fields = dict(parse_qsl(encoded, keep_blank_values=True))
        text = "&".join(f"{n}={v}" for n, v in sorted(fields.items()) if n not in ("sign", "sign_type"))
        key = load_pem_public_key((self.world.accounts_file.parent / "keys" / "mapi-rsa.pem").read_bytes())
        assert isinstance(key, rsa.RSAPublicKey)
        try:
            key.verify(b64decode(fields["sign"]), text.encode(), padding.PKCS1v15(), hashes.SHA1())
        except InvalidSignature:
            return False
        return True

    async def notified(self, request: web.Request) -> web.Response:
        encoded = await request.text()
        if not self.authentic(encoded):
            return web.Response(status=401, text="fail")
        fields = dict(parse_qsl(encoded))
        assert self.world is not None
        question = {"service": "notify_verify", "partner": "2088999900001025", "notify_id": fields["notify_id"]}
        url = f"{self.world.gateway_url}/gateway.do"
        async with aiohttp.ClientSession() as http, http.get(url, params=question) as answer:
            self.confirmed.append(await answer.text())
        self.forms.append(fields)
        await self._apply(fields)
        return web.Response(text="success")

    async def _apply(self, fields: Mapping[str, str]) -> None:
        async with self.changed:
            order = self.orders[fields["out_trade_no"]]
            refunded = fields.get("refund_status") == "REFUND_SUCCESS"
            order["status"] = "FINISHED" if fields["trade_status"] == "TRADE_FINISHED" else "CLOSED"
            order["refunded_minor"] = order["amount_minor"] if refunded else 0
            order["version"] = int(str(order["version"])) + 1
            order["timeline"] = [
                {
                    "kind": "notification",
                    "notification_id": fields["notify_id"],
                    "disposition": "applied",
                    "reason": None,
                }
            ]
            self.changed.notify_all()

    async def register(self, request: web.Request) -> web.Response:
        expected = await request.json()
        assert expected == {"amount": "12.80", "currency": "USD"}
        self.orders[request.match_info["order"]] = {
            "status": "WAITING", "version": 1, "amount_minor": 1280, "currency": "USD", "refunded_minor": 0,
            "flags": [], "timeline": [],
        }  # fmt: skip
        return web.json_response({})

    async def order(self, request: web.Request) -> web.Response:
        assert request.query["wait"] == "20s"
        order = self.orders.get(request.match_info["order"])
        if order is None:
            raise web.HTTPNotFound
        async with self.changed:
            version = int(request.query["version"])
            await self.changed.wait_for(lambda: self.closing or int(str(order["version"])) > version)
        return web.json_response(order)

    async def close(self) -> None:
        """Answer all open long polls."""
        async with self.changed:
            self.closing = True
            self.changed.notify_all()

    async def returned(self, request: web.Request) -> web.Response:
        return web.json_response({"authentic": self.authentic((await request.json())["query"])})


class Buyer:
    """A browser without a screen: follows redirects and presses buttons."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self.http = http
        self.base = base
        self.at = ""
        self.page = ""
        self.status = 0

    async def go(self, path: str, *, press: bool = False) -> str:
        method = "POST" if press else "GET"
        async with self.http.request(method, self.base + path if path.startswith("/") else path) as response:
            self.at, self.page, self.status = str(response.url), await response.text(), response.status
        return self.page

    async def press(self, action: str) -> str:
        """Press the button of the form whose action ends with this."""
        found = re.search(rf'action="([^"]*{re.escape(action)})"', self.page)
        assert found is not None, self.page
        return await self.go(found.group(1), press=True)

    async def end(self, cashier: str, ending: str) -> str:
        """Press one of the cashier's other endings."""
        async with self.http.post(f"{self.base}{cashier}/end", data={"ending": ending}) as response:
            self.at, self.page, self.status = str(response.url), await response.text(), response.status
        return self.page

    async def state(self, order: str, version: int) -> dict[str, object]:
        async with asyncio.timeout(5):
            async with self.http.get(f"{self.base}/shop/orders/{order}/state?version={version}") as response:
                known: dict[str, object] = await response.json()
                return known


class Town:
    """Everything that runs in one test."""

    def __init__(self, sandbox: SandboxServer, merchant: Merchant, buyer: Buyer) -> None:
        self.sandbox = sandbox
        self.merchant = merchant
        self.buyer = buyer

    async def pay(self) -> str:
        """Buy and pay. Return the order number."""
        await self.buyer.go("/shop")
        await self.buyer.press("/shop/pay")
        await self.buyer.press("/pay")
        return self.order

    @property
    def order(self) -> str:
        return dict(parse_qsl(urlsplit(self.buyer.at).query))["out_trade_no"]


def signed_request(town: Town, **changes: str) -> str:
    world = town.sandbox.world
    params = {
        "service": "create_forex_trade_wap", "partner": "2088999900001025", "_input_charset": "utf-8",
        "notify_url": f"{world.notify_base}/notify/demo-web", "return_url": f"{town.sandbox.url}/shop/return",
        "out_trade_no": "T-1", "subject": "A <b>bold</b> thing", "total_fee": "1.00", "currency": "USD",
    }  # fmt: skip
    return redirect_url(f"{world.gateway_url}/gateway.do", params | changes, key=world.shop_key())
