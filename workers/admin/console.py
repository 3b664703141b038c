"""The console's pages: orders with their history, and held notifications with their bytes.

Pages are rendered on the server with every value escaped. A script polls `/api/changes` and swaps in changed parts. The
pages only read; retry and discard call the API with the token that the operator enters.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import UNSET

from schemas import scopes
from schemas.accounts import Account
from schemas.dispositions import Disposition, Reason
from schemas.orders import Status
from workers.admin import cursors, held, order_filters, page_times, reason_texts, replays, shapes
from workers.admin.activity import HEIGHT, WIDTH, Activity
from workers.admin.held import HeldInspection
from workers.admin.notifications import NotificationAnswer
from workers.admin.orders import RefusedRequests
from workers.admin.responses import ApiError
from workers.long_poll import OrderChanges
from workers.queries import HeldGroup, HeldPage, HeldPort, HeldQuery, OrderList, OrderPage, OrderQuery, OrdersPort
from workers.replays import ReplaysPort
from workers.settlement.plan import Delivery
from workers.settlement.verdicts import ACCEPTABLE

RECENT = 25
REPLAYS_SHOWN = 5
FAULTS_SHOWN = 5  # of the accounts' files; /readyz?verbose has all
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ASSETS = {"style.css": "text/css", "script.js": "text/javascript"}


class ConsolePart:
    """The pages, their assets and their templates."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrdersPort,
        held: HeldPort,
        replays: ReplaysPort,
        refusals: RefusedRequests,
        inspect: Callable[[HeldPage], HeldInspection],
        notification: Callable[[str], Awaitable[NotificationAnswer]],
        changes: OrderChanges,
        activity: Activity,
        accounts_faults: Callable[[], Sequence[str]],
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._held = held
        self._replays = replays
        self._refusals = refusals
        self._inspect = inspect
        self._notification = notification
        self._changes = changes
        self._activity = activity
        self._accounts_faults = accounts_faults
        self._now_ms = now_ms
        self._assets = {name: _asset(name) for name in ASSETS}
        self._templates = Environment(
            loader=PackageLoader("workers.admin", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= page_times.FILTERS | {"path": _path, "order_path": _order_path}
        self._templates.globals |= {"reasons": reason_texts.REASONS, "flags": reason_texts.FLAGS}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.overview),
            web.get("/find", self.find),
            web.get("/orders", self.order_list),
            web.get("/orders/{account}/{order:[^/]+}", self.order),
            web.get("/notifications/{id}", self.notification),
            web.get("/held", self.held_list),
            web.get("/held/{id}", self.held_one),
            web.get("/console/{asset}", self.asset),
        ]

    async def overview(self, _: web.Request) -> web.Response:
        """Show the charts, the orders that changed last, and the held notifications by reason."""
        seen = self._changes.seen
        recent = await self._orders.order_list(OrderQuery(limit=RECENT))
        groups = await self._held.held_groups(HeldQuery())
        return self._page(
            "overview.html",
            seen=seen,
            curves=self._activity.curves(),
            width=WIDTH,
            height=HEIGHT,
            orders=[shapes.listed(page) for page in recent.pages],
            groups=_by_reason(groups),
        )

    async def order_list(self, request: web.Request) -> web.Response:
        """Show a page of the orders that match a filter; a faulty filter is shown beside its fault."""
        seen, fault = self._changes.seen, ""
        try:
            query = order_filters.query(request, self._accounts, now_ms=self._now_ms())
            found = await self._orders.order_list(query)
        except ApiError as error:
            if error.status != 400:
                raise
            found, fault = OrderList(pages=(), next_=None), error.detail
        given = _Given({name: text for name, text in request.query.items() if text.strip()})
        filters = {name: text for name, text in given.items() if name != "cursor"}
        return self._page(
            "orders.html",
            status=400 if fault else 200,
            seen=seen,
            orders=[shapes.listed(page) for page in found.pages],
            given=given,
            fault=fault,
            accounts=sorted(self._accounts),
            statuses=list(Status),
            examined_to=None if found.next_ is None else datetime.fromtimestamp(found.next_.changed_at_ms / 1000, UTC),
            next_page=None
            if found.next_ is None
            else f"/orders?{urlencode({**filters, 'cursor': cursors.after_order(found.next_)})}",
            first_page=f"/orders?{urlencode(filters)}",
            export=f"/orders.csv?{urlencode({name: text for name, text in filters.items() if name != 'limit'})}",
        )

    async def find(self, request: web.Request) -> web.Response:
        """Redirect to the page that shows all that has this number; if there is none, show a list."""
        number = request.query.get("number", "").strip()
        matches = list(await self._orders.find(number)) if number else []
        notifications = list(await self._orders.notifications(number)) if number else []
        if not matches and not notifications:
            matches = [(name, number) for name in self._accounts if number and self._refusals.of_order(name, number)]
        orders = [shapes.match(scope, order) for scope, order in matches]
        if len(orders) == 1 and await self._shows(*matches[0], notifications):
            raise web.HTTPFound(_order_path(orders[0]))
        if len(notifications) == 1 and not orders:
            raise web.HTTPFound(f"/notifications/{notifications[0].position}")
        return self._page(
            "found.html",
            seen=self._changes.seen,
            number=number,
            matches=orders,
            notifications=[shapes.found(each) for each in notifications],
        )

    async def _shows(self, scope: str, number: str, notifications: Sequence[Delivery]) -> bool:
        """Return whether the order's page shows all of these notifications."""
        page = await self._orders.order_page(scope, number) if notifications else None
        shown = () if page is None else (*page.deliveries, *(claim.delivery for claim in page.claims))
        return {each.position for each in notifications} <= {each.position for each in shown}

    async def order(self, request: web.Request) -> web.Response:
        """Show one order and its timeline."""
        number = request.match_info["order"]
        scope = scopes.joined(request.match_info["account"], request.query.get("auth_app_id") or UNSET)
        seen = self._changes.seen
        page = await self._orders.order_page(scope, number)
        refused = self._refusals.of_order(scope, number)
        if page is None and not refused:
            notifications = [shapes.found(each) for each in await self._orders.notifications(number)]
            return self._page(
                "found.html", status=404, seen=seen, number=number, matches=[], notifications=notifications
            )
        known = page or OrderPage(account=scope, number=number, order=None, view=None, deliveries=(), events=())
        return self._page(
            "order.html",
            seen=seen,
            order=shapes.order(known, refused),
        )

    async def notification(self, request: web.Request) -> web.Response:
        """Show one notification: its kind, its numbers and its disposition."""
        seen = self._changes.seen
        shown = await self._notification(request.match_info["id"])
        return self._page("notification.html", seen=seen, notification=shown)

    async def held_list(self, request: web.Request) -> web.Response:
        """Show a page of the held notifications, and the count of all by reason."""
        seen = self._changes.seen
        query = held.query(request, self._accounts, now_ms=self._now_ms())
        pages, next_ = await held.page_of(self._held, query)
        matching = await self._held.held_groups(query)
        return self._page(
            "held.html",
            seen=seen,
            groups=_by_reason(await self._held.held_groups(HeldQuery())),
            rows=[shapes.held(page) for page in pages],
            total=sum(group.count for group in matching),
            replays=[replays.answer(task) for task in await self._replays.replays(REPLAYS_SHOWN)],
            query=query,
            next_page=None if next_ is None else f"/held?{urlencode({**request.query, 'cursor': next_})}",
            first_page=f"/held?{urlencode({name: text for name, text in request.query.items() if name != 'cursor'})}",
        )

    async def held_one(self, request: web.Request) -> web.Response:
        """Show one held notification: its fields beside its bytes, and its signature check."""
        seen = self._changes.seen
        page = await self._held.held_page(request.match_info["id"])
        if page is None:
            raise ApiError(404, "unknown_held", f"there is no held notification {request.match_info['id']}")
        return self._page(
            "inspect.html",
            seen=seen,
            held=self._inspect(page),
            raw=_raw(page.row.record.value),
            acceptable=page.row.reason in ACCEPTABLE and page.row.disposition is Disposition.QUARANTINED,
        )

    async def asset(self, request: web.Request) -> web.Response:
        """Return the style sheet or the script."""
        name = request.match_info["asset"]
        if name not in self._assets:
            raise web.HTTPNotFound
        headers = SECURITY | {"Content-Type": f"{ASSETS[name]}; charset=utf-8", "Cache-Control": "no-cache"}
        return web.Response(body=self._assets[name], headers=headers)

    def _page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        text = self._templates.get_template(template).render(
            now=datetime.fromtimestamp(self._now_ms() / 1000, UTC),
            accounts_faults=self._accounts_faults()[:FAULTS_SHOWN],
            faults_more=max(0, len(self._accounts_faults()) - FAULTS_SHOWN),
            **values,
        )
        return web.Response(text=text, content_type="text/html", status=status, headers=SECURITY)


