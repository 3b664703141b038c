"""The sandbox's pages: Jinja templates and assets in the directory `pages` beside this module.

Values are escaped and a missing value is an error. A page loads only the sandbox's own assets and runs no inline
script; its policy header makes browsers enforce that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_DIRECTORY = Path(__file__).parent / "pages"
_TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript"}
# `form-action` is absent because a form may lead to another host: the shop's button ends at the gateway.
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TEMPLATES = Environment(
    loader=FileSystemLoader(_DIRECTORY),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def fragment(name: str, **values: Any) -> web.Response:
    """Return a part of a page, for a script to insert.

    Raises:
        UndefinedError: the template needs a value that is not given.
    """
    html = _TEMPLATES.get_template(name).render(values)
    return web.Response(text=html, content_type="text/html", headers={"Cache-Control": "no-store"})


def page(name: str, *, title: str, skin: str, status: int = 200, **values: Any) -> web.Response:
    """Return a whole page. `skin` selects the style: `shop`, `cashier` or `home`.

    Raises:
        UndefinedError: the template needs a value that is not given.
    """
    html = _TEMPLATES.get_template(name).render(values, title=title, skin=skin)
    return web.Response(text=html, content_type="text/html", headers=dict(_HEADERS), status=status)


async def asset(request: web.Request) -> web.Response:
    """Return a stylesheet or script. Names of other files answer 404."""
    name = request.match_info["name"]
    path = _DIRECTORY / name
    if path.suffix not in _TYPES or path.parent != _DIRECTORY or not path.is_file():
        raise web.HTTPNotFound
    text = path.read_text("utf-8")
    return web.Response(text=text, content_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})
