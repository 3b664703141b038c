"""Read a bill row by row: its comments, its header, and each payment and refund.

A row that cannot be read is counted and named, and the others are read on: one broken cell must not hide a day's
differences. A file whose columns are unknown is refused.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct, field

from deploy.bills import cells, files, layouts
from deploy.bills.cells import BadCell
from deploy.bills.files import Advance, BadBill, BillFile, RawLine
from deploy.bills.layouts import BillColumns, BillLine, LineKind

ROWS_MAX = 9_000_000  # of the largest amounts, whose sum SQLite still holds
HEADER_WITHIN = 50  # lines that are no comments
JOINED_MAX = 8  # lines of one row: a product's name may have line breaks
MINUTE_MS = 60_000
COMMENT_CHARACTERS_MAX = 500  # that are looked at: the patterns take quadratic time
KEPT_MAX = 1000  # merchants and periods
NAMED_MAX = 20  # faulty rows that are named; all are counted
SEPARATORS = (",", "\t", "|", ";")
END = "<END>"  # the last line of Antom's reports; its older files have none

_ACCOUNT = re.compile(r"账号[:：]\s*\[?(\d{16,20})|^Partner[:：]\s*(\d{16})")
_SPAN = re.compile(r"起始日期[:：]\s*\[?(.+?)\]?\s+终止日期[:：]\s*\[?([^\]]+)")
_COUNTS = re.compile(r"交易合计[:：]\s*(\d+)\s*笔.*?退款合计[:：]\s*(\d+)\s*笔")
_TOTAL = re.compile(r"\bTotal_count[:：]\s*(\d+)")
_BEGINS, _ENDS = re.compile(r"明细列表-+"), re.compile(r"明细列表结束")


class BillNotes(Struct, kw_only=True):
    """Everything about a file except its payments and refunds; it is complete when all rows are read.

    `merchants` are the account numbers in the comments, `spans_ms` the periods that they give. `unreadable` has the
    first faulty rows. `others` counts rows of types that are not compared. `announced` is the number of payments and
    refunds that the summary gives, and of all rows where it does not tell them apart.
    """

    layouts: set[str] = field(default_factory=set)
    merchants: set[str] = field(default_factory=set)
    spans_ms: set[tuple[int, int]] = field(default_factory=set)
    rows: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    unreadable_count: int = 0
    others: Counter[str] = field(default_factory=Counter)
    announced: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)  # files of the archive with other columns
    is_cut_off: bool = False
    has_end: bool = False  # the last line of one of Antom's reports

    @property
    def announces_none(self) -> bool:
        """Whether the file itself announces no payments and no refunds."""
        is_announced = bool(self.announced) and not any(self.announced.values())
        return is_announced or (self.has_end and not self.rows and not self.announced)

    def disagreements(self) -> list[str]:
        """Return the sentences on where the file contradicts itself."""
        found = [
            f"the summary has {wanted} {kind}s, the rows have {self.counted[kind]}"
            for kind, wanted in self.announced.items()
            if kind in set(LineKind) and wanted != self.counted[kind]
        ]
        total = self.announced.get("row")
        if total is not None and total != self.rows:
            found.append(f"the first line has {total} rows, the file has {self.rows}")
        return found + (["the file ends before the end of its list: download it again"] if self.is_cut_off else [])


def read(bill: BillFile, notes: BillNotes, advance: Advance) -> Iterator[BillLine]:
    """Yield the payments and refunds of a bill, and fill in the notes meanwhile.

    Raises:
        BadBill: no part of it has known columns, or it has more than `ROWS_MAX` rows.
    """
    refusal: BadBill | None = None
    for name, lines in files.members(bill, advance):
        try:
            yield from _Member(lines, notes).lines()
        except _UnknownColumns as unknown:
            if unknown.is_totals:
                continue
            notes.left_out.append(name)
            refusal = refusal or BadBill(f"{name}: {unknown}")
    if not notes.layouts:
        raise refusal or BadBill("the file has sums only: import the file with one row for each payment")


class _UnknownColumns(Exception):
    def __init__(self, text: str, *, is_totals: bool = False) -> None:
        super().__init__(text)
        self.is_totals = is_totals


class _Text(Struct, frozen=True):
    """A decoded line."""

    number: int
    text: str
    is_cut: bool


class _Member:
    """One CSV file of a bill."""

    def __init__(self, lines: Iterator[RawLine], notes: BillNotes) -> None:
        self._lines = _decoded(lines)
        self._again: list[_Text] = []  # lines that were tried as parts of the row before
        self._notes = notes
        self._is_open = False  # the list has begun, and its end is marked
        self._shape: tuple[str, int] | None = None  # separator and cells of a row, when the header is read

    def lines(self) -> Iterator[BillLine]:
        columns, separator, width = self._header()
        self._shape = separator, width
        notes = self._notes
        notes.layouts.add(columns.layout.name)
        has_end = False
        for line in self._content():
            if line.text.strip(' \t,"') == END:
                notes.has_end = has_end = True
                break
            row, is_whole = self._row(line, separator, width)
            if not any(map(cells.plain, row)):
                continue
            notes.rows += 1
            if notes.rows > ROWS_MAX:
                raise BadBill(f"the file has more than {ROWS_MAX:,} rows")
            try:
                if not is_whole:
                    raise BadCell(_fault(line, row, width))
                found = columns.line(row, line.number)
            except BadCell as bad:
                notes.unreadable_count += 1
                if len(notes.unreadable) < NAMED_MAX:
                    notes.unreadable.append(f"line {line.number}: {bad}")
                continue
            if found is None:
                notes.others[cells.word(columns.type_of(row)) if len(notes.others) < NAMED_MAX else cells.HIDDEN] += 1
                continue
            notes.counted[found.kind.value] += 1
            yield found
        notes.is_cut_off = notes.is_cut_off or self._is_open or (columns.has_end and not has_end)

    def _header(self) -> tuple[BillColumns, str, int]:
        first: list[str] = []
        for tried, line in enumerate(self._content()):
            if tried == HEADER_WITHIN:
                break
            for separator in SEPARATORS:
                if (columns := layouts.columns_of(found := _cells(line.text, separator))) is not None:
                    return columns, separator, len(found)
                if layouts.is_totals(found):
                    raise _UnknownColumns("sums only", is_totals=True)
                first = first if len(first) >= len(found) else found
            self._note(line.text)
        names = ", ".join(each for cell in first[:40] if (each := cells.word(cells.plain(cell)))) or "none"
        raise _UnknownColumns(
            "its columns are unknown. Found: " + names + ". Wanted, one of: " + "; ".join(layouts.wanted())
        )

    def _content(self) -> Iterator[_Text]:
        """Yield the lines that are no comments and not empty; comments become notes."""
        while (line := self._next()) is not None:
            if line.text.lstrip(' "\ufeff').startswith("#") and not self._is_row(line.text):
                self._note(line.text)
            elif line.text.strip():
                yield line

    def _is_row(self, text: str) -> bool:
        """Return whether a line that begins like a comment is a row. Spreadsheets fill comments up with empty cells."""
        if self._shape is None:
            return False
        separator, width = self._shape
        row = _cells(text, separator)
        return len(row) == width and any(map(cells.plain, row[1:]))

    def _next(self) -> _Text | None:
        return self._again.pop(0) if self._again else next(self._lines, None)

    def _row(self, line: _Text, separator: str, width: int) -> tuple[list[str], bool]:
        """Return the cells of the row that begins with this line, and whether it has them all.

        A quoted cell may have line breaks. A stray quote must not swallow the rows that follow it, so a line
        that has all cells by itself is a row of its own, whatever quotes are open before it.
        """
        is_sound = not line.is_cut and "\0" not in line.text
        row = _cells(line.text, separator)
        if not is_sound or (line.text.count('"') % 2 == 0 and len(row) == width):
            return row, is_sound
        text, taken = line.text, list[_Text]()
        while line.text.count('"') % 2 and len(taken) < JOINED_MAX and (following := self._next()) is not None:
            taken.append(following)
            if _has_all_cells(following.text, separator, width):
                break
            text = f"{text}\n{following.text}"
            if text.count('"') % 2 == 0 and len(joined := _cells(text, separator)) == width:
                return joined, "\0" not in text and not any(each.is_cut for each in taken)
        self._again = taken + self._again
        row = line.text.split(separator)
        return row, len(row) == width

    def _note(self, text: str) -> None:
        """Keep what a comment, or a line before the header, says about the file."""
        notes, text = self._notes, text[:COMMENT_CHARACTERS_MAX]
        if len(notes.merchants) + len(notes.spans_ms) > KEPT_MAX:
            return
        if match := _ACCOUNT.search(text):
            notes.merchants.add((match[1] or match[2])[:16])
        if (match := _SPAN.search(text)) and (span := _span(match[1], match[2])) is not None:
            notes.spans_ms.add(span)
        if match := _COUNTS.search(text):
            notes.announced.update(
                {LineKind.PAYMENT.value: int(match[1][:9]), LineKind.REFUND.value: int(match[2][:9])}
            )
        if match := _TOTAL.search(text):
            notes.announced["row"] += int(match[1][:9])
        if _ENDS.search(text):
            self._is_open = False
        elif _BEGINS.search(text):
            self._is_open = True


def _span(first: str, last: str) -> tuple[int, int] | None:
    try:
        begins, ends = cells.moment_ms(_clock(first)), cells.moment_ms(_clock(last))
    except BadCell:
        return None
    if begins is None or ends is None:
        return None
    if ends % MINUTE_MS == MINUTE_MS - 1000:  # 23:59:59 is in the period, and 00:00:00 would be after it
        ends += 1000
    return (begins, ends) if begins < ends else None


def _clock(text: str) -> str:
    return text.replace("年", "-").replace("月", "-").replace("日", " ").replace("  ", " ").strip(" ]\t,")


def _has_all_cells(text: str, separator: str, width: int) -> bool:
    if len(text.split(separator)) == width:
        return True
    return text.count('"') % 2 == 0 and len(_cells(text, separator)) == width


def _fault(line: _Text, row: Sequence[str], width: int) -> str:
    if line.is_cut:
        return f"it has more than {files.LINE_BYTES_MAX >> 10} KiB"
    return "it has a NUL character" if "\0" in line.text else f"it has {len(row)} cells instead of {width}"


def _cells(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([text.replace("\r", " ")], delimiter=separator), [])
    except csv.Error:  # Python 3.11 refuses NUL
        return text.split(separator)


def _decoded(lines: Iterator[RawLine]) -> Iterator[_Text]:
    """Decode the lines: UTF-8 if the first line with other than ASCII characters is, else GBK with its extensions.

    What cannot be decoded is replaced: a buyer's text that was cut inside a character is no fault of the row. A number
    with a replaced character is refused where it is read.
    """
    charset = ""
    for line in lines:
        content = line.content
        if line.number == 1:
            if content.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise BadBill("the file is UTF-16: save it as CSV in UTF-8, or import it as it was downloaded")
            if content.startswith(b"\xef\xbb\xbf"):
                content, charset = content[3:], "utf-8"
        if not charset and not content.isascii():
            charset = _charset(content, is_cut=line.is_cut)
        yield _Text(line.number, content.decode(charset or "ascii", "replace"), line.is_cut)


def _charset(content: bytes, *, is_cut: bool) -> str:
    try:
        content[: -4 if is_cut else None].decode("utf-8")
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"
