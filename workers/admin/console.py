"""The console's pages of orders, and of single notifications. `held_pages` has those of held ones.

Pages are rendered on the server with every value escaped. A script polls `/api/changes` and swaps in changed parts.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web
from msgspec import UNSET

from schemas import scopes
from schemas.accounts import Account
from schemas.orders import Status
from workers.admin import cursors, held_pages, inspection, order_filters, pages, shapes, timeline
from workers.admin.activity import HEIGHT, WIDTH, Activity
from workers.admin.links import OutsideLinks
from workers.admin.notifications import NotificationAnswer
from workers.admin.now import Now
from workers.admin.orders import RefusedRequests
from workers.admin.pages import ConsoleFrame
from workers.admin.processes import Processes
from workers.admin.raw_bytes import RawPart
from workers.admin.responses import ApiError
from workers.admin.tail_pages import TailLine
from workers.admin.timeline_entries import NotificationEntry
from workers.long_poll import OrderChanges
from workers.queries import HeldPort, HeldQuery, OrderList, OrderPage, OrderQuery, OrdersPort
from workers.settlement.plan import Delivery

RECENT = 25
LINES = 20  # of the tail


class ConsolePart:
    """The pages."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        orders: OrdersPort,
        held: HeldPort,
        refusals: RefusedRequests,
        notification: Callable[[str], Awaitable[NotificationAnswer]],
        raw: RawPart,
        changes: OrderChanges,
        activity: Activity,
        processes: Processes,
        newest_lines: Callable[[int], Awaitable[Sequence[TailLine]]],
        started_at_ms: int,
        now: Now,
        links: OutsideLinks,
        pages: ConsoleFrame,
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._orders = orders
        self._held = held
        self._refusals = refusals
        self._notification = notification
        self._raw = raw
        self._changes = changes
        self._activity = activity
        self._processes = processes
        self._newest_lines = newest_lines
        self._started_at_ms = started_at_ms
        self._now = now
        self._links = links
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.overview),
            web.get("/find", self.find),
            web.get("/orders", self.order_list),
            web.get("/orders/{account}/{order:[^/]+}", self.order),
            web.get("/notifications/{id}", self.notification),
        ]

    async def overview(self, _: web.Request) -> web.Response:
        """Show the first facts, charts, processes, the orders that changed last, held notifications by reason, and the
        newest lines of the tail."""
        seen = self._changes.seen
        facts = await self._now.facts(now_ms=self._now_ms())
        recent = await self._orders.order_list(OrderQuery(limit=RECENT))
        groups = await self._held.held_groups(HeldQuery(awake_at_ms=self._now_ms()))
        return self._pages.page(
            "overview.html",
            seen=seen,
            facts=facts,
            links=self._links,
            oldest=_moment(facts.oldest_ms),
            received=_moment(facts.received_ms),
            rates=self._activity.rates.rates(),
            counted_since=_moment(self._started_at_ms),
            processes=[(seen, _moment(seen.seen_at_ms)) for seen in await self._processes.seen()],
            are_processes_known=self._processes.are_known,
            curves=self._activity.curves(),
            width=WIDTH,
            height=HEIGHT,
            orders=[shapes.listed(page) for page in recent.pages],
            groups=held_pages.by_reason(groups),
            lines=await self._newest_lines(LINES),
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
        given = pages.given(request)
        filters = {name: text for name, text in given.items() if name != "cursor"}
        return self._pages.page(
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
            raise web.HTTPFound(pages.order_path(orders[0]))
        if len(notifications) == 1 and not orders:
            raise web.HTTPFound(f"/notifications/{notifications[0].position}")
        return self._pages.page(
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
            return self._pages.page(
                "found.html", status=404, seen=seen, number=number, matches=[], notifications=notifications
            )
        known = page or OrderPage(account=scope, number=number, order=None, view=None, deliveries=(), events=())
        order = shapes.order(known, refused, self._accounts.get(scopes.account_of(scope)))
        has_personal_data = any(isinstance(each, NotificationEntry) and not each.erased_at for each in order.timeline)
        return self._pages.page(
            "order.html",
            seen=seen,
            order=order,
            timeline=timeline.groups(order.timeline),
            has_personal_data=has_personal_data,
        )

    async def notification(self, request: web.Request) -> web.Response:
        """Show one notification: its kind, its numbers, its disposition, its fields beside its bytes, its signature."""
        seen, id_ = self._changes.seen, request.match_info["id"]
        shown = await self._notification(id_)
        stored = await self._raw.stored(id_)
        raw = None if stored is None else self._raw.of(id_, stored)
        deciding, others = inspection.parted({} if raw is None else raw.fields)
        return self._pages.page(
            "notification.html", seen=seen, notification=shown, raw=raw, deciding=deciding, others=others
        )


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC)
