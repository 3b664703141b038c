"""Orders as CSV: the list of the console's page with its filter, for a spreadsheet.

The rows are read page by page while they are sent, and end at a maximum, which the last row then says. One export runs
at a time: it competes with operators' reads, and with nothing that a payment needs.
"""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web
from msgspec import structs

from schemas.accounts import Account
from workers.admin import csv_rows, order_filters, shapes
from workers.admin.responses import ApiError
from workers.admin.shapes import ListedOrder
from workers.queries import OrderList, OrderQuery, OrdersPort

ROWS_MAX = 100_000
PAGE = 200  # the event loop is free between two pages
LIMIT_S = 300.0  # of one export: a client that stops reading must not keep others waiting
COLUMNS = (
    "account",
    "auth_app_id",
    "order",
    "status",
    "closed_because",
    "flags",
    "amount",
    "refunded",
    "currency",
    "expected",
    "expected_currency",
    "trade",
    "version",
    "changed_at",
)


class OrderExportPart:
    """The CSV of orders."""

    def __init__(self, *, accounts: Mapping[str, Account], orders: OrdersPort, now_ms: Callable[[], int]) -> None:
        self._accounts = accounts
        self._orders = orders
        self._now_ms = now_ms
        self._running = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/orders.csv", self.export, allow_head=False)]

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Send all orders that match, at most `ROWS_MAX`. A connection that is cut means that rows are missing."""
        now_ms = self._now_ms()
        query = structs.replace(order_filters.query(request, self._accounts, now_ms=now_ms), limit=PAGE)
        if self._running.locked():
            raise ApiError(503, "unavailable", "another export is running; try again when it has ended")
        async with self._running:
            first = await self._orders.order_list(query)  # errors are answers until the first byte is sent
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/csv; charset=utf-8",
                    "Content-Disposition": 'attachment; filename="orders.csv"',
                    "Cache-Control": "no-store",
                }
            )
            await response.prepare(request)
            try:
                async with asyncio.timeout(LIMIT_S):
                    await self._send(response, query, first)
            except Exception:
                # An answer has begun, so only a cut connection can tell that it is not whole.
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _send(self, response: web.StreamResponse, query: OrderQuery, page: OrderList) -> None:
        await response.write(csv_rows.lines([COLUMNS]))
        sent = 0
        while True:
            shown = page.pages[: ROWS_MAX - sent]
            sent += len(shown)
            if shown:
                await response.write(csv_rows.lines([cells(shapes.listed(each)) for each in shown]))
            if len(shown) < len(page.pages) or (sent == ROWS_MAX and page.next_ is not None):
                await response.write(
                    csv_rows.lines([[f"{ROWS_MAX} orders are listed, and more may match: narrow the filter"]])
                )
                break
            if page.next_ is None:
                break
            page = await self._orders.order_list(structs.replace(query, after=page.next_))
        await response.write_eof()


def cells(order: ListedOrder) -> list[str]:
    """Return the row of an order. No cell begins like a formula."""
    values = (order.flags if name == "flags" else getattr(order, name) for name in COLUMNS)
    return [csv_rows.safe(csv_rows.text(value)) for value in values]
