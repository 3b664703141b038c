"""The sandbox's pages: escaped, complete, and without foreign content."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError

from deploy.sandbox import cashier, pages, scenario, scenario_files, shop
from tests.support import page_texts
from tests.support.paths import ROOT
from tests.unit.deploy.sandbox.town import Town

TEMPLATES = sorted(pages._DIRECTORY.glob("*.html"))
READER = ROOT / "workers/admin/templates/reader.js"  # the console has it too
SCRIPTS = sorted(pages._DIRECTORY.glob("*.js"))


@pytest.mark.parametrize(
    "path", ["/cashier/nothing", "/shop/orders/..%2f..%2fx", "/assets/..%2fserver.py", "/assets/frame.html", "/nowhere"]
)
async def test_unknown_paths_and_files_answer_404(town: Town, path: str) -> None:
    await town.buyer.go(path)
    assert town.buyer.status == 404


async def test_pages_load_only_their_own_assets(town: Town) -> None:
    for path in ("/", "/shop", "/shop/orders/T-1"):
        page = await town.buyer.go(path)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
        async with town.buyer.http.get(town.buyer.base + path) as response:
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    for asset in set(re.findall(r'"(/assets/[a-z.]+)"', page)):
        await town.buyer.go(asset)
        assert town.buyer.status == 200


def test_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="why"):
        pages.page("sorry.html", title="t", skin="shop")


def test_values_are_escaped_in_text_and_in_attributes() -> None:
    text = pages.page("sorry.html", title="<t>", skin='"x', why="<b>&'").text
    assert text is not None
    assert "<title>&lt;t&gt;</title>" in text
    assert 'class="&#34;x"' in text
    assert '<p lang="en">&lt;b&gt;&amp;&#39;</p>' in text


@pytest.mark.parametrize("name", [path.name for path in TEMPLATES])
def test_every_template_is_valid(name: str) -> None:
    for templates in pages._TEMPLATES.values():
        templates.get_template(name)


def test_every_text_of_the_pages_has_a_translation_and_none_is_left_over() -> None:
    assert {path.name: words for path in TEMPLATES if (words := page_texts.outside(path))} == {}
    asked = page_texts.of_templates(TEMPLATES) | page_texts.of_scripts([*SCRIPTS, READER])
    for families, group in scenario.grouped(scenario_files.load_all().values()).items():
        asked |= {families, *(text for each in group for text in (each.title, each.tells))}
    asked |= set(cashier.ENDINGS.values()) | set(shop._RETURN_NOTES.values()) | {shop._SHOP, shop._PRODUCT}
    assert asked - pages._CHINESE.keys() == set()
    modules = "".join(path.read_text("utf-8") for path in pages._DIRECTORY.parent.glob("*.py"))
    assert [text for text in pages._CHINESE.keys() - asked if f'"{text}' not in modules] == []


async def test_pages_speak_the_reader_s_language(town: Town) -> None:
    chinese = {"Accept-Language": "zh-CN", "Accept": "text/html"}
    for path, text in (
        ("/", "模拟支付宝"),
        ("/shop", "博物馆两日通票"),
        ("/app", "订单串"),
        ("/nowhere", "没有这个页面"),
    ):
        async with town.buyer.http.get(town.buyer.base + path, headers=chinese) as response:
            page = await response.text()
        assert '<html lang="zh-CN">' in page
        assert text in page
    async with town.buyer.http.get(f"{town.buyer.base}/shop?lang=en", headers=chinese) as response:
        assert 'Pay with Alipay <span lang="zh">支付宝付款</span>' in await response.text()
        assert response.cookies["alipay_notify_lang"].value == "en"


async def test_error_is_a_page_for_a_browser_and_a_text_for_a_program(town: Town) -> None:
    for accept, kind in (("text/html", "text/html"), ("*/*", "text/plain")):
        async with town.buyer.http.get(f"{town.buyer.base}/cashier/nothing", headers={"Accept": accept}) as response:
            assert (response.status, response.content_type) == (404, kind)
            assert "does not know this payment" in await response.text()
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site"}
    async with town.buyer.http.post(f"{town.buyer.base}/scenarios", headers=headers) as response:
        assert response.status == 403
        assert "<h1>" in await response.text()
