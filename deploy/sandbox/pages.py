"""The sandbox's pages: Jinja templates and assets in the directory `pages` beside this module.

Values are escaped and a missing value is an error. A page loads only the sandbox's own assets and runs no inline
script; its policy header makes browsers enforce that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from workers.admin import languages, responses, texts
from workers.admin import pages as console_pages
from workers.admin.texts import Language, Texts

_DIRECTORY = Path(__file__).parent / "pages"
_TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript"}
# `form-action` is absent because a form may lead to another host: the shop's button ends at the gateway.
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_CHINESE = texts.translations(_DIRECTORY / "chinese.toml")
_SCRIPTS = {
    "reader.js": console_pages.reader_script(),
    f"texts-{Language.CHINESE}.js": console_pages.script_of(_CHINESE),
}


def _environment(spoken: Texts) -> Environment:
    """Return the templates in a language."""
    environment = Environment(
        loader=FileSystemLoader(_DIRECTORY),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"t": spoken.of, "w": spoken.word, "both": partial(_both, spoken)}
    return environment


def _both(spoken: Texts, text: str) -> Markup:
    """Return a text as Alipay's own pages have it for visitors: in English with the Chinese beside it."""
    if spoken.language is Language.CHINESE:
        return spoken.of(text)
    return Markup('{} <span lang="zh">{}</span>').format(text, _CHINESE[text])


_TEMPLATES = {
    Language.ENGLISH: _environment(texts.ENGLISH),
    Language.CHINESE: _environment(Texts(Language.CHINESE, _CHINESE)),
}


def fragment(name: str, **values: Any) -> web.Response:
    """Return a part of a page, for a script to insert.

    Raises:
        UndefinedError: the template needs a value that is not given.
    """
    html = _TEMPLATES[languages.reader().language].get_template(name).render(values)
    return web.Response(text=html, content_type="text/html", headers={"Cache-Control": "no-store"})


def page(name: str, *, title: str, skin: str, status: int = 200, **values: Any) -> web.Response:
    """Return a whole page. `skin` selects the style: `shop`, `cashier` or `home`.

    Raises:
        UndefinedError: the template needs a value that is not given.
    """
    reader = languages.reader()
    template = _TEMPLATES[reader.language].get_template(name)
    html = template.render(values, title=title, skin=skin, language=reader.language, languages=reader.links)
    return web.Response(text=html, content_type="text/html", headers=dict(_HEADERS), status=status)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an error as a page, if a browser asks for one; programs get the text."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400 or not responses.asks_for_html(request):
            raise
        why = "There is no such page." if error.text == "404: Not Found" else (error.text or error.reason).strip()
        return page("sorry.html", title="Sandbox", skin="home", status=error.status, why=why)


async def asset(request: web.Request) -> web.Response:
    """Return a stylesheet or script. Names of other files answer 404."""
    name = request.match_info["name"]
    if name in _SCRIPTS:
        return web.Response(
            body=_SCRIPTS[name], content_type=_TYPES[".js"], charset="utf-8", headers={"Cache-Control": "no-cache"}
        )
    path = _DIRECTORY / name
    if path.suffix not in _TYPES or path.parent != _DIRECTORY or not path.is_file():
        raise web.HTTPNotFound
    text = path.read_text("utf-8")
    return web.Response(text=text, content_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
