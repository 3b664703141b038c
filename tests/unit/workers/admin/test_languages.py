"""The languages of the pages: the reader's choice, and a translation of every text."""

import ast
import re
from importlib import resources
from pathlib import Path

import pytest
from markupsafe import Markup

from schemas.dispositions import Disposition, Flag, Reason
from schemas.notification import Kind, NumberKind
from schemas.orders import Status
from tests.support import page_texts
from tests.support.admin import TOKEN, World, form, serving
from tests.support.paths import ROOT
from workers.admin import languages, pages, reason_texts
from workers.admin.languages import COOKIE, Language, Texts
from workers.audit import ACTIONS
from workers.tail import TailKind

TEMPLATES = ROOT / "workers/admin/templates"
CHINESE = languages.translations(resources.files("workers.admin").joinpath("templates", "chinese.toml"))
PAGES = ("/", "/orders", "/orders/shop/A1", "/held", "/held/0-2", "/notifications/0-1", "/tail", "/keys", "/audit")


def files(*endings: str) -> list[Path]:
    return sorted(path for path in TEMPLATES.iterdir() if path.suffix in endings)


def words() -> set[str]:
    """The texts that the program gives to the templates."""
    tables: list[str] = [*reason_texts.REASONS.values(), *reason_texts.FLAGS.values(), *map(str, pages.TITLES.values())]
    tables += [*pages.MEANINGS.values(), pages.REFUSED, *(name for _, name in pages.NAVIGATION)]
    tables += [
        *Disposition,
        *Status,
        *TailKind,
        *(str(each).replace("_", " ") for each in (*Kind, *NumberKind)),
        *(action.replace("_", " ") for action in ACTIONS),
    ]
    return set(tables)


def test_every_text_of_the_templates_stands_in_t() -> None:
    assert {path.name: words for path in files(".html") if (words := page_texts.outside(path))} == {}


def test_every_text_of_the_pages_has_a_translation() -> None:
    asked = page_texts.of_templates(files(".html")) | page_texts.of_scripts(files(".js")) | words()
    assert len(asked) > 300
    assert asked - CHINESE.keys() == set()


def test_no_translation_is_left_over() -> None:
    """A text is used by a template, by a script, or by a module as a whole string."""
    modules = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "workers").rglob("*.py")]
    modules += [ast.parse(path.read_text("utf-8")) for path in (ROOT / "schemas").glob("*.py")]
    strings = {node.value for tree in modules for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    strings |= {each.replace("_", " ") for each in strings if isinstance(each, str)}
    used = page_texts.of_templates(files(".html")) | page_texts.of_scripts(files(".js")) | words() | strings
    used |= page_texts.strings_of_templates(files(".html"))
    assert CHINESE.keys() - used == set()


def test_translations_keep_placeholders_and_tags() -> None:
    tags = re.compile(r"<[^>]+>")
    assert [
        english for english, text in CHINESE.items() if sorted(tags.findall(english)) != sorted(tags.findall(text))
    ] == []
    assert [english for english, text in CHINESE.items() if not text.strip() or '"' in text] == []


def test_translation_with_other_placeholders_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "chinese.toml"
    file.write_text('"{count} held" = "{number} 条"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="placeholders"):
        languages.translations(file)


def test_values_are_escaped_and_the_text_is_not() -> None:
    texts = Texts(Language.CHINESE, {"<b>by</b> {name}": "<b>由</b> {name}"})
    assert texts.of("<b>by</b> {name}", name="<i>") == Markup("<b>由</b> &lt;i&gt;")
    assert texts.of("unknown {name}", name=Markup("<i>")) == "unknown <i>"
    assert not isinstance(texts.word("<script>"), Markup)


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
    assert len(re.findall("[?;]lang=", text)) == len(languages.NAMES)
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


async def test_no_page_in_chinese_lacks_a_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: set[str] = set()

    def of(self: Texts, text: str, **values: object) -> Markup:
        if self.language is Language.CHINESE and text not in CHINESE:
            missing.add(text)
        return Markup(CHINESE.get(text, text)).format(**values)

    monkeypatch.setattr(Texts, "of", of)
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A1", notify_id="n2", total_fee="0.01"))
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        for path in PAGES:
            answer = await client.get(path, headers={"Accept-Language": "zh-CN"})
            assert answer.status == 200, path
            assert '<html lang="zh-CN">' in await answer.text()
    assert missing == set()


def test_every_reason_and_flag_is_explained_in_chinese() -> None:
    texts = [*map(reason_texts.REASONS.__getitem__, Reason), *map(reason_texts.FLAGS.__getitem__, Flag)]
    assert [text for text in texts if CHINESE[text] == text] == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<p>Held {{ count }}</p>", ["Held"]),
        ('<input placeholder="Why">', ["Why"]),
        ('<p class="good">{{ "yes" if ready else t("no") }}</p>', ["yes"]),
        ('<p class="{{ "good" if ready else "bad" }}">{{ t("Held") }}<code>alipay</code></p>', []),
        ("<p>{{ value or 'none' }}</p>", ["none"]),
        ("<th aria-label=\"{{ 'Held' }}\"></th>", ["Held"]),
    ],
)
def test_forgotten_text_is_found(template: str, found: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(template, encoding="utf-8")
    assert page_texts.outside(path) == found
