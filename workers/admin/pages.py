"""The frame of the console's pages: their templates, their headers, and the notices that each of them shows.

Pages are rendered on the server with every value escaped. They load nothing from elsewhere, and no script but our own.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import UnsetType

from schemas import scopes
from workers.admin import languages, page_times, reason_texts, sign_in, texts
from workers.admin.responses import ApiError
from workers.admin.sentences import SentenceForm, Sentences
from workers.admin.texts import Language, Texts

FAULTS_SHOWN = 5  # of the accounts' files; /readyz?verbose has all
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TITLES = {
    400: "The request has a fault",
    401: "Sign in first",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This cannot be opened",
    500: "This program has failed",
    503: "There is no answer now",
}
REFUSED = "The request was refused"  # with another status
# The meaning of each code of an error, for readers of another language: its detail is in English.
MEANINGS = {
    "bad_request": "A parameter of the request is wrong.",
    "no_token": "The admin token is missing or wrong. In a browser it is the password, with any name.",
    "another_name": "This token is that of another person.",
    "cross_site": "A page of another site may not write here.",
    "foreign_name": "This console is not known by the host name in the address.",
    "unknown_order": "There is no such order.",
    "unknown_account": "There is no such account in accounts.toml.",
    "unknown_endpoint": "There is no such endpoint in callbacks.toml.",
    "unknown_bill": "There is no such import of a bill.",
    "unknown_held": "There is no such held notification.",
    "unknown_notification": "There is no such notification.",
    "unknown_path": "There is no such page.",
    "method": "This address does not take this kind of request.",
    "our_fault": "See the log line admin_failed.",
    "unavailable": "The order store does not answer.",
    "too_many_waiters": "Too many pages are waiting for changes.",
    "read_too_slow": "The answer took too long. Ask for less.",
}
ASSETS = {
    "style.css": "text/css",
    "reader.js": "text/javascript",
    "script.js": "text/javascript",
    "tail.js": "text/javascript",
}
NAVIGATION = (
    ("/", "Now"),
    ("/orders", "Orders"),
    ("/held", "Held"),
    ("/tail", "Tail"),
    ("/callbacks", "Callbacks"),
    ("/bills", "Bills"),
    ("/keys", "Keys"),
    ("/audit", "Audit"),
)  # path and name of each page in the bar at the top


class ConsoleFrame:
    """Renders the templates."""

    def __init__(self, *, accounts_faults: Callable[[], Sequence[str]], now_ms: Callable[[], int]) -> None:
        self._accounts_faults = accounts_faults
        self._now_ms = now_ms
        chinese = Texts(Language.CHINESE, texts.translations(_file("chinese.toml")))
        sentences = Sentences(texts.translations(_file("chinese_sentences.toml")), chinese.word)
        self._assets = {name: _file(name).read_bytes() for name in ASSETS}
        self._assets[f"texts-{Language.CHINESE}.js"] = script_of(chinese.translated, sentences.forms)
        self._templates = {
            Language.ENGLISH: _environment(texts.ENGLISH, str),
            Language.CHINESE: _environment(chinese, sentences.of),
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/console/{asset}", self.asset)]

    def page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """Return the rendered template; `seen` among its values is the count of changes that it shows."""
        faults = self._accounts_faults()
        shown, more = faults[:FAULTS_SHOWN], max(0, len(faults) - FAULTS_SHOWN)
        return self._rendered(template, status, accounts_faults=shown, faults_more=more, **values)

    def error(self, error: ApiError) -> web.Response:
        """Return the page of an error. It tells nothing of the accounts, because anybody may get it."""
        return self._rendered(
            "error.html",
            error.status,
            accounts_faults=(),
            faults_more=0,
            seen=None,
            title=TITLES.get(error.status, REFUSED),
            meaning=MEANINGS.get(error.code, ""),
            status=error.status,
            code=error.code,
            detail=error.detail,
        )

    def _rendered(self, template: str, http_status: int, **values: Any) -> web.Response:
        reader = languages.reader()
        text = (
            self._templates[reader.language]
            .get_template(template)
            .render(
                now=datetime.fromtimestamp(self._now_ms() / 1000, UTC),
                language=reader.language,
                languages=reader.links,
                visitor=sign_in.visitor(),
                **values,
            )
        )
        return web.Response(text=text, content_type="text/html", status=http_status, headers=SECURITY)

    async def asset(self, request: web.Request) -> web.Response:
        """Return the style sheet or the script."""
        name = request.match_info["asset"]
        if name not in self._assets:
            raise web.HTTPNotFound
        headers = SECURITY | {
            "Content-Type": f"{ASSETS.get(name, 'text/javascript')}; charset=utf-8",
            "Cache-Control": "no-cache",
        }
        return web.Response(body=self._assets[name], headers=headers)


class NamesOrder(Protocol):
    """A shape that names an order; `auth_app_id` may be unset."""

    @property
    def account(self) -> str: ...
    @property
    def auth_app_id(self) -> str | UnsetType: ...
    @property
    def order(self) -> str: ...


class Given(dict[str, str]):
    """The parameters of a filter that have a value; any other is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def given(request: web.Request) -> Given:
    """Return the parameters of a request's query, without empty ones and without the language."""
    return Given({name: text for name, text in request.query.items() if text.strip() and name != languages.PARAMETER})


def readable(body_base64: str) -> str:
    """Return bytes as ASCII, with all others written as escapes."""
    body = base64.b64decode(body_base64)
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in body)


def path(text: str) -> str:
    """Return the text as one part of a path."""
    return quote(text, safe="")


def order_path(named: NamesOrder) -> str:
    """Return the path of the page of the order that a shape names."""
    found = f"/orders/{path(named.account)}/{path(named.order)}"
    return f"{found}?auth_app_id={path(named.auth_app_id)}" if named.auth_app_id else found


def erase_path(named: NamesOrder) -> str:
    """Return the path of the API that erases the order that a shape names."""
    found = f"/api/orders/{path(named.account)}/{path(named.order)}/erase"
    return f"{found}?auth_app_id={path(named.auth_app_id)}" if named.auth_app_id else found


def audit_path(named: NamesOrder) -> str:
    """Return the path of the audit rows of the order that a shape names."""
    scope = scopes.joined(named.account, named.auth_app_id)
    return f"/audit?{urlencode({'subject': f'{scope}:{named.order}'})}"


def reader_script() -> bytes:
    """Return the script that the sandbox's pages share: texts in the page's language, and the viewer's time."""
    return _file("reader.js").read_bytes()


def script_of(translated: Mapping[str, str], sentences: Sequence[SentenceForm] = ()) -> bytes:
    """Return the script that gives the texts and the sentences of a language to the other scripts."""
    forms = [(form.pattern, form.parts, form.pieces) for form in sentences]
    values = {"texts": translated, "sentences": forms}
    return "".join(
        [f"globalThis.{name} = {json.dumps(value, ensure_ascii=False)};\n" for name, value in values.items()]
    ).encode()


def _file(name: str) -> Traversable:
    return resources.files(__package__).joinpath("templates", name)


def _environment(spoken: Texts, translated: Callable[[str], str]) -> Environment:
    """Return the templates in a language; `translated` has the program's sentences in it."""
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= page_times.filters(spoken)
    environment.filters |= {"path": path, "order_path": order_path, "audit_path": audit_path, "readable": readable}
    environment.filters |= {"erase_path": erase_path}
    environment.globals |= {
        "t": spoken.of,
        "w": spoken.word,
        "said": translated,
        "navigation": NAVIGATION,
        "reasons": reason_texts.REASONS,
        "flags": reason_texts.FLAGS,
    }
    return environment
