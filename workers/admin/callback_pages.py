"""The console's page of callbacks: the endpoints, and the delivery log of one of them."""

from urllib.parse import urlencode

from aiohttp import web

from workers.admin import callbacks, responses
from workers.admin.callbacks import DELIVERIES_SHOWN
from workers.admin.pages import ConsoleFrame
from workers.admin.responses import ApiError
from workers.callbacks.deliveries import CallbackDelivery, CallbacksPort, DeliveryQuery
from workers.long_poll import OrderChanges


class CallbackPages:
    """The page. It shows, and changes nothing: that is for the commands."""

    def __init__(self, *, callbacks: CallbacksPort, changes: OrderChanges, pages: ConsoleFrame) -> None:
        self._callbacks = callbacks
        self._changes = changes
        self._pages = pages

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/callbacks", self.page)]

    async def page(self, request: web.Request) -> web.Response:
        """Show all endpoints, and a page of the log of the one that the query names."""
        seen = self._changes.seen
        found = await self._callbacks.endpoints()
        chosen = request.query.get("endpoint", "")
        if chosen and all(page.name != chosen for page in found):
            raise ApiError(404, "unknown_endpoint", f"there is no endpoint {chosen} in callbacks.toml")
        state = request.query.get("state", "")
        log = await self._log(request, chosen, state) if chosen else []
        next_page = None
        if len(log) == DELIVERIES_SHOWN:
            filters = {"endpoint": chosen, "before": log[-1].number} | ({"state": state} if state else {})
            next_page = f"/callbacks?{urlencode(filters)}"
        return self._pages.page(
            "callbacks.html",
            seen=seen,
            endpoints=[callbacks.endpoint_answer(page) for page in found],
            chosen=chosen,
            state=state,
            deliveries=[callbacks.delivery_answer(each) for each in log],
            next_page=next_page,
        )

    async def _log(self, request: web.Request, endpoint: str, state: str) -> list[CallbackDelivery]:
        query = DeliveryQuery(
            endpoint=endpoint,
            state=callbacks.state_of(state),
            before=responses.whole_number(request, "before", default=0) or None,
            limit=DELIVERIES_SHOWN,
        )
        return [*await self._callbacks.deliveries(query)]
