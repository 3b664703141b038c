"""Operators' decisions on one held notification over HTTP: accept, discard, refund outside, and snooze.

Each answers with the row as it is then. What cannot be decided like this, or was decided meanwhile, is 409.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from schemas.times import DAY_MS
from workers.admin import responses, shapes, sign_in
from workers.admin.guard import AuditLog
from workers.admin.held import OperatorReason, why_of
from workers.admin.held_amounts import HeldAmounts
from workers.admin.responses import ApiError
from workers.held_decisions import HeldDecisions
from workers.long_poll import OrderChanges
from workers.queries import HeldPage, HeldPort, Snooze
from workers.settlement.verdicts import DecisionRefused
from workers.snoozes import SNOOZE_MAX_S, SnoozesPort

Decide = Callable[[HeldPage, str, str], Awaitable[None]]


class RefundedOutside(OperatorReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a refund outside: the amount refunded in Alipay's own portal, in whole units of the currency."""

    amount: str


class SnoozeUntil(OperatorReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a snooze: `4h` from now, or an ISO 8601 time with a zone."""

    until: str


class HeldVerdictsPart:
    """The API for decisions on one."""

    def __init__(
        self,
        *,
        held: HeldPort,
        amounts: HeldAmounts,
        decisions: HeldDecisions,
        snoozes: SnoozesPort,
        changes: OrderChanges,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._held = held
        self._amounts = amounts
        self._decisions = decisions
        self._snoozes = snoozes
        self._changes = changes
        self._wake = wake
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/held/{id:[0-9]+-[0-9]+}/accept", self.accept),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/discard", self.discard),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/refund-outside", self.refund_outside),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/snooze", self.snooze),
            web.post("/api/held/{id:[0-9]+-[0-9]+}/unsnooze", self.unsnooze),
        ]

    async def accept(self, request: web.Request) -> web.Response:
        """Register what one reports as paid, and apply it."""
        given = await responses.body(request, OperatorReason)

        async def decide(page: HeldPage, by: str, why: str) -> None:
            await self._decisions.accept(page, by=by, why=why)

        return await self._decide(request, given, decide, "held_accepted")

    async def discard(self, request: web.Request) -> web.Response:
        """Resolve one without applying it, and take out of its order the facts that only it has brought."""
        given = await responses.body(request, OperatorReason)

        async def decide(page: HeldPage, by: str, why: str) -> None:
            await self._decisions.discard(page, by=by, why=why)

        return await self._decide(request, given, decide, "held_discarded")

    async def refund_outside(self, request: web.Request) -> web.Response:
        """Resolve one whose money was refunded in Alipay's own portal, and record the amount."""
        given = await responses.body(request, RefundedOutside)

        async def decide(page: HeldPage, by: str, why: str) -> None:
            await self._decisions.refund_outside(page, given.amount.strip(), by=by, why=why)

        return await self._decide(request, given, decide, "held_refunded_outside")

    async def snooze(self, request: web.Request) -> web.Response:
        """Take one out of the first list and of the gauges, until a moment."""
        given = await responses.body(request, SnoozeUntil)
        now_ms = self._now_ms()
        until_ms = responses.later_ms(given.until, now_ms=now_ms)
        if not now_ms < until_ms <= now_ms + SNOOZE_MAX_S * 1000:
            raise responses.bad_request(
                f"until must be later than now, by at most {SNOOZE_MAX_S * 1000 // DAY_MS} days"
            )
        return await self._snooze(request, given, until_ms, why_of(given.reason), "held_snoozed")

    async def unsnooze(self, request: web.Request) -> web.Response:
        """End the snooze of one now."""
        given = await responses.body(request, OperatorReason)
        return await self._snooze(request, given, self._now_ms(), why_of(given.reason, optional=True), "held_unsnoozed")

    async def _decide(self, request: web.Request, given: OperatorReason, decide: Decide, line: str) -> web.Response:
        why, by = why_of(given.reason), sign_in.acting(request, given.by)
        page = await self._page(request)
        try:
            await decide(page, by, why)
        except DecisionRefused as refused:
            raise ApiError(409, "conflict", str(refused)) from None
        self._log.info(line, held=page.row.id, by=by, why=why)
        self._wake()
        return await self._answer(request, page)

    async def _snooze(
        self, request: web.Request, given: OperatorReason, until_ms: int, why: str, line: str
    ) -> web.Response:
        by, page = sign_in.acting(request, given.by), await self._page(request)
        snooze = Snooze(until_ms=until_ms, by=by, why=why)
        if not await self._snoozes.snooze(page.row.id, snooze, now_ms=self._now_ms()):
            raise ApiError(409, "conflict", f"it is already resolved: {(await self._page(request)).resolution}")
        self._log.info(line, held=page.row.id, by=by, why=why)
        return await self._answer(request, page)

    async def _answer(self, request: web.Request, page: HeldPage) -> web.Response:
        self._changes.changed(page.row.account, page.row.order)
        page = await self._page(request)
        return responses.json(shapes.held(page, self._amounts.of(page)))

    async def _page(self, request: web.Request) -> HeldPage:
        id_ = request.match_info["id"]
        page = await self._held.held_page(id_)
        if page is None:
            raise ApiError(404, "unknown_held", f"there is no held notification {id_}")
        return page
