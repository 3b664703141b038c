"""Callbacks over HTTP: the endpoints, their delivery logs, and what operators do about them."""

from collections.abc import Callable
from datetime import datetime

from aiohttp import web
from msgspec import Struct

from schemas import scopes, times
from workers.admin import held, responses, sign_in
from workers.admin.guard import AuditLog
from workers.admin.held import OperatorReason
from workers.admin.responses import ApiError
from workers.callbacks.deliveries import CallbackDelivery, CallbacksPort, DeliveryQuery, EndpointPage
from workers.callbacks.schedule import CallbackOutcome, DeliveryState
from workers.queries import OrdersPort

DELIVERIES_SHOWN = 50
REMOVED = "it is no longer in callbacks.toml"
_NAME = "{name:[a-z0-9-]{1,64}}"


class EndpointAnswer(Struct, frozen=True, kw_only=True):
    """An endpoint, without the query of its URL.

    `state` is active, failing, disabled or removed; `disabled_why` is the reason of the last two.
    """

    name: str
    url: str
    state: str
    pending: int
    oldest_at: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_why: str
    last_delivered_at: datetime | None


class DeliveryAnswer(Struct, frozen=True, kw_only=True):
    """One event at one endpoint. `due_at` is the next attempt; without one, a pending event waits for an earlier one
    of its order. `outcome`, `status`, `detail` and `took_ms` are of the last attempt."""

    number: int
    event_id: str
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    due_at: datetime | None
    tried_at: datetime | None
    outcome: CallbackOutcome | None
    status: int
    detail: str
    took_ms: int


