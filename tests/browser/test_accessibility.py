"""Every page of the console, judged by axe-core, in light and dark, on a desk and on a phone; and by keyboard."""

import pytest
from msgspec import structs

from tests.support.admin import TOKEN, Refused, World, form, serving
from tests.support.browser import browsing, needs_browser, sign_in_path, violations
from tests.support.keys import NEW, OLD, used, with_changes
from tests.unit.workers.admin.test_bills import DIFFERENCE, finished
from workers.admin.key_rings import MerchantKeyInUse
from workers.admin.links import OutsideLinks

pytestmark = needs_browser
REPORT = {
    "counts": {"payment_only_in_bill": 2, "uncertain": 1},
    "unreadable": 1,
    "faults": ["line 7: 'abc' is not an amount"],
    "others": {"其他": 3},
    "sums": [{"kind": "refund", "currency": "USD", "bill_count": 2, "bill_minor": 5, "here_count": 0, "here_minor": 0}],
}


async def town() -> tuple[World, list[str]]:
    """A world with something of everything, and the paths of all kinds of pages."""
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    applied = await world.deliver(form("A1"))
    quarantined = await world.deliver(form("A1", notify_id="n2", total_fee="0.01"))
    parked = await world.deliver(form("B1"), "strict")
    await world.deliver_raw(b"nonsense", "B2", "strict")
    claim = await world.deliver(form("A1", subject="S&total_fee=9", notify_id="c"))
    noted = await world.deliver(form("", notify_type="dut_user_unsign", notify_id="m1", agreement_no="G1"))
    await world.deliver(form("", notify_type="dut_user_sign", notify_id="m2", agreement_no="G1"))
    world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))
    async with serving(world) as client:
        await client.put("/api/orders/strict/B1", json={"amount": "12.80"})
        await client.post(f"/api/held/{parked}/replay", json={"reason": "registered"})
        await client.post("/api/held/replays", json={"reason": "all", "rate": 1})
        await finished(client, DIFFERENCE, DIFFERENCE | {"order": "A1", "is_known": True}, report=REPORT)
    used(world.key_uses, "old.pem", 30)
    used(world.key_uses, "new.pem", 1)
    world.keys.rings["shop"] = (OLD, structs.replace(NEW, fingerprint=""))
    with_changes(world.keys, "strict", merchant_key=MerchantKeyInUse(fault="own.key cannot be read"))
    world.accounts_faults = ["account shop: key.pem cannot be read"]
    world.links = OutsideLinks(runbooks="https://wiki.example/runbooks", grafana="https://grafana.example")
    return world, [
        "/",
        "/orders",
        "/orders?status=PAID&amount_min=x&currency=USD",
        "/orders/shop/A1",
        "/orders/strict/B1",
        "/held",
        "/held?resolved=true",
        "/tail",
        "/tail?kind=settled&outcome=applied",
        "/tail?kind=nothing",
        f"/held/{quarantined}",
        f"/held/{claim}",
        f"/notifications/{noted}",
        f"/notifications/{applied}",
        "/find?number=G1",
        "/find?number=nothing",
        "/keys",
        "/audit",
        "/callbacks?endpoint=hooks",
        "/bills",
        "/bills/1",
        "/nowhere",
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1360), ("dark", 1360), ("light", 390)])
async def test_axe_finds_nothing_wrong_on_any_page(scheme: str, width: int) -> None:
    world, paths = await town()
    async with serving(world) as client, browsing(excused="status of 4", password=TOKEN) as page:
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        await page.set_viewport_size({"width": width, "height": 900})
        await page.goto(str(client.make_url(sign_in_path("/held"))))
        await page.check("#all")
        await page.fill("#many input[name=reason]", "tests")
        await page.click("#many button[value=discard]:not([data-all])")
        await page.wait_for_selector("dialog[open]")
        found = {"a preview": await violations(page)}
        for path in paths:
            await page.goto(str(client.make_url(path)))
            for details in await page.locator("main details").all():
                await details.evaluate("each => { each.open = true; }")
            assert await page.title() != " · alipay-notify"
            found[path] = await violations(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


async def test_axe_finds_nothing_wrong_in_chinese() -> None:
    world, paths = await town()
    async with serving(world) as client, browsing(excused="status of 4", password=TOKEN, language="zh-CN") as page:
        await page.goto(str(client.make_url(sign_in_path("/"))))
        for path in ("/", paths[3], paths[10], "/held", "/audit", "/keys", "/nowhere"):
            await page.goto(str(client.make_url(path)))
            assert await page.get_attribute("html", "lang") == "zh-CN"
            assert await violations(page) == [], path


async def test_first_key_skips_to_the_content() -> None:
    world, _ = await town()
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/held")))
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"


async def test_unknown_page_leads_back() -> None:
    async with serving(World()) as client, browsing(excused="404") as page:
        await page.goto(str(client.make_url("/held/zzz")))
        assert await page.text_content("h1") == "There is nothing here"
        await page.click("main a[href='/held']")
        await page.wait_for_url("**/held")
