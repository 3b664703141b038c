"""Payments near the edge of a period that the bill of the neighbouring period decides.

A payment of the last minutes of a day may be in the bill of the next day. The report of its own day calls it uncertain.
When the other bill is imported, also again, it is there, or it is in neither of the two and missing. The earlier report
stays as it was: the later one has the difference.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from deploy.bills.comparison import BillApi
from deploy.bills.judgement import EDGE_MS, NEAR_EDGE, BillPeriod
from schemas import scopes, times
from workers.bills import DIFFERENCES_MAX, BillDifference, DifferenceKind

IMPORTS_AT_ONCE = 200
PAGES_MAX = 5  # of imports, the newest first


def undecided(api: BillApi, account: str, auth_app_id: str, span: BillPeriod) -> Iterator[BillDifference]:
    """Yield the payments that the reports of the neighbouring periods leave to the bill of this one.

    `auth_app_id` is the merchant, if the account serves several. Only reports of whole bills count: in another one a
    payment may be missing because a part of it is.
    """
    for number, edge_ms in _neighbours(api, account, auth_app_id, span):
        listed = api.get("bills", str(number), "differences", limit=DIFFERENCES_MAX)["differences"]
        for each in listed:
            found = _payment(each)
            if found is not None and abs((found.at_ms or 0) - edge_ms) < EDGE_MS:
                yield found


def _neighbours(api: BillApi, account: str, auth_app_id: str, span: BillPeriod) -> Iterator[tuple[int, int]]:
    """Yield the number of the newest report of each neighbouring period, and the moment that they share."""
    before, found = None, set[int]()
    for _ in range(PAGES_MAX):
        answer = api.get("bills", limit=IMPORTS_AT_ONCE, before=before)
        for each in answer["imports"]:
            edge_ms = _shared_edge(span, each)
            if edge_ms is None or edge_ms in found:
                continue
            of_whom = each["account"], each["report"].get("auth_app_id", "")
            if of_whom == (account, auth_app_id) and _is_whole(each["report"]):
                found.add(edge_ms)
                yield each["number"], edge_ms
        before = answer["before"]
        if before is None or found == {span.since_ms, span.until_ms}:
            return


def _shared_edge(span: BillPeriod, shown: dict[str, Any]) -> int | None:
    """Return the moment at which the period of an import and this one meet; `None` if they do not."""
    since_ms, until_ms = (times.iso_to_epoch_ms(shown[name]) for name in ("since", "until"))
    if until_ms == span.since_ms:
        return until_ms
    return since_ms if since_ms == span.until_ms else None


def _is_whole(report: dict[str, Any]) -> bool:
    faults = ("is_one_way", "unreadable", "disagreements", "left_out", "outside")
    return not any(report[name] for name in faults)


def _payment(shown: dict[str, Any]) -> BillDifference | None:
    """Return a difference as the API shows it, if it is a payment near an edge."""
    if shown["kind"] != DifferenceKind.UNCERTAIN or shown["detail"] != NEAR_EDGE or shown["at"] is None:
        return None
    return BillDifference(
        kind=DifferenceKind.UNCERTAIN,
        scope=scopes.joined(shown["account"], shown.get("auth_app_id", UNSET)),
        order=shown["order"],
        trade=shown["trade"],
        here_minor=shown["here_minor"],
        here_currency=shown["here_currency"],
        at_ms=times.iso_to_epoch_ms(shown["at"]),
    )
