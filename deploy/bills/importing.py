"""One import of a bill: read it, compare it, and write the report over the admin API."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from deploy.bills import layouts, neighbours, reader, sheet
from deploy.bills.comparison import BillApi, Comparison
from deploy.bills.files import BadBill, BillFile
from deploy.bills.judgement import BillPeriod
from deploy.bills.layouts import BillLine
from deploy.bills.reader import BillNotes
from deploy.bills.sheet import Sheet
from schemas.accounts import Family
from schemas.times import DAY_MS, HOUR_MS
from workers.bills import BillReport, BillSum

SENT_BYTES_MAX = 40_000  # of differences in one request
TEXT_CHARACTERS_MAX = 200  # of a text from the file
LEFT_OUT_MAX = 10  # files of an archive that are named
SUMS_MAX = 100
BEIJING_MS = 8 * HOUR_MS

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


class CannotAsk(Exception):
    """Alipay cannot be asked about orders of the account; nothing was compared."""


class _Rows:
    """The rows that are compared: all, or those of the period that was given."""

    def __init__(self, given: BillPeriod | None) -> None:
        self._given = given
        self.outside = 0
        self.is_settlement = False

    def of(self, lines: Iterator[BillLine]) -> Iterator[BillLine]:
        for line in lines:
            self.is_settlement = self.is_settlement or line.is_settled
            if self._given is None or line.at_ms is None or self._given.has(line.at_ms):
                yield line
            else:
                self.outside += 1


def run(
    api: BillApi,
    bill: BillFile,
    *,
    account: str,
    auth_app_id: str = "",
    given: BillPeriod | None,
    ask: bool,
    by: str,
    progress: Progress,
) -> dict[str, Any]:
    """Compare a bill and return `import`, its `differences`, `replaces` and, if it was wanted, `asked`.

    Raises:
        BadBill: the file cannot be used.
        CannotAsk: it is wanted, and the account does not ask.
        AdminApiError: the server does not answer, or refuses.
    """
    notes, wanted = BillNotes(), _Rows(given)
    with sheet.opened() as rows:
        with progress("reading the bill", bill.size) as advance:
            rows.add(wanted.of(reader.read(bill, notes, advance)))
        _check_alone(notes)
        span = given or span_of(notes, rows, is_settlement=wanted.is_settlement)
        chosen = api.send("POST", "bills", "account", body=_account(account, auth_app_id, notes))
        if ask and not chosen["can_ask"]:
            raise CannotAsk("--ask needs an account with queries = true and merchant_key_file in accounts.toml")
        merchant = (auth_app_id, str(chosen["scope"])) if auth_app_id else None
        comparison = Comparison(api, chosen["account"], rows, sharing=chosen["sharing"], merchant=merchant)
        with progress("comparing the bill", rows.complete()) as advance:
            comparison.of_bill(advance, None if wanted.is_settlement else span)
        if not wanted.is_settlement:
            with progress("looking through the orders", None) as advance:
                comparison.of_store(span, advance)
            if not (notes.unreadable_count or notes.disagreements() or notes.left_out or wanted.outside):
                comparison.of_neighbours(neighbours.undecided(api, chosen["account"], auth_app_id, span))
        sums = comparison.sums()
        report = BillReport(
            file=_shown(bill.name),
            layout=", ".join(sorted(notes.layouts)),
            since_ms=span.since_ms,
            until_ms=span.until_ms,
            by=by,
            rows=notes.rows,
            duplicates=rows.duplicates,
            outside=wanted.outside,
            unreadable=notes.unreadable_count,
            faults=tuple(map(_shown, notes.unreadable)),
            disagreements=tuple(map(_shown, _doubts(notes, sums))),
            others={_shown(name): count for name, count in notes.others.items()}
            | {f"of the account {name}": count for name, count in comparison.elsewhere.items()},
            left_out=tuple(map(_shown, notes.left_out[:LEFT_OUT_MAX])),
            is_one_way=wanted.is_settlement,
            auth_app_id=auth_app_id,
            sums=sums[:SUMS_MAX],
            counts=dict(comparison.counts),
        )
        result = _sent(api, chosen["account"], bill.digest, report, comparison)
    if ask:
        result["asked"] = _asked(api, result["import"]["number"], by)
    return result


def span_of(notes: BillNotes, rows: Sheet, *, is_settlement: bool = False) -> BillPeriod:
    """Return the period of the file: that in its comments, else of its rows: their day in UTC+8, or from first to last.

    Rows of two days in UTC+8 are of one day in another zone, whose other hours the file does not have. Those of a
    settlement are of many days, and nothing is looked for by them.

    Raises:
        BadBill: it has neither, the bills of an archive do not follow each other, or the rows are of more than two
            days: one row of another time would make a period of months.
    """
    if notes.spans_ms:
        first_ms = ends_ms = min(notes.spans_ms)[0]
        for since_ms, until_ms in sorted(notes.spans_ms):
            if since_ms > ends_ms:
                raise BadBill("the bills of the archive leave days out: import them one by one, or give --date")
            ends_ms = max(ends_ms, until_ms)
        return BillPeriod(first_ms, ends_ms)
    if rows.span_ms is None:
        raise BadBill("the file does not name its period: give it with --date")
    first, last = ((each + BEIJING_MS) // DAY_MS for each in rows.span_ms)
    if last > first and not is_settlement:
        if last - first > 1:
            raise BadBill(
                f"the file does not name its period, and its rows are of {last - first + 1} days, or of days between "
                "which there are none: give the period with --date; rows of other days are left out"
            )
        return BillPeriod(rows.span_ms[0], rows.span_ms[1] + 1)
    return BillPeriod(first * DAY_MS - BEIJING_MS, (last + 1) * DAY_MS - BEIJING_MS)


def _doubts(notes: BillNotes, sums: Sequence[BillSum]) -> list[str]:
    """Return why the file is not a whole and certain bill; nothing compared is no agreement."""
    is_compared = any(each.bill_count for each in sums)
    doubt = "no row was compared, and the file does not announce that it has none"
    return notes.disagreements() + ([] if is_compared or notes.announces_none else [doubt])


def _check_alone(notes: BillNotes) -> None:
    """Raise `BadBill` if an archive has bills of several merchants or layouts: they are of several accounts."""
    if len(notes.merchants) > 1:
        raise BadBill(f"the file has bills of several merchants: {', '.join(sorted(notes.merchants)[:5])}")
    if len(notes.layouts) > 1:
        raise BadBill(f"the file has several kinds of bills: {', '.join(sorted(notes.layouts))}")


def _account(account: str, auth_app_id: str, notes: BillNotes) -> dict[str, Any]:
    found = [layout for layout in layouts.LAYOUTS if layout.name in notes.layouts]
    is_antom = any(Family.ANTOM in layout.families for layout in found)
    merchants = sorted(notes.merchants)
    return {"account": account, "auth_app_id": auth_app_id, "merchants": merchants, "is_antom": is_antom}


def _sent(api: BillApi, account: str, digest: str, report: BillReport, comparison: Comparison) -> dict[str, Any]:
    """Write the report in pieces, and return it as the server shows it."""
    body = {"account": account, "digest": digest, "report": msgspec.to_builtins(report), "by": report.by}
    number = str(api.send("POST", "bills", body=body)["number"])
    first = 1
    for some in _pieces(msgspec.to_builtins(comparison.differences)):
        api.send("POST", "bills", number, "differences", body={"first": first, "differences": some})
        first += len(some)
    finished = api.send("POST", "bills", number, "finish", body={"by": report.by})
    return finished | api.get("bills", number, "differences", limit=1000)


def _pieces(differences: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the differences in pieces that the API takes."""
    piece: list[dict[str, Any]] = []
    size = 0
    for each in differences:
        length = len(json.dumps(each))
        if piece and size + length > SENT_BYTES_MAX:
            yield piece
            piece, size = [], 0
        piece.append(each)
        size += length
    if piece:
        yield piece


def _asked(api: BillApi, number: int, by: str) -> dict[str, int]:
    """Register the orders that only the bill has; return how many were registered, known, and cannot be."""
    asked = {"registered": 0, "known": 0, "unusable": 0}
    after: int | None = 0
    while after is not None:
        answer = api.send("POST", "bills", str(number), "ask", body={"after": after, "by": by})
        asked = {name: count + answer[name] for name, count in asked.items()}
        after = answer["after"]
    return asked


def _shown(text: str) -> str:
    """Return a text of the file, cut, and without characters that cannot be printed."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:TEXT_CHARACTERS_MAX])
