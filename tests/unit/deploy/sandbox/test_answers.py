"""Questions are answered to the merchant that signed them; the answers are checked in `tests/contract`."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from deploy.sandbox import server
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import ANTOM_QUESTION, World

ASKING = [one for one in IDENTITIES if one.name in ("demo-cn", "demo-app", "demo-web", "demo-antom")]


async def no_url(*_: object, **__: object) -> str:
    return ""


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    sock = server.listening("127.0.0.1", 0)
    where = server.url_of(sock)
    world = World.create(tmp_path, gateway_url=where, notify_base="http://127.0.0.1:1", identities=ASKING, queries=True)
    async with SandboxServer(world, sock=sock, admin_url="http://127.0.0.1:1", request_url=no_url):  # type: ignore[arg-type]
        yield where


async def answered(url: str, **request: object) -> str:
    async with aiohttp.ClientSession() as http, http.post(url, **request) as answer:  # type: ignore[arg-type]
        assert answer.status == 200
        return await answer.text()


async def test_question_that_its_merchant_did_not_sign_is_refused(url: str) -> None:
    of_open = {"method": "alipay.trade.query", "app_id": "2021999900001041", "sign_type": "RSA2", "sign": "AAAA"}
    assert '"code":"40002"' in await answered(f"{url}/gateway.do", data=of_open | {"biz_content": "{}"})
    of_old = {"service": "single_trade_query", "partner": "2088999900001017", "sign_type": "RSA", "sign": "AAAA"}
    assert "<is_success>F</is_success>" in await answered(f"{url}/gateway.do", data=of_old)
    headers = {"client-id": "SANDBOX_5Y0000000000000001", "signature": "algorithm=RSA256,signature=AAAA"}
    body = await answered(f"{url}{ANTOM_QUESTION}", data=b'{"paymentRequestId":"A-1"}', headers=headers)
    assert "INVALID_SIGNATURE" in body


async def test_page_loses_notifications_and_delivers_them_again(url: str) -> None:
    assert "Lose all notifications" in await answered(f"{url}/dropping", data={"drop": "none"})
    assert "Deliver them again" in await answered(f"{url}/dropping", data={"drop": "all"})
