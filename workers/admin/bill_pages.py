"""The console's pages of comparisons with bills: the imports, one of them, and its differences as CSV."""

from aiohttp import web

from schemas import money
from workers.admin import bill_shapes, csv_rows, responses
from workers.admin.bill_shapes import DifferenceAnswer
from workers.admin.bills import IMPORTS_SHOWN
from workers.admin.pages import ConsoleFrame
from workers.admin.responses import ApiError
from workers.bills import DIFFERENCES_MAX, BillImport, BillsPort, DifferenceKind
from workers.long_poll import OrderChanges

DIFFERENCES_SHOWN = 100
_NUMBER = "{number:[0-9]{1,18}}"
COLUMNS = (
    "kind",
    "account",
    "auth_app_id",
    "order",
    "trade",
    "refund",
    "bill_amount",
    "bill_currency",
    "here_amount",
    "here_currency",
    "at",
    "detail",
)
# Each kind in the words of the page, the worst first.
KINDS = {
    DifferenceKind.PAYMENT_ONLY_IN_BILL: "Paid in the bill, not here",
    DifferenceKind.PAYMENT_ONLY_HERE: "Paid here, not in the bill",
    DifferenceKind.PAYMENT_AMOUNT: "Another amount was paid",
    DifferenceKind.REFUND_ONLY_IN_BILL: "Refunded in the bill, not here",
    DifferenceKind.REFUND_ONLY_HERE: "Refunded here, not in the bill",
    DifferenceKind.REFUND_AMOUNT: "Another amount was refunded",
    DifferenceKind.UNCERTAIN: "Cannot be decided",
}


class BillPages:
    """The pages. They show, and change nothing: that is for the commands."""

    def __init__(self, *, bills: BillsPort, changes: OrderChanges, pages: ConsoleFrame) -> None:
        self._bills = bills
        self._changes = changes
        self._pages = pages

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/bills", self.list_),
            web.get(f"/bills/{_NUMBER}", self.page),
            web.get(f"/bills/{_NUMBER}/differences.csv", self.csv),
        ]

    async def list_(self, request: web.Request) -> web.Response:
        """Show a page of the imports, the newest first."""
        seen = self._changes.seen
        before = responses.whole_number(request, "before", default=0) or None
        found = await self._bills.imports(IMPORTS_SHOWN, before)
        next_page = f"/bills?before={found[-1].number}" if len(found) == IMPORTS_SHOWN else None
        return self._pages.page(
            "bills.html", seen=seen, imports=[bill_shapes.answer(each) for each in found], next_page=next_page
        )

    async def page(self, request: web.Request) -> web.Response:
        """Show one import, and a page of its differences."""
        seen = self._changes.seen
        found = await self._import(request)
        after = min(responses.whole_number(request, "after", default=0), DIFFERENCES_MAX)
        listed = await self._bills.differences(found.number, after=after, limit=DIFFERENCES_SHOWN)
        next_page = None
        if len(listed) == DIFFERENCES_SHOWN:
            next_page = f"/bills/{found.number}?after={listed[-1][0]}"
        return self._pages.page(
            "bill.html",
            seen=seen,
            bill=bill_shapes.answer(found),
            kinds={kind: (text, found.report.counts.get(kind, 0)) for kind, text in KINDS.items()},
            sums=[
                (each, money.text(each.bill_minor, each.currency), money.text(each.here_minor, each.currency))
                for each in found.report.sums
            ],
            differences=[bill_shapes.difference(*each) for each in listed],
            listed_max=DIFFERENCES_MAX,
            next_page=next_page,
        )

    async def csv(self, request: web.Request) -> web.Response:
        """Return the listed differences of one import as CSV."""
        found = await self._import(request)
        listed = await self._bills.differences(found.number, after=0, limit=DIFFERENCES_MAX)
        rows = [cells(bill_shapes.difference(*each)) for each in listed]
        return web.Response(
            body=csv_rows.lines([COLUMNS, *rows]),
            headers={
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": f'attachment; filename="bill-{found.number}.csv"',
                "Cache-Control": "no-store",
            },
        )

    async def _import(self, request: web.Request) -> BillImport:
        number = int(request.match_info["number"])
        found = await self._bills.bill_import(number)
        if found is None or found.finished_at_ms is None:
            raise ApiError(404, "unknown_bill", f"there is no import {number}")
        return found


def cells(difference: DifferenceAnswer) -> list[str]:
    """Return the row of a difference. No cell begins like a formula."""
    return [csv_rows.safe(csv_rows.text(getattr(difference, name))) for name in COLUMNS]