class _Given(dict[str, str]):
    """The parameters of a filter; one that is not given is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _by_reason(groups: Sequence[HeldGroup]) -> list[dict[str, Any]]:
    """Return the number of held ones by disposition and reason, of all accounts, the largest first."""
    found: dict[tuple[str, Reason], dict[str, Any]] = {}
    for group in groups:
        entry = found.setdefault(
            (group.disposition.value, group.reason),
            {"disposition": group.disposition.value, "reason": group.reason, "count": 0, "oldest_ms": group.oldest_ms},
        )
        entry["count"] += group.count
        entry["oldest_ms"] = min(entry["oldest_ms"], group.oldest_ms)
    for entry in found.values():
        entry["oldest"] = datetime.fromtimestamp(entry.pop("oldest_ms") / 1000, UTC)
    return sorted(found.values(), key=lambda entry: -entry["count"])


def _raw(body: bytes) -> str:
    """Return the bytes as ASCII, with all others written as escapes."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in body)


def _path(text: str) -> str:
    return quote(text, safe="")


def _order_path(named: shapes.OrderMatch | shapes.OrderAnswer | shapes.HeldAnswer | NotificationAnswer) -> str:
    """Return the path of the page of the order that a shape names."""
    path = f"/orders/{_path(named.account)}/{_path(named.order)}"
    return f"{path}?auth_app_id={_path(named.auth_app_id)}" if named.auth_app_id else path


def _asset(name: str) -> bytes:
    return resources.files("workers.admin").joinpath("templates", name).read_bytes()
