"""The demo shop: payment, refund and Return, from the button to the order page."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from deploy.sandbox import server
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from tests.unit.deploy.sandbox.town import Buyer, Town, redirect_url


async def test_paid_order_is_shown_as_paid_after_its_notification(town: Town) -> None:
    await town.buyer.go("/shop")
    assert "Pay with Alipay" in town.buyer.page
    await town.buyer.press("/shop/pay")
    assert "/cashier/" in town.buyer.at
    assert "12.80" in town.buyer.page
    assert "确认付款" in town.buyer.page
    await town.buyer.press("/pay")
    assert "with a valid signature" in town.buyer.page
    assert "confirming" in town.buyer.page
    state = await town.buyer.state(town.order, 1)
    assert state["status"] == "FINISHED"
    assert state["amount"] == "12.80"
    assert town.merchant.confirmed == ["true"]


async def test_refund_reaches_the_order_by_its_own_notification(town: Town) -> None:
    order = await town.pay()
    await town.buyer.state(order, 1)
    await town.buyer.press(f"/shop/orders/{order}/refund")
    assert town.buyer.at.endswith(f"/shop/orders/{order}")
    state = await town.buyer.state(order, 2)
    assert (state["status"], state["refunded"]) == ("CLOSED", "12.80")
    await town.buyer.press(f"/shop/orders/{order}/refund")
    assert town.merchant.confirmed == ["true", "true"], "the same refund again is none"


async def test_forged_return_is_shown_as_unsigned(town: Town) -> None:
    order = await town.pay()
    query = urlsplit(town.buyer.at).query.replace("TRADE_FINISHED", "TRADE_SUCCESS")
    await town.buyer.go(f"/shop/return?{query}")
    assert "without a valid signature" in town.buyer.page
    assert order in town.buyer.page


async def test_return_without_an_order_number_shows_no_payment(town: Town) -> None:
    await town.buyer.go(f"/shop/return?out_trade_no={quote('<script>')}")
    assert "without an order number" in town.buyer.page
    assert "<script>" not in town.buyer.page


async def test_shop_reports_an_unreachable_receiver(town: Town, own_directory: Path) -> None:
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
