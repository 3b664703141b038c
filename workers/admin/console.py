"""The console: what a dashboard cannot show. One order's whole story, and what waits for a person, with its bytes.

Pages are drawn on the server with every value escaped; a script of ours asks `/api/changes` and swaps in what is new.
The pages read. Replay and discard are the API's, called from the page with the token that the operator types.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from schemas.accounts import Account
from workers.admin import held, reason_texts, shapes
from workers.admin.activity import HEIGHT, WIDTH, Activity
from workers.admin.held import HeldInspection
from workers.admin.orders import Refusals
from workers.admin.responses import ApiError
from workers.long_poll import OrderChanges
from workers.queries import HeldPage, HeldPort, HeldQuery, OrderPage, OrdersPort

RECENT = 25
HELD_SHOWN = 500
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ASSETS = {"style.css": "text/css", "script.js": "text/javascript"}


class ConsolePart:
    """The pages."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrdersPort,
        held: HeldPort,
        refusals: Refusals,
        inspect: Callable[[HeldPage], HeldInspection],
        changes: OrderChanges,
        activity: Activity,
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._held = held
        self._refusals = refusals
        self._inspect = inspect
        self._changes = changes
        self._activity = activity
        self._now_ms = now_ms
        self._assets = {name: _asset(name) for name in ASSETS}
        self._templates = Environment(
            loader=PackageLoader("workers.admin", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"clock": _clock, "day": _day, "path": _path}
        self._templates.globals |= {"reasons": reason_texts.REASONS, "flags": reason_texts.FLAGS}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.overview),
            web.get("/find", self.find),
            web.get("/orders/{account}/{order:[^/]+}", self.order),
            web.get("/held", self.held_list),
            web.get("/held/{id}", self.held_one),
            web.get("/console/{asset}", self.asset),
        ]

    async def overview(self, _: web.Request) -> web.Response:
        """What goes on: the curves, the orders that changed last, and what waits for a person."""
        seen = self._changes.seen
        recent = await self._orders.recent(RECENT)
        waiting = await self._held.held_list(HeldQuery(limit=HELD_SHOWN))
        return self._page(
            "overview.html",
            seen=seen,
            curves=self._activity.curves(),
            width=WIDTH,
            height=HEIGHT,
            orders=[shapes.summary(page) for page in recent],
            groups=_grouped(waiting),
            waiting=len(waiting),
        )

    async def find(self, request: web.Request) -> web.Response:
        """The order with this number; a list where there are several, or none."""
        number = request.query.get("number", "").strip()
        matches = list(await self._orders.find(number)) if number else []
        if not matches:
            matches = [(name, number) for name in self._accounts if number and self._refusals.of_order(name, number)]
        if len(matches) == 1:
            raise web.HTTPFound(f"/orders/{_path(matches[0][0])}/{_path(matches[0][1])}")
        return self._page("found.html", seen=self._changes.seen, number=number, matches=matches)

    async def order(self, request: web.Request) -> web.Response:
        """One order and its timeline."""
        account, number = request.match_info["account"], request.match_info["order"]
        seen = self._changes.seen
        page = await self._orders.order_page(account, number)
        refused = self._refusals.of_order(account, number)
        if page is None and not refused:
            return self._page("found.html", status=404, seen=seen, number=number, matches=[])
        known = page or OrderPage(account=account, number=number, order=None, view=None, deliveries=(), events=())
        waiting = await self._held.held_list(HeldQuery(account=account, order=number, limit=HELD_SHOWN))
        return self._page(
            "order.html",
            seen=seen,
            order=shapes.order(known, refused),
            held={page.row.id: page.row.id for page in waiting},
        )

    async def held_list(self, request: web.Request) -> web.Response:
        """What waits for a person, or for its order, by reason."""
        seen = self._changes.seen
        query = held.query(request, now_ms=self._now_ms())
        pages = await self._held.held_list(query)
        return self._page(
            "held.html", seen=seen, groups=_grouped(pages), rows=[shapes.held(page) for page in pages], query=query
        )

    async def held_one(self, request: web.Request) -> web.Response:
        """One held notification: its fields beside its bytes, the signature checked now."""
        seen = self._changes.seen
        page = await self._held.held_page(request.match_info["id"])
        if page is None:
            raise ApiError(404, "unknown_held", f"there is no held notification {request.match_info['id']}")
        return self._page("inspect.html", seen=seen, held=self._inspect(page), raw=_raw(page.row.record.value))

    async def asset(self, request: web.Request) -> web.Response:
        """The style sheet and the script."""
        name = request.match_info["asset"]
        if name not in self._assets:
            raise web.HTTPNotFound
        headers = SECURITY | {"Content-Type": f"{ASSETS[name]}; charset=utf-8", "Cache-Control": "no-cache"}
        return web.Response(body=self._assets[name], headers=headers)

    def _page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        text = self._templates.get_template(template).render(
            now=datetime.fromtimestamp(self._now_ms() / 1000, UTC), **values
        )
        return web.Response(text=text, content_type="text/html", status=status, headers=SECURITY)


def _grouped(pages: Sequence[HeldPage]) -> list[dict[str, Any]]:
    """How many are held for each reason, the most first."""
    counted = Counter((page.row.disposition, page.row.reason) for page in pages if not page.resolution)
    oldest: dict[Any, int] = {}
    for page in pages:
        key = (page.row.disposition, page.row.reason)
        oldest[key] = min(oldest.get(key, page.row.first_at_ms), page.row.first_at_ms)
    return [
        {
            "disposition": key[0].value,
            "reason": key[1],
            "count": count,
            "oldest": datetime.fromtimestamp(oldest[key] / 1000, UTC),
        }
        for key, count in counted.most_common()
    ]


def _raw(body: bytes) -> str:
    """The bytes as they came, those that are no printable ASCII written as escapes."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in body)


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _path(text: str) -> str:
    return quote(text, safe="")


def _asset(name: str) -> bytes:
    return resources.files("workers.admin").joinpath("templates", name).read_bytes()
