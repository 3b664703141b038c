"""The sandbox's pages: escaped, complete, and without foreign content."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError

from deploy.sandbox import pages
from tests.unit.deploy.sandbox.town import Town


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
    assert "<p>&lt;b&gt;&amp;&#39;</p>" in text


@pytest.mark.parametrize("name", [path.name for path in sorted(pages._DIRECTORY.glob("*.html"))])
def test_every_template_is_valid(name: str) -> None:
    pages._TEMPLATES.get_template(name)
