"""The language of a page: the reader's choice."""

import re

import pytest

from tests.support.admin import TOKEN, World, form, serving
from workers.admin import languages
from workers.admin.languages import COOKIE
from workers.admin.texts import NAMES


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("zh", "zh-CN"),
        ("zh-Hans-SG", "zh-CN"),
        ("en-GB,en;q=0.9,zh-CN;q=0.8", "en"),
        ("en;q=0.2, zh-CN;q=0.7", "zh-CN"),
        ("fr,de;q=0.9,zh;q=0.1", "zh-CN"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=x", "en"),
        ("zhuang, *", "en"),
        (";;,,;q=1,", "en"),
    ],
)
def test_accept_language_decides_by_weight(header: str, language: str) -> None:
    assert languages.accepted(header) == language


async def test_choice_is_remembered_and_goes_before_the_browser_s_language() -> None:
    async with serving(World()) as client:
        plain = await client.get("/")
        assert '<html lang="en">' in await plain.text()
        chosen = await client.get("/?lang=zh-CN", headers={"Accept-Language": "en"})
        assert '<html lang="zh-CN">' in await chosen.text()
        assert chosen.headers["Content-Language"] == "zh-CN"
        cookie = chosen.cookies[COOKIE]
        assert (cookie.value, cookie["httponly"], cookie["samesite"]) == ("zh-CN", True, "Lax")
        kept = await client.get("/held", headers={"Cookie": f"{COOKIE}=zh-CN", "Accept-Language": "en"})
        assert "搁置的通知" in await kept.text()
        back = await client.get("/held?lang=en", headers={"Cookie": f"{COOKIE}=zh-CN"})
        assert "Held notifications" in await back.text()
    async with serving(World()) as client:
        unknown = await client.get("/?lang=<script>", headers={"Accept-Language": "zh"})
        assert '<html lang="zh-CN">' in await unknown.text()
        assert COOKIE not in unknown.cookies


async def test_language_is_no_filter_and_its_links_keep_the_filter() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        text = await (await client.get("/orders?status=PAID&lang=zh")).text()
    assert 'href="?status=PAID&amp;lang=en"' in text
    assert len(re.findall("[?;]lang=", text)) == len(NAMES)
    assert 'href="/orders.csv?status=PAID"' in text


async def test_errors_are_explained_in_the_reader_s_language() -> None:
    headers = {"Accept": "text/html", "Accept-Language": "zh-CN"}
    async with serving(World(), token=TOKEN, carried=None, reads_need_token=True) as client:
        refused = await client.get("/held", headers=headers)
        assert refused.status == 401
        assert "请先登录" in await refused.text()
    async with serving(World()) as client:
        for path in ("/nowhere", "/held/zzz"):
            text = await (await client.get(path, headers=headers)).text()
            assert "这里没有内容" in text
            assert '<html lang="zh-CN">' in text
        answer = await client.get("/api/held/zzz", headers={"Accept-Language": "zh-CN"})
        assert answer.content_type == "application/json"
        assert (await answer.text()).isascii()
