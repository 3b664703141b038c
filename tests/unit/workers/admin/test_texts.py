"""The texts of the pages: each of them has a translation, and none is left over."""

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
from tests.support.admin import World, form, serving
from tests.support.paths import ROOT
from workers.admin import pages, reason_texts, texts
from workers.admin.texts import Language, Texts
from workers.audit import ACTIONS
from workers.tail import TailKind

TEMPLATES = ROOT / "workers/admin/templates"
CHINESE = texts.translations(resources.files("workers.admin").joinpath("templates", "chinese.toml"))
PAGES = (
    "/",
    "/orders",
    "/orders/shop/A1",
    "/held",
    "/held/0-2",
    "/notifications/0-1",
    "/tail",
    "/keys",
    "/audit",
    "/callbacks?endpoint=hooks",
)


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
        texts.translations(file)


def test_values_are_escaped_and_the_text_is_not() -> None:
    chinese = Texts(Language.CHINESE, {"<b>by</b> {name}": "<b>由</b> {name}"})
    assert chinese.of("<b>by</b> {name}", name="<i>") == Markup("<b>由</b> &lt;i&gt;")
    assert chinese.of("unknown {name}", name=Markup("<i>")) == "unknown <i>"
    assert not isinstance(chinese.word("<script>"), Markup)


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
    explained = [*map(reason_texts.REASONS.__getitem__, Reason), *map(reason_texts.FLAGS.__getitem__, Flag)]
    assert [text for text in explained if CHINESE[text] == text] == []


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