class ResendBody(OperatorReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are sent again: the one with this number, or those of an order, or one version of it.

    `account` is needed if several accounts have the order; of service providers, with the merchant after a slash.
    """

    number: int | None = None
    order: str = ""
    account: str = ""
    version: int | None = None


class CallbacksPart:
    """The API for callbacks."""

    def __init__(
        self, *, callbacks: CallbacksPort, orders: OrdersPort, now_ms: Callable[[], int], log: AuditLog
    ) -> None:
        self._callbacks = callbacks
        self._orders = orders
        self._now_ms = now_ms
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/callbacks", self.list_),
            web.get(f"/api/callbacks/{_NAME}/deliveries", self.deliveries),
            web.post(f"/api/callbacks/{_NAME}/enable", self.enable),
            web.post(f"/api/callbacks/{_NAME}/disable", self.disable),
            web.post(f"/api/callbacks/{_NAME}/resend", self.resend),
        ]

    async def list_(self, request: web.Request) -> web.Response:
        """Return all endpoints."""
        pages = await self._callbacks.endpoints()
        return responses.json({"endpoints": [endpoint_answer(page) for page in pages]})

    async def deliveries(self, request: web.Request) -> web.Response:
        """Return a page of an endpoint's delivery log, the newest event first."""
        name = (await self._page(request.match_info["name"])).name
        limit = responses.whole_number(request, "limit", default=DELIVERIES_SHOWN, most=responses.LIMIT_MAX)
        query = DeliveryQuery(
            endpoint=name,
            state=state_of(request.query.get("state", "")),
            order=await self._key(request.query.get("order", ""), request.query.get("account", "")),
            before=responses.whole_number(request, "before", default=0) or None,
            limit=max(1, limit),
        )
        found = await self._callbacks.deliveries(query)
        before = found[-1].number if len(found) == query.limit else None
        return responses.json({"deliveries": [delivery_answer(each) for each in found], "before": before})

    async def enable(self, request: web.Request) -> web.Response:
        """Send to the endpoint again, at once."""
        name, by, why = _act(request, await responses.body(request, OperatorReason))
        if not await self._callbacks.enable(name, by=by, why=why, now_ms=self._now_ms()):
            raise _unknown(name)
        self._log.info("callback_enabled", endpoint=name, by=by, why=why)
        return responses.json(endpoint_answer(await self._page(name)))

    async def disable(self, request: web.Request) -> web.Response:
        """Send nothing to the endpoint until it is enabled."""
        name, by, why = _act(request, await responses.body(request, OperatorReason))
        is_done = await self._callbacks.disable(name, by=by, why=why, now_ms=self._now_ms())
        page = await self._page(name)
        if not is_done:
            raise ApiError(409, "conflict", f"the endpoint {name} is disabled already")
        self._log.info("callback_disabled", endpoint=name, by=by, why=why)
        return responses.json(endpoint_answer(page))

    async def resend(self, request: web.Request) -> web.Response:
        """Send events again, whatever the endpoint's filters."""
        given = await responses.body(request, ResendBody)
        name, by, why = _act(request, given)
        if (given.number is None) == (not given.order):
            raise responses.bad_request("give either the number of a delivery, or an order")
        if any(each is not None and not 1 <= each < 2**63 for each in (given.number, given.version)):
            raise responses.bad_request("number and version begin with 1")
        scope, order = "", given.order
        if given.order:
            scope, order = await self._order(given.order, given.account)
        count = await self._callbacks.resend(
            name, number=given.number, scope=scope, order=order, version=given.version, by=by, why=why,
            now_ms=self._now_ms(),
        )  # fmt: skip
        if count is None:
            raise _unknown(name)
        if not count:
            raise ApiError(404, "unknown_event", "the outbox has no such order event any more, or never had it")
        self._log.info("callback_resent", endpoint=name, count=count, by=by, why=why)
        return responses.json({"resent": count})

    async def _page(self, name: str) -> EndpointPage:
        page = await self._callbacks.endpoint(name)
        if page is None:
            raise _unknown(name)
        return page

    async def _key(self, order: str, account: str) -> str | None:
        return ":".join(await self._order(order, account)) if order else None

    async def _order(self, number: str, account: str) -> tuple[str, str]:
        """Return scope and number of the order that has this number, or whose trade has it."""
        found = [
            (scope, order)
            for scope, order in await self._orders.find(number)
            if account in ("", scope, scopes.account_of(scope))
        ]
        # A number may also name a trade or a refund of another order.
        found = [each for each in found if each[1] == number] or found
        if not found:
            raise ApiError(404, "unknown_order", f"there is no order {number}")
        if len(found) > 1:
            named = ", ".join(sorted({scope for scope, _ in found}))
            raise responses.bad_request(f"several orders have the number {number}: give the account, one of {named}")
        return found[0]


def _act(request: web.Request, given: OperatorReason) -> tuple[str, str, str]:
    """Return the endpoint's name, the operator, and the reason."""
    return request.match_info["name"], sign_in.acting(request, given.by), held.why_of(given.reason)


def _unknown(name: str) -> ApiError:
    return ApiError(404, "unknown_endpoint", f"there is no endpoint {name} in callbacks.toml")


def endpoint_answer(page: EndpointPage) -> EndpointAnswer:
    """Return an endpoint as it is shown."""
    state, why = "active", page.state.disabled_why
    if not page.is_configured:
        state, why = "removed", why or REMOVED
    elif page.state.is_disabled:
        state = "disabled"
    elif page.state.failing_since_ms is not None:
        state = "failing"
    return EndpointAnswer(
        name=page.name,
        url=page.url.partition("?")[0],
        state=state,
        pending=page.pending,
        oldest_at=_moment(page.oldest_ms),
        failing_since=_moment(page.state.failing_since_ms),
        disabled_at=_moment(page.state.disabled_at_ms),
        disabled_why=why,
        last_delivered_at=_moment(page.last_delivered_ms),
    )


def delivery_answer(delivery: CallbackDelivery) -> DeliveryAnswer:
    """Return a row of the delivery log as it is shown."""
    return DeliveryAnswer(
        number=delivery.number,
        event_id=delivery.event_id,
        type=delivery.type,
        state=delivery.state,
        attempts=delivery.attempts,
        created_at=times.from_epoch_ms(delivery.created_ms),
        due_at=_moment(delivery.due_ms),
        tried_at=_moment(delivery.tried_ms),
        outcome=delivery.outcome,
        status=delivery.status,
        detail=delivery.detail,
        took_ms=delivery.took_ms,
    )


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else times.from_epoch_ms(epoch_ms)


def state_of(given: str) -> DeliveryState | None:
    """Return the state that a query names; `None` if it is empty.

    Raises:
        ApiError: there is no such state.
    """
    if not given:
        return None
    try:
        return DeliveryState(given)
    except ValueError:
        raise responses.bad_request(f"state must be one of {', '.join(DeliveryState)}") from None
