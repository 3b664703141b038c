"""The frame of every page: no foreign files, and the notices."""

import re

import pytest
from msgspec import UNSET, UnsetType

from schemas import scopes
from tests.support.admin import World, form, serving
from workers.admin import pages, shapes

SCRIPT = "<script>alert(1)</script>"
PAGES = ["/", "/orders", "/held", "/orders/shop/A1", "/find?number=nothing", "/notifications/0-1"]


@pytest.mark.parametrize("path", PAGES)
async def test_page_loads_only_its_own_files(path: str) -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        answer = await client.get(path)
        text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        sources = re.findall(r'(?:src|href|action)="([^"]+)"', text)
        assert all(source.startswith(("/", "data:,", "#", "?")) and not source.startswith("//") for source in sources)
        assert not re.search(r"<script(?! src=)|\son\w+=|style=", text)
        for asset in ("/console/style.css", "/console/script.js"):
            assert (await client.get(asset)).status == 200
        assert (await client.get("/console/frame.html")).status == 404
        assert "http" not in await (await client.get("/console/style.css")).text()


async def test_faulty_accounts_file_is_shown_on_every_page_with_a_remedy() -> None:
    world = World()
    held = await world.deliver(form("B1"), "strict")
    await world.deliver(form("A1"))
    paths = [*PAGES, f"/held/{held}"]
    async with serving(world) as client:
        for path in paths:
            assert "notice" not in (await (await client.get(path)).text()).replace('id="notices"', "")
        world.accounts_faults = [f"account shop: {SCRIPT}", *(f"account a{number}: no key" for number in range(9))]
        for path in paths:
            text = await (await client.get(path)).text()
            assert "the old accounts and keys stay in use" in text, path
            assert "account shop: &lt;script&gt;" in text
            assert ("account a3: no key" in text, "account a4: no key" in text, "and 5 more" in text) == (
                True,
                False,
                True,
            )
            assert "alipay-notify keys check" in text
            assert "Do not restart before" in text
        world.accounts_faults = []
        assert "old accounts" not in await (await client.get("/")).text()


@pytest.mark.parametrize(
    ("account", "merchant", "order", "path"),
    [
        ("shop", UNSET, "A1", "/api/orders/shop/A1/erase"),
        ("shop", UNSET, "A/1 &2?", "/api/orders/shop/A%2F1%20%262%3F/erase"),
        ("isv", "2021000000000008", "A1", "/api/orders/isv/A1/erase?auth_app_id=2021000000000008"),
    ],
)
def test_order_is_erased_at_its_own_address(account: str, merchant: str | UnsetType, order: str, path: str) -> None:
    assert pages.erase_path(shapes.match(scopes.joined(account, merchant), order)) == path
