"""The seed flow of the product over real sockets: shop, Request, cashier, Notification, Return, and the order page.

The merchant's side is a stand-in that does what a merchant must and no more: it verifies with `cryptography`, asks the
gateway before it answers, and keeps the state its admin API is asked for.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp
import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from deploy.sandbox import server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.receiver import serving


def redirect_url(
    gateway: str,
    params: Mapping[str, str],
    *,
    key: rsa.RSAPrivateKey,
    sign_type: str = "RSA",
    charset: str = "utf-8",
) -> str:
    """A merchant's Request, signed as the documents say."""
    text = "&".join(f"{name}={value}" for name, value in sorted(params.items())).encode(charset)
    sign = b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA1())).decode()
    return f"{gateway}?{urlencode({**params, 'sign': sign, 'sign_type': sign_type})}"


class Merchant:
    """A receiver and its admin API, by the documents alone."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.orders: dict[str, dict[str, object]] = {}
        self.confirmed: list[str] = []
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
        """Lets everybody go who still waits for news."""
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
        """Presses the button whose form's action ends so."""
        found = re.search(rf'action="([^"]*{re.escape(action)})"', self.page)
        assert found is not None, self.page
        return await self.go(found.group(1), press=True)

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
        """Buys something and pays; gives the order's number."""
        await self.buyer.go("/shop")
        await self.buyer.press("/shop/pay")
        await self.buyer.press("/pay")
        return self.order

    @property
    def order(self) -> str:
        return dict(parse_qsl(urlsplit(self.buyer.at).query))["out_trade_no"]


@pytest.fixture
async def town(own_directory: Path) -> AsyncIterator[Town]:
    merchant = Merchant()
    async with AsyncExitStack() as stack:
        receiver_url = await stack.enter_async_context(serving(merchant.app()))
        sock = server.listening("127.0.0.1", 0)
        world = World.create(own_directory, gateway_url=server.url_of(sock), notify_base=receiver_url)
        merchant.world = world
        sandbox = SandboxServer(world, sock=sock, admin_url=receiver_url, request_url=redirect_url, notify_delay_s=0.0)
        await stack.enter_async_context(sandbox)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        stack.push_async_callback(merchant.close)
        yield Town(sandbox, merchant, Buyer(http, sandbox.url))


async def test_a_buyer_pays_and_the_order_page_learns_of_it(town: Town) -> None:
    await town.buyer.go("/shop")
    assert "Pay with Alipay" in town.buyer.page
    await town.buyer.press("/shop/pay")
    assert "/cashier/" in town.buyer.at
    assert "12.80" in town.buyer.page
    assert "确认付款" in town.buyer.page
    await town.buyer.press("/pay")
    assert "signed by Alipay" in town.buyer.page
    assert "confirming" in town.buyer.page
    state = await town.buyer.state(town.order, 1)
    assert state["status"] == "FINISHED"
    assert state["amount"] == "12.80"
    assert town.merchant.confirmed == ["true"]


async def test_a_refund_reaches_the_order_by_its_own_notification(town: Town) -> None:
    order = await town.pay()
    await town.buyer.state(order, 1)
    await town.buyer.press(f"/shop/orders/{order}/refund")
    assert town.buyer.at.endswith(f"/shop/orders/{order}")
    state = await town.buyer.state(order, 2)
    assert (state["status"], state["refunded"]) == ("CLOSED", "12.80")
    await town.buyer.press(f"/shop/orders/{order}/refund")
    assert town.merchant.confirmed == ["true", "true"], "the same refund again is none"


async def test_a_cancelled_payment_closes_the_order(town: Town) -> None:
    await town.buyer.go("/shop")
    await town.buyer.press("/shop/pay")
    await town.buyer.press("/cancel")
    state = await town.buyer.state(town.order, 1)
    assert (state["status"], state["refunded_minor"]) == ("CLOSED", 0)


async def test_paying_twice_pays_once(town: Town) -> None:
    await town.buyer.go("/shop")
    await town.buyer.press("/shop/pay")
    cashier = urlsplit(town.buyer.at).path
    await town.buyer.go(f"{cashier}/pay", press=True)
    await town.buyer.state(town.order, 1)
    await town.buyer.go(f"{cashier}/cancel", press=True)
    assert "trade_status=TRADE_FINISHED" in town.buyer.at
    await town.buyer.go(cashier)
    assert "付款成功" in town.buyer.page
    assert len(town.merchant.confirmed) == 1


async def test_a_forged_return_is_told_apart_and_shows_no_payment(town: Town) -> None:
    order = await town.pay()
    query = urlsplit(town.buyer.at).query.replace("TRADE_FINISHED", "TRADE_SUCCESS")
    await town.buyer.go(f"/shop/return?{query}")
    assert "not signed by Alipay" in town.buyer.page
    assert order in town.buyer.page


def asked(town: Town, **changes: str) -> str:
    world = town.sandbox.world
    params = {
        "service": "create_forex_trade_wap", "partner": "2088999900001025", "_input_charset": "utf-8",
        "notify_url": f"{world.notify_base}/notify/demo-web", "return_url": f"{town.sandbox.url}/shop/return",
        "out_trade_no": "T-1", "subject": "A <b>bold</b> thing", "total_fee": "1.00", "currency": "USD",
    }  # fmt: skip
    return redirect_url(f"{world.gateway_url}/gateway.do", params | changes, key=world.shop_key())


async def test_what_a_merchant_writes_is_shown_and_never_run(town: Town) -> None:
    await town.buyer.go(asked(town))
    assert "A &lt;b&gt;bold&lt;/b&gt; thing" in town.buyer.page


