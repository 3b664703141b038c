"""The languages of the pages: the reader's choice, and the texts in each.

The texts stand in the templates and scripts in English, as the argument of `t`. The file `chinese.toml` beside the
templates has the Chinese of each; a text that it lacks is shown in English. `w` does the same for a value of the
program, such as a status.

The language is named by `?lang=`, which a cookie remembers; else by Accept-Language.
"""

import string
import tomllib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import StrEnum
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler
from markupsafe import Markup
from msgspec import Struct

PARAMETER = "lang"
COOKIE = "alipay_notify_lang"
REMEMBERED_S = 365 * 24 * 3600


class Language(StrEnum):
    """A language of the pages, by its tag in HTML."""

    ENGLISH = "en"
    CHINESE = "zh-CN"


NAMES = {Language.ENGLISH: "English", Language.CHINESE: "中文"}


class LanguageLink(Struct, frozen=True, kw_only=True):
    """A link to the same page in a language."""

    language: Language
    name: str
    href: str


class Reader(Struct, frozen=True, kw_only=True):
    """The language that the reader of a page wants, and links to the page in each."""

    language: Language = Language.ENGLISH
    links: Sequence[LanguageLink] = ()


_ENGLISH_READER = Reader()
_READER: ContextVar[Reader] = ContextVar("reader", default=_ENGLISH_READER)


def reader() -> Reader:
    """Return the reader of the request in hand."""
    return _READER.get()


@web.middleware
async def choose(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the reader for the pages of this request; a cookie remembers a choice by `?lang=`."""
    named = _named(request.query.get(PARAMETER, ""))
    language = named or _named(request.cookies.get(COOKIE, "")) or accepted(request.headers.get("Accept-Language", ""))
    _READER.set(Reader(language=language, links=_links(request)))
    response = await handler(request)
    if response.content_type == "text/html" and not response.prepared:
        response.headers["Content-Language"] = language
        if named is not None:
            response.set_cookie(COOKIE, named, max_age=REMEMBERED_S, httponly=True, samesite="Lax")
    return response


def accepted(header: str) -> Language:
    """Return the first language of an Accept-Language header that there is, by its weight; English if there is none."""
    weighed: list[tuple[float, Language]] = []
    for each in header.split(","):
        tag, _, parameter = each.partition(";")
        language, weight = _named(tag), _weight(parameter)
        if language is not None and weight > 0:
            weighed.append((weight, language))
    return max(weighed, key=lambda each: each[0])[1] if weighed else Language.ENGLISH


def _named(tag: str) -> Language | None:
    """Return the language of a tag, by its first part: `zh`, `zh-CN` and `zh-Hans-SG` are all Chinese."""
    first = tag.strip().lower().replace("_", "-").partition("-")[0]
    return {"en": Language.ENGLISH, "zh": Language.CHINESE}.get(first)


def _weight(parameter: str) -> float:
    name, _, text = parameter.strip().partition("=")
    try:
        return float(text) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def _links(request: web.Request) -> list[LanguageLink]:
    # Only a query, so that no path of a request can make a link to another host.
    rest = [(name, value) for name, value in request.query.items() if name != PARAMETER]
    return [
        LanguageLink(language=language, name=name, href=f"?{urlencode([*rest, (PARAMETER, language)])}")
        for language, name in NAMES.items()
    ]


class Texts:
    """The texts of one language."""

    def __init__(self, language: Language, translated: Mapping[str, str]) -> None:
        self.language = language
        self._translated = translated

    def of(self, text: str, **values: Any) -> Markup:
        """Return a page's own text as HTML, with the values escaped. It must not come from outside."""
        return Markup(self._translated.get(text, text)).format(**values)  # noqa: S704

    def word(self, value: str) -> str:
        """Return a value of the program, translated if there is a text for it; it is not HTML."""
        return self._translated.get(value, value)


ENGLISH = Texts(Language.ENGLISH, {})


def translations(file: Traversable) -> dict[str, str]:
    """Return the texts of a file, by their English.

    Raises:
        ValueError: the file has another form, or a text has other placeholders than its translation.
    """
    found: dict[str, str] = tomllib.loads(file.read_text("utf-8"))
    for english, translated in found.items():
        if placeholders(english) != placeholders(translated):
            raise ValueError(f"other placeholders in the translation of {english!r}")
    return found


def placeholders(text: str) -> set[tuple[str, str]]:
    """Return the names in braces, each with its format."""
    return {(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name is not None}
