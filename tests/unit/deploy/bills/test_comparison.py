"""Batches, walks and bounds of a comparison, against an API that is a table."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from deploy.bills import comparison, sheet
from deploy.bills.comparison import Comparison
from deploy.bills.judgement import BillPeriod
from deploy.bills.layouts import BillLine, LineKind
from deploy.bills.sheet import Sheet
from schemas import times
from schemas.times import DAY_MS
from workers.bills import DIFFERENCES_MAX, DifferenceKind

SINCE_MS = 1_759_939_200_000  # 2025-10-09 in China
SPAN = BillPeriod(SINCE_MS, SINCE_MS + DAY_MS)
NOON_MS = SINCE_MS + DAY_MS // 2


def line(number: int) -> BillLine:
    return BillLine(
        number=number, kind=LineKind.PAYMENT, order=f"A{number}", trade=f"20251009{number}", refund="",
        own=f"20251009{number}", minor=1280, currency="CNY", at_ms=NOON_MS,
    )  # fmt: skip


def listed(order: str, changed_ms: int = NOON_MS) -> dict[str, Any]:
    return {
        "account": "shop", "order": order, "status": "PAID", "closed_because": None, "trade": f"20251009{order[1:]}",
        "amount_minor": 1280, "currency": "CNY", "refunded_minor": 0, "flags": [],
        "changed_at": times.from_epoch_ms(changed_ms).isoformat(),
    }  # fmt: skip


class Table:
    """An API over orders that are all paid at noon; `pages` are those of each walk."""

    def __init__(self, *orders: str, pages: list[list[list[dict[str, Any]]]] | None = None) -> None:
        self.orders = set(orders)
        self.walks = pages or []
        self.questions: list[Mapping[str, Any]] = []
        self.sinces: list[str] = []

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]:
        if query["cursor"] is None:
            self.sinces.append(str(query["since"]))
        walk = self.walks[len(self.sinces) - 1] if len(self.sinces) <= len(self.walks) else [[]]
        place = int(query["cursor"] or 0)
        return {"orders": walk[place], "next": str(place + 1) if place + 1 < len(walk) else None}

    def send(self, method: str, *path: str, body: Mapping[str, object]) -> dict[str, Any]:
        given: Any = body
        self.questions.append(given)
        if path[-1] == "histories":
            history = {"paid_at_ms": NOON_MS, "received_at_ms": NOON_MS, "refunds": []}
            return {"histories": [{"order": each["order"], "history": history} for each in given["orders"]]}
        assert len(given["orders"]) <= comparison.TRADES_AT_ONCE
        return {"orders": [self._facts(each) for each in given["orders"] if each in self.orders]}

    def _facts(self, order: str) -> dict[str, Any]:
        payment = {
            "trade": f"20251009{order[1:]}",
            "minor": 1280,
            "currency": "CNY",
            "is_paid": True,
            "refunded_minor": 0,
        }
        return {"account": "shop", "order": order, "status": "PAID", "payments": [payment], "refunds": {}}


def compared(rows: Sheet, api: Table) -> Comparison:
    found = Comparison(api, "shop", rows)
    rows.complete()
    found.of_bill(lambda count: None)
    return found


def test_bill_is_looked_up_in_batches() -> None:
    count = comparison.TRADES_AT_ONCE * 2 + 7
    api, done = Table(*(f"A{each}" for each in range(count - 1))), list[int]()
    with sheet.opened() as rows:
        rows.add(map(line, range(count)))
        found = Comparison(api, "shop", rows)
        assert rows.complete() == count
        found.of_bill(done.append)
        (total,) = found.sums()
    assert (len(api.questions), sum(done)) == (3, count)
    assert found.counts == {"payment_only_in_bill": 1}
    assert (total.bill_count, total.here_count, total.here_minor) == (count, count - 1, (count - 1) * 1280)


def test_trade_that_another_account_of_the_seller_has_is_no_difference() -> None:
    class Shared(Table):
        def send(self, method: str, *path: str, body: Mapping[str, object]) -> dict[str, Any]:
            self.orders = {"A1"} if body["account"] == "shop" else {"A2", "A4"}
            return super().send(method, *path, body=body)

    with sheet.opened() as rows:
        rows.add([line(1), line(2), line(3), structs.replace(line(4), trade="20251009-other")])
        rows.complete()
        found = Comparison(Shared(), "shop", rows, sharing=["web"])
        found.of_bill(lambda count: None)
    assert [each.order for each in found.differences] == ["A3", "A4"]
    assert found.elsewhere == {"web": 1}


def test_orders_of_other_merchants_are_not_compared() -> None:
    api = Table("A1")
    with sheet.opened() as rows:
        rows.add([line(1)])
        rows.complete()
        found = Comparison(api, "shop", rows, merchant=("2021", "shop/2021"))
        found.of_bill(lambda count: None)
    ((only,),) = [found.differences]
    assert (only.scope, only.kind) == ("shop/2021", DifferenceKind.PAYMENT_ONLY_IN_BILL)


def test_batches_with_long_numbers_are_smaller() -> None:
    with sheet.opened() as rows:
        rows.add(structs.replace(line(each), order="中" * 120 + str(each)) for each in range(100))
        api = Table()
        compared(rows, api)
    assert len(api.questions) > 1


def test_only_some_differences_are_kept_and_all_are_counted() -> None:
    count = DIFFERENCES_MAX + 5
    with sheet.opened() as rows:
        rows.add(map(line, range(count)))
        found = compared(rows, Table())
    assert (len(found.differences), found.counts["payment_only_in_bill"]) == (DIFFERENCES_MAX, count)


def test_orders_are_walked_again_until_none_has_changed_meanwhile() -> None:
    walks: list[list[list[dict[str, Any]]]] = [
        [[listed("A1", NOON_MS + 5), listed("A2")], [listed("A3")]],
        [[listed("A4", NOON_MS + 9)]],
        [[]],
    ]
    api, walked = Table(pages=walks), list[int]()
    with sheet.opened() as rows:
        rows.add([line(1)])
        rows.complete()
        found = Comparison(api, "shop", rows)
        found.of_store(SPAN, walked.append)
    assert sorted(each.order for each in found.differences) == ["A2", "A3", "A4"]
    assert {each.kind for each in found.differences} == {DifferenceKind.PAYMENT_ONLY_HERE}
    expected = [SINCE_MS, *(each - comparison.OVERLAP_MS for each in (NOON_MS + 5, NOON_MS + 9))]
    assert api.sinces == [times.from_epoch_ms(each).isoformat() for each in expected]
    assert sum(walked) == 4


def test_order_that_changes_during_the_walk_is_reported_once() -> None:
    walks = [[[listed("A2")]], [[listed("A2", NOON_MS + 1)]], [[listed("A2", NOON_MS + 2)]]]
    with sheet.opened() as rows:
        rows.complete()
        found = Comparison(Table(pages=walks), "shop", rows)
        found.of_store(SPAN, lambda count: None)
    assert found.counts == {"payment_only_here": 1}


def test_walk_over_orders_that_go_on_changing_ends() -> None:
    walks = [[[listed("A2", NOON_MS + each)]] for each in range(50)]
    api = Table(pages=walks)
    with sheet.opened() as rows:
        rows.complete()
        Comparison(api, "shop", rows).of_store(SPAN, lambda count: None)
    assert len(api.sinces) == comparison.WALKS_MAX
