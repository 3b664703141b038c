"""Publish events of one order again, because a consumer has lost them."""

from collections.abc import Callable, Mapping
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from schemas.accounts import Account
from workers.admin import held, orders, responses, sign_in
from workers.admin.guard import AuditLog
from workers.admin.responses import ApiError
from workers.long_poll import OrderChanges
from workers.resends import VERSIONS_MAX, ResendPort, ResendRefusal


class ResendRequested(held.OperatorReason, frozen=True, kw_only=True):
    """The reason, and the first version to publish again; without one, the newest alone."""

    version: Annotated[int, Meta(ge=1)] | None = None


class ResentAnswer(Struct, frozen=True, kw_only=True):
    """The versions that are published again. They are on their way: the relay sends them."""

    account: str
    order: str
    versions: tuple[int, ...]


class ResendPart:
    """The API for publishing again."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, Account],
        resends: ResendPort,
        changes: OrderChanges,
        wake: Callable[[], None],
        now_ms: Callable[[], int],
        log: AuditLog,
    ) -> None:
        self._accounts = accounts
        self._resends = resends
        self._changes = changes
        self._wake = wake
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/orders/{account}/{order:[^/]+}/resend", self.resend)]

    async def resend(self, request: web.Request) -> web.Response:
        """Publish the version and the later ones again, with an audit row for each."""
        name, number = request.match_info["account"], request.match_info["order"]
        given = await responses.body(request, ResendRequested)
        why, by = held.why_of(given.reason), sign_in.acting(request, given.by)
        scope = orders.scope_of_request(request, self._accounts)
        done = await self._resends.resend(scope, number, given.version, by=by, why=why, now_ms=self._now_ms())
        if isinstance(done, ResendRefusal):
            raise _refused(done, f"{scope}:{number}", given.version)
        self._log.info("events_resent", account=name, out_trade_no=number, count=len(done), by=by, why=why)
        self._changes.changed(scope, number)
        self._wake()
        return responses.json(ResentAnswer(account=name, order=number, versions=done))


def _refused(refusal: ResendRefusal, order: str, version: int | None) -> ApiError:
    match refusal:
        case ResendRefusal.UNKNOWN_ORDER:
            return ApiError(404, refusal.value, f"there is no order {order}")
        case ResendRefusal.UNKNOWN_VERSION:
            missing = "no event" if version is None else f"no event of version {version} any more, or not yet"
            return ApiError(404, refusal.value, f"order {order} has {missing}")
        case ResendRefusal.NOT_SENT_YET:
            return ApiError(409, refusal.value, f"an event of order {order} is on its way already: wait for it")
        case ResendRefusal.TOO_MANY:
            return ApiError(
                409, refusal.value, f"order {order} has more than {VERSIONS_MAX} versions since then: name a later one"
            )