async def test_the_same_request_finds_the_same_payment(town: Town) -> None:
    await town.buyer.go(asked(town))
    first = town.buyer.at
    await town.buyer.go(asked(town))
    assert town.buyer.at == first
    await town.buyer.go(asked(town, total_fee="2.00"))
    assert "CONTEXT_INCONSISTENT" in town.buyer.page


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"partner": "2088000000000000"}, "ILLEGAL_PARTNER"),
        ({"total_fee": "1"}, "ILLEGAL_ARGUMENT"),
        ({"total_fee": "0.00"}, "ILLEGAL_ARGUMENT"),
        ({"total_fee": "-1.00"}, "ILLEGAL_ARGUMENT"),
        ({"return_url": "javascript:alert(1)"}, "ILLEGAL_ARGUMENT"),
        ({"notify_url": "http://h/notify?id=1"}, "ILLEGAL_ARGUMENT"),
        ({"service": "no_such_service"}, "ILLEGAL_SERVICE"),
        ({"_input_charset": "rot13"}, "ILLEGAL_CHARSET"),
    ],
)
async def test_a_request_that_cannot_be_meant_is_refused_by_name(
    town: Town, changes: dict[str, str], code: str
) -> None:
    url = asked(town)
    if changes.get("_input_charset") == "rot13":
        url = url.replace("_input_charset=utf-8", "_input_charset=rot13")
    else:
        url = asked(town, **changes)
    await town.buyer.go(url)
    assert town.buyer.status == 400
    assert code in town.buyer.page


async def test_a_request_changed_after_signing_is_refused_with_the_text_that_was_checked(town: Town) -> None:
    await town.buyer.go(asked(town).replace("total_fee=1.00", "total_fee=0.01"))
    assert "ILLEGAL_SIGN" in town.buyer.page
    assert "total_fee=0.01" in town.buyer.page


async def test_a_parameter_that_occurs_twice_is_refused(town: Town) -> None:
    await town.buyer.go(asked(town) + "&total_fee=0.01")
    assert "ILLEGAL_ARGUMENT" in town.buyer.page


@pytest.mark.parametrize(
    ("partner", "notify_id", "answer"),
    [
        ("2088999900001025", "given-out", "true"),
        ("2088999900001025", "made-up", "false"),
        ("2088999900001017", "given-out", "false"),
        ("", "given-out", "invalid"),
        ("2088000000000000", "given-out", "invalid"),
        ("2088999900001025", "", "invalid"),
    ],
)
async def test_notify_verify_answers_as_alipay_does(town: Town, partner: str, notify_id: str, answer: str) -> None:
    town.sandbox.issued.issue("2088999900001025", "given-out")
    question = {"service": "notify_verify", "partner": partner, "notify_id": notify_id}
    assert await town.buyer.go(f"/gateway.do?{urlencode(question)}") == answer
    async with town.buyer.http.post(f"{town.buyer.base}/gateway.do", data=question) as response:
        assert await response.text() == answer


@pytest.mark.parametrize(
    "path", ["/cashier/nothing", "/shop/orders/..%2f..%2fx", "/assets/..%2fserver.py", "/assets/frame.html", "/nowhere"]
)
async def test_what_is_not_there_is_not_found(town: Town, path: str) -> None:
    await town.buyer.go(path)
    assert town.buyer.status == 404


async def test_a_return_without_an_order_number_pays_nothing(town: Town) -> None:
    await town.buyer.go(f"/shop/return?out_trade_no={quote('<script>')}")
    assert "without an order number" in town.buyer.page
    assert "<script>" not in town.buyer.page


async def test_the_pages_load_nothing_from_elsewhere(town: Town) -> None:
    for path in ("/", "/shop", "/shop/orders/T-1"):
        page = await town.buyer.go(path)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
        async with town.buyer.http.get(town.buyer.base + path) as response:
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    for asset in set(re.findall(r'"(/assets/[a-z.]+)"', page)):
        await town.buyer.go(asset)
        assert town.buyer.status == 200


async def test_a_scenario_played_from_the_page_shows_in_its_list(town: Town) -> None:
    form = {"scenario": "paid", "account": "demo-cn"}
    async with town.buyer.http.post(f"{town.buyer.base}/scenarios", data=form) as response:
        assert response.status == 200
    async with asyncio.timeout(5):
        while "demo-cn</td>" not in await town.buyer.go("/recent"):  # noqa: ASYNC110 - it happens behind a socket
            await asyncio.sleep(0.01)
    assert "status 404" in town.buyer.page, "the stand-in merchant has no such account"


async def test_another_site_cannot_press_buttons_here(town: Town) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    async with town.buyer.http.post(f"{town.buyer.base}/scenarios", headers=headers) as response:
        assert response.status == 403


async def test_without_a_receiver_the_shop_says_so(town: Town, own_directory: Path) -> None:
    sock = server.listening("127.0.0.1", 0)
    world = World.create(own_directory, gateway_url=server.url_of(sock), notify_base="http://127.0.0.1:1")
    async with SandboxServer(world, sock=sock, admin_url="http://127.0.0.1:1", request_url=redirect_url) as alone:
        buyer = Buyer(town.buyer.http, alone.url)
        await buyer.go("/shop")
        await buyer.press("/shop/pay")
        assert buyer.status == 503
        assert "cannot be reached" in buyer.page
        await buyer.go("/shop/orders/T-1/state?version=0")
        assert buyer.status == 503
