"""The language of a page: named by `?lang=`, which a cookie remembers, else by the header Accept-Language."""

from collections.abc import Sequence
from contextvars import ContextVar
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from workers.admin.texts import NAMES, Language

PARAMETER = "lang"
COOKIE = "alipay_notify_lang"
REMEMBERED_S = 365 * 24 * 3600


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
