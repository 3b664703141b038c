"""Erase the buyer's data from the stored notifications of one order, for example because the buyer asks for it."""

from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web
from msgspec import Struct

from schemas import times
from schemas.accounts import Account
from workers.admin import held, orders, responses, sign_in
from workers.admin.guard import AuditLog
from workers.admin.responses import ApiError
from workers.erasure import ErasurePort
from workers.long_poll import OrderChanges

STEPS_MAX = 100  # of one request


class ErasedAnswer(Struct, frozen=True, kw_only=True):
    """How many notifications were erased now. `held` are the ids of those that keep their bytes until resolved.

    `more` is true if the order has so many that some are left: ask again.
    """

    account: str
    order: str
    erased: int
    held: tuple[str, ...]
    more: bool
    at: datetime


class ErasePart:
    """The API for erasing one order."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        erasure: ErasurePort,
        changes: OrderChanges,
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._accounts = accounts
        self._erasure = erasure
        self._changes = changes
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/orders/{account}/{order:[^/]+}/erase", self.erase)]

    async def erase(self, request: web.Request) -> web.Response:
        """Erase the order's settled notifications, with an audit row."""
        name, number = request.match_info["account"], request.match_info["order"]
        given = await responses.body(request, held.OperatorReason)
        why, by = held.why_of(given.reason), sign_in.acting(request, given.by)
        scope = orders.scope_of_request(request, self._accounts)
        now_ms, erased, left = self._now_ms(), 0, STEPS_MAX
        while True:
            done = await self._erasure.erase_order(scope, number, by=by, why=why, now_ms=now_ms)
            if done is None:
                raise ApiError(404, "unknown_order", f"account {scope} has no order {number}")
            erased, left = erased + done.count, left - 1
            if not (done.is_more and left):
                break
        self._log.info("order_erased", account=name, out_trade_no=number, count=erased, by=by, why=why)
        self._changes.changed(scope, number)
        answer = ErasedAnswer(
            account=name,
            order=number,
            erased=erased,
            held=tuple(map(str, done.held)),
            more=done.is_more,
            at=times.from_epoch_ms(now_ms),
        )
        return responses.json(answer)
