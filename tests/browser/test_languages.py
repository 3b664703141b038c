"""The pages in the language and the zone of a reader: chosen by a link, remembered, and kept while a page changes."""

from playwright.async_api import Dialog

from tests.support.admin import TOKEN, World, form, serving
from tests.support.browser import browsing, needs_browser, sign_in_path
from tests.unit.workers.admin.test_sentences import IN_PARTS, SENTENCES

pytestmark = needs_browser


async def test_language_is_changed_by_a_link_and_remembered() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client, browsing() as page:
        await page.goto(str(client.make_url("/orders?status=PAID")))
        assert await page.text_content("h1") == "Orders"
        await page.click("footer a:text('中文')")
        await page.wait_for_selector("h1:text('订单')")
        assert "status=PAID" in page.url
        await page.click("nav a[href='/held']")
        await page.wait_for_selector("h1:text('搁置的通知')")
        assert await page.get_attribute("html", "lang") == "zh-CN"


async def test_scripts_speak_the_language_of_the_page() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    asked: list[str] = []
    async with serving(world) as client, browsing(language="zh-CN", password=TOKEN) as page:

        async def answered(dialog: Dialog) -> None:
            asked.append(dialog.message)
            await dialog.accept()

        page.on("dialog", answered)
        await page.goto(str(client.make_url("/tail")))
        await page.wait_for_selector("#following:text('实时更新中')")
        await world.deliver(form("A2"))
        await page.wait_for_selector("#lines tr:has(a:text('A2')) .tag:text('已生效 applied')")
        await page.goto(str(client.make_url(sign_in_path(f"/held/{position}"))))
        await page.fill("input[name=reason]", "测试")
        await page.click("button[value=replay]")
        await page.wait_for_function("() => document.querySelector('output').textContent.includes('等待订单 B1')")
        await page.click("button[value=discard]")
        await page.wait_for_function("() => document.querySelector('output').textContent.includes('已丢弃')")
        await page.wait_for_selector(".good-note:text('已处理')")
        assert await page.evaluate("texts => texts.map(said)", IN_PARTS) == [*map(SENTENCES.of, IN_PARTS)]
    assert asked == ["丢弃这条通知？此操作不可撤销。"]


async def test_reader_elsewhere_sees_the_own_time_beside_alipay_s() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client, browsing(zone="Europe/Berlin") as page:
        await page.goto(str(client.make_url("/orders/shop/A1")))
        # 16:53:20 of Alipay's is 10:53:20 in Berlin, in summer.
        stamp = page.locator("#timeline > ol > li > time").first
        await stamp.locator(".own").wait_for()
        assert (await stamp.inner_text()).split() == ["16:53:20.000", "2025-10-09", "10:53:20", "UTC+2"]
        await page.wait_for_function("() => document.querySelector('#zone').textContent.includes('UTC+')")
        await world.deliver(form("A1", notify_id="again"))  # the list is drawn anew
        await page.wait_for_function("() => document.querySelectorAll('#timeline > ol > li > time .own').length > 1")
    async with serving(world) as client, browsing(zone="Asia/Shanghai") as page:
        await page.goto(str(client.make_url("/orders/shop/A1")))
        await page.wait_for_selector("time[data-zoned]")
        assert await page.locator(".own").count() == 0
        assert await page.text_content("#zone") == ""
