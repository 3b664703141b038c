"""Which payments the reports of neighbouring periods leave to a bill."""

from collections.abc import Mapping
from typing import Any

from deploy.bills import neighbours
from deploy.bills.judgement import NEAR_EDGE, BillPeriod
from schemas import times
from schemas.times import DAY_MS, HOUR_MS

SINCE_MS = 1_759_939_200_000  # 2025-10-09 in China
SPAN = BillPeriod(SINCE_MS, SINCE_MS + DAY_MS)
WHOLE = {"is_one_way": False, "unreadable": 0, "disagreements": [], "left_out": [], "outside": 0}


def moment(at_ms: int) -> str:
    return times.from_epoch_ms(at_ms).isoformat()


def shown(order: str, at_ms: int | None, **more: object) -> dict[str, Any]:
    at = None if at_ms is None else moment(at_ms)
    return {
        "kind": "uncertain", "account": "shop", "order": order, "trade": f"T{order}", "here_minor": 1280,
        "here_currency": "CNY", "at": at, "detail": NEAR_EDGE, **more,
    }  # fmt: skip


class Reports:
    """The reports of an API, the newest first, in pages of two."""

    def __init__(self) -> None:
        self.imports: list[dict[str, Any]] = []
        self.differences: dict[str, list[dict[str, Any]]] = {}

    def add(self, since_ms: int, *found: dict[str, Any], account: str = "shop", **more: object) -> None:
        number = len(self.imports) + 1
        self.imports.insert(0, {
            "number": number, "account": account, "since": moment(since_ms), "until": moment(since_ms + DAY_MS),
            "report": WHOLE | more,
        })  # fmt: skip
        self.differences[str(number)] = [*found]

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]:
        if path[-1] == "differences":
            return {"differences": self.differences[path[1]]}
        before = query["before"]
        page = [each for each in self.imports if before is None or each["number"] < int(before)][:2]
        return {"imports": page, "before": page[-1]["number"] if len(page) == 2 else None}

    def send(self, method: str, *path: str, body: Mapping[str, object]) -> dict[str, Any]:
        raise AssertionError("nothing is written")


def orders(api: Reports, auth_app_id: str = "") -> list[str]:
    return [each.order for each in neighbours.undecided(api, "shop", auth_app_id, SPAN)]


def test_payments_near_the_shared_edges_are_those_of_the_day_before_and_after() -> None:
    api = Reports()
    api.add(SINCE_MS - DAY_MS, shown("B", SINCE_MS - 1000), shown("FAR", SINCE_MS - DAY_MS))
    api.add(SINCE_MS + DAY_MS, shown("A", SINCE_MS + DAY_MS))
    api.add(SINCE_MS, shown("SAME", SINCE_MS))
    api.add(SINCE_MS + 3 * DAY_MS, shown("LATER", SINCE_MS + DAY_MS))
    api.add(SINCE_MS + HOUR_MS, shown("OTHER-ZONE", SINCE_MS + DAY_MS))
    assert orders(api) == ["A", "B"]


def test_only_the_newest_whole_report_of_the_account_counts() -> None:
    api = Reports()
    before_ms, found = SINCE_MS - DAY_MS, shown("B", SINCE_MS)
    api.add(before_ms, shown("OLD", SINCE_MS))
    api.add(before_ms, found)
    faults: list[dict[str, object]] = [{"unreadable": 1}, {"disagreements": ["x"]}, {"left_out": ["x"]}, {"outside": 1}]
    for number, fault in enumerate(faults):
        api.add(before_ms, shown(f"PART-{number}", SINCE_MS), **fault)  # type: ignore[arg-type]
    api.add(before_ms, shown("SETTLED", SINCE_MS), is_one_way=True)
    api.add(before_ms, shown("THEIRS", SINCE_MS), account="other")
    assert orders(api) == ["B"]


def test_only_payments_that_are_uncertain_by_their_edge_count() -> None:
    api = Reports()
    api.add(
        SINCE_MS - DAY_MS,
        shown("B", SINCE_MS),
        shown("REFUND", SINCE_MS, detail="refunded near the edge"),
        shown("MISSING", SINCE_MS, kind="payment_only_here"),
        shown("TIMELESS", None),
    )
    assert orders(api) == ["B"]


def test_merchants_of_one_account_have_reports_of_their_own() -> None:
    api = Reports()
    for merchant in ("2021", "2022"):
        api.add(SINCE_MS - DAY_MS, shown(merchant, SINCE_MS, auth_app_id=merchant), auth_app_id=merchant)
    assert [orders(api, merchant) for merchant in ("2021", "2022", "")] == [["2021"], ["2022"], []]
    assert [each.scope for each in neighbours.undecided(api, "shop", "2021", SPAN)] == ["shop/2021"]
