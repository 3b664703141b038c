"""The frame of the console's pages: their templates, their headers, and the notices that each of them shows.

Pages are rendered on the server with every value escaped. They load nothing from elsewhere, and no script but our own.
"""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Protocol
from urllib.parse import quote

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import UnsetType

from workers.admin import page_times, reason_texts
from workers.admin.responses import ApiError

FAULTS_SHOWN = 5  # of the accounts' files; /readyz?verbose has all
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TITLES = {
    400: "The request has a fault",
    401: "Sign in first",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This cannot be opened",
    500: "This program has failed",
    503: "There is no answer now",
}
ASSETS = {"style.css": "text/css", "script.js": "text/javascript", "tail.js": "text/javascript"}
NAVIGATION = (
    ("/", "Now"),
    ("/orders", "Orders"),
    ("/held", "Held"),
    ("/tail", "Tail"),
    ("/keys", "Keys"),
    ("/audit", "Audit"),
)  # path and name of each page in the bar at the top


class ConsoleFrame:
    """Renders the templates."""

    def __init__(self, *, accounts_faults: Callable[[], Sequence[str]], now_ms: Callable[[], int]) -> None:
        self._accounts_faults = accounts_faults
        self._now_ms = now_ms
        self._assets = {name: _asset(name) for name in ASSETS}
        self._templates = Environment(
            loader=PackageLoader(__package__, "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= page_times.FILTERS | {"path": path, "order_path": order_path, "readable": readable}
        self._templates.globals |= {
            "navigation": NAVIGATION,
            "reasons": reason_texts.REASONS,
            "flags": reason_texts.FLAGS,
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/console/{asset}", self.asset)]

    def page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """Return the rendered template; `seen` among its values is the count of changes that it shows."""
        faults = self._accounts_faults()
        text = self._templates.get_template(template).render(
            now=datetime.fromtimestamp(self._now_ms() / 1000, UTC),
            accounts_faults=faults[:FAULTS_SHOWN],
            faults_more=max(0, len(faults) - FAULTS_SHOWN),
            **values,
        )
        return web.Response(text=text, content_type="text/html", status=status, headers=SECURITY)

    def error(self, error: ApiError) -> web.Response:
        """Return the page of an error. It tells nothing of the accounts, because anybody may get it."""
        title = _TITLES.get(error.status, "The request was refused")
        text = self._templates.get_template("error.html").render(
            now=datetime.fromtimestamp(self._now_ms() / 1000, UTC),
            accounts_faults=(),
            faults_more=0,
            seen=None,
            title=title,
            status=error.status,
            code=error.code,
            detail=error.detail,
        )
        return web.Response(text=text, content_type="text/html", status=error.status, headers=SECURITY)

    async def asset(self, request: web.Request) -> web.Response:
        """Return the style sheet or the script."""
        name = request.match_info["asset"]
        if name not in self._assets:
            raise web.HTTPNotFound
        headers = SECURITY | {"Content-Type": f"{ASSETS[name]}; charset=utf-8", "Cache-Control": "no-cache"}
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
    """Return the parameters of a request's query, without empty ones."""
    return Given({name: text for name, text in request.query.items() if text.strip()})


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


def _asset(name: str) -> bytes:
    return resources.files(__package__).joinpath("templates", name).read_bytes()
