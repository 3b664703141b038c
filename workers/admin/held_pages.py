"""The console's pages of held notifications: the list with its sums, and one with its bytes.

They only read; their forms call the API with the token that the operator enters.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from schemas.accounts import Account
from schemas.dispositions import HELD, Disposition, Reason
from workers.admin import held, held_ages, inspection, pages, replays, shapes
from workers.admin.held_amounts import HeldAmounts, HeldSums
from workers.admin.held_details import HeldDetails
from workers.admin.pages import ConsoleFrame
from workers.admin.reported import AmountOf
from workers.admin.responses import ApiError
from workers.errors import ReadTooSlow
from workers.long_poll import OrderChanges
from workers.queries import HeldGroup, HeldPage, HeldPort, HeldQuery, OrderPage
from workers.replays import ReplaysPort
from workers.settlement.plan import Delivery
from workers.settlement.verdicts import ACCEPTABLE

REPLAYS_SHOWN = 5
SIBLINGS_SHOWN = 10  # other notifications of the order


class HeldPages:
    """The pages of held notifications."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        held: HeldPort,
        replays: ReplaysPort,
        amounts: HeldAmounts,
        details: HeldDetails,
        changes: OrderChanges,
        pages: ConsoleFrame,
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._held = held
        self._replays = replays
        self._amounts = amounts
        self._details = details
        self._changes = changes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/held", self.list_), web.get("/held/{id}", self.one)]

    async def list_(self, request: web.Request) -> web.Response:
        """Show a page of the held notifications, their sums by currency, and the count of all by reason."""
        seen, given = self._changes.seen, pages.given(request)
        now_ms = self._now_ms()
        query = held.query(request, self._accounts, now_ms=now_ms, is_awake=True)
        found, next_ = await held.page_of(self._held, query)
        total = await self._total(query)
        filters = {name: text for name, text in given.items() if name != "cursor"}
        sums = await self._sums(query)
        return self._pages.page(
            "held.html",
            seen=seen,
            groups=by_reason(await self._held.held_groups(HeldQuery(awake_at_ms=now_ms))),
            snoozed=await self._snoozed(query),
            rows=[shapes.held(page, self._amounts.of(page)) for page in found],
            shown=_shown(total, len(found), has_more=next_ is not None or query.after is not None),
            total=total,
            sums=sums,
            ages=held_ages.by_age(sums.first_at_ms, now_ms=now_ms) if sums else (),
            replays=[replays.answer(task) for task in (await self._replays.replays(REPLAYS_SHOWN)).tasks],
            query=query,
            given=given,
            accounts=sorted(self._accounts),
            dispositions=sorted(HELD),
            every_reason=sorted(Reason),
            replay_filter=_replay_filter(filters),
            next_page=None if next_ is None else f"/held?{urlencode({**filters, 'cursor': next_})}",
            first_page=f"/held?{urlencode(filters)}",
        )

    async def one(self, request: web.Request) -> web.Response:
        """Show one held notification: what contradicts what, its fields beside its bytes, and its signature check."""
        seen = self._changes.seen
        page = await self._held.held_page(request.match_info["id"])
        if page is None:
            raise ApiError(404, "unknown_held", f"there is no held notification {request.match_info['id']}")
        row = page.row
        shown, order = await self._details.of(page)
        deciding, others = inspection.parted(shown.fields)
        is_snoozed = page.snooze is not None and page.snooze.until_ms > self._now_ms() and not page.resolution
        return self._pages.page(
            "inspect.html",
            seen=seen,
            held=shown,
            deciding=deciding,
            others=others,
            siblings=_siblings(page, order),
            raw=shown,
            refundable=shown.amount_of is AmountOf.PAID,
            is_snoozed=is_snoozed,
            acceptable=row.reason in ACCEPTABLE and row.disposition is Disposition.QUARANTINED,
        )

    async def _total(self, query: HeldQuery) -> int | None:
        """Return the number of all that match; `None` if counting them takes too long."""
        try:
            return sum(group.count for group in await self._held.held_groups(query))
        except ReadTooSlow:
            return None

    async def _snoozed(self, query: HeldQuery) -> int:
        """Return the number of snoozed ones that match; 0 if counting them takes too long."""
        try:
            return await held.snoozed(self._held, query, now_ms=self._now_ms())
        except ReadTooSlow:
            return 0

    async def _sums(self, query: HeldQuery) -> HeldSums | None:
        """Return the sums of all that match; `None` if it would take too long, or none of them is held any more."""
        try:
            return None if query.resolved else await self._amounts.sums(query)
        except ReadTooSlow:
            return None


def by_reason(groups: Sequence[HeldGroup]) -> list[dict[str, Any]]:
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


def _shown(total: int | None, rows: int, *, has_more: bool) -> str:
    """Return how many are shown, or that there are more than these if counting takes too long."""
    return f"{rows:,}+" if total is None and has_more else f"{rows:,}"


def _replay_filter(given: Mapping[str, str]) -> dict[str, str]:
    """Return the filter as the body of a replay has it."""
    names = {"account": "account", "auth_app_id": "auth_app_id", "order": "order", "disposition": "disposition"}
    names |= {"reason": "held_reason", "since": "since", "before": "before"}
    return {names[name]: text for name, text in given.items() if name in names}


def _siblings(page: HeldPage, order: OrderPage | None) -> list[shapes.FoundNotification]:
    """Return the latest other notifications of the order, the newest first."""
    deliveries: Sequence[Delivery] = () if order is None else order.deliveries
    others = [each for each in deliveries if each.position != page.row.position]
    return [shapes.found(each) for each in reversed(others[-SIBLINGS_SHOWN:])]
