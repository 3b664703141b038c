"""The sandbox's pages: HTML files with `$names` in them, beside this module.

Every value is escaped on its way in; what is already HTML comes as `Fragment`, and only this module makes those. The
pages load nothing from anywhere else and run no script that stands in the page itself, and say so in their policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from string import Template

from aiohttp import web

_DIRECTORY = Path(__file__).parent / "pages"
_TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript"}
# A form may lead on to another host (the shop's button ends at the gateway), so forms are not restricted.
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Fragment(str):
    """Text that is HTML already."""

    __slots__ = ()


def fragment(name: str, values: Mapping[str, str]) -> Fragment:
    """A file's HTML with the values in it.

    Raises:
        KeyError: the file names a value that is not given.
    """
    escaped = {key: value if isinstance(value, Fragment) else escape(value) for key, value in values.items()}
    return Fragment(_template(name).substitute(escaped))


def joined(fragments: Iterable[Fragment]) -> Fragment:
    """Several pieces one after another."""
    return Fragment("".join(fragments))


def page(name: str, values: Mapping[str, str], *, title: str, skin: str, status: int = 200) -> web.Response:
    """A whole page; `skin` is whose it is, the shop's or the cashier's."""
    inner = fragment(name, values)
    html = fragment("frame.html", {"title": title, "skin": skin, "content": inner})
    return web.Response(text=html, content_type="text/html", headers=dict(_HEADERS), status=status)


async def asset(request: web.Request) -> web.Response:
    """A stylesheet or script. Only the files that are there can be named."""
    name = request.match_info["name"]
    path = _DIRECTORY / name
    if path.suffix not in _TYPES or path.parent != _DIRECTORY or not path.is_file():
        raise web.HTTPNotFound
    return web.Response(text=_text(name), content_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})


@lru_cache
def _text(name: str) -> str:
    return (_DIRECTORY / name).read_text("utf-8")


@lru_cache
def _template(name: str) -> Template:
    return Template(_text(name))
