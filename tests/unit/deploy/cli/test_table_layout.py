"""Tables fit their terminal, and no word in them is cut or folded."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from deploy.cli import table_layout

ID, LONG = "2026112900222164239871728483672571", "A" * 64
CHINESE = "订单已经退款，请先在支付宝商家平台核对金额，再决定是否接受这一笔通知。"
PROSE = "a value contains & and the name of a parameter, so the signature also fits other parameters"
WORD = st.text("abcd0123456789-:/票", min_size=1, max_size=70)
PARTS = re.compile(r"票|[^票\s]+")  # Chinese is wrapped between any two characters
CELL = st.one_of(st.just(""), WORD, st.lists(WORD, max_size=6).map(" ".join), st.just("2026-11-30 09:07:38"))


def drawn(
    columns: list[str], rows: list[list[str]], *, width: int = 80, title: str = "", is_terminal: bool = False
) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=is_terminal)
    table_layout.draw(console, title, columns, rows, {})
    return [line.rstrip() for line in out.getvalue().splitlines()]


def hung(label: str, text: str, *, width: int = 80) -> list[str]:
    out = io.StringIO()
    table_layout.hanging(Console(file=out, width=width, color_system=None), Text(label), Text(text))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_rows_that_fit_are_a_plain_table() -> None:
    lines = drawn(["id", "state"], [["0-1", "held"], ["0-22", "applied"]], title="Held")
    assert "Held" in lines[0]
    assert [line.split() for line in lines if "0-" in line] == [["0-1", "held"], ["0-22", "applied"]]


def test_prose_is_wrapped_beside_whole_ids() -> None:
    lines = drawn(["id", "detail"], [[ID, PROSE]])
    assert any(ID in line and "a value contains" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert PROSE in " ".join(" ".join(line.split()) for line in lines).replace(f"{ID} ", "")


def test_columns_that_do_not_fit_follow_below_their_row() -> None:
    columns = ["time", "what", "", "why", "id"]
    rows = [["2026-11-30 09:07:39", "TRADE_SUCCESS", "applied", "changed", f"shop:{LONG}:1"]]
    assert drawn(columns, [*rows, ["2026-11-30 09:07:40", "event", "sent", "", ID]]) == [
        "",
        "time                 what                    why",
        "2026-11-30 09:07:39  TRADE_SUCCESS  applied  changed",
        f"    id shop:{LONG}:1",
        "2026-11-30 09:07:40  event          sent",
        f"    id {ID}",
        "",
    ]


def test_one_long_text_follows_below_its_row_and_the_others_stay_in_the_table() -> None:
    rows = [["settings", "valid", ""], ["accounts", f"shop, market in /srv/{'d' * 60}", "register the path"]]
    rows += [[f"keys of {name}", "1 for RSA2", ""] for name in ("shop", "market", "depot")]
    assert drawn(["check", "finding", "what to do"], rows) == [
        "",
        "check           finding",
        "settings        valid",
        "accounts",
        "    finding shop, market in",
        f"    /srv/{'d' * 60}",
        "    what to do register the path",
        *(f"keys of {name:<6}  1 for RSA2" for name in ("shop", "market", "depot")),
        "",
    ]


def test_column_whose_texts_are_mostly_too_wide_is_below_and_a_later_one_is_beside() -> None:
    fingerprint = f"sha256:{LONG}A"
    rows = [["shop", fingerprint, "ok"], ["market", fingerprint, "expired"], ["depot", "", "ok"]]
    lines = drawn(["account", "fingerprint", "state"], rows)
    assert [line for line in lines if "ok" in line or "expired" in line] == [
        "shop     ok",
        "market   expired",
        "depot    ok",
    ]
    assert sum(fingerprint in line for line in lines) == 2


@pytest.mark.parametrize("width", [20, 80])
def test_terminal_shows_no_column_that_is_empty_in_all_rows(width: int) -> None:
    columns, rows = ["id", "order", "detail"], [["", "", "waits for its order"], ["", "", "held"]]
    shown = " ".join(drawn(columns, rows, width=width, is_terminal=True))
    assert "id" in shown.split(), "the first column names the row"
    assert "order" not in shown.split("waits")[0]
    assert "order" in " ".join(drawn(columns, rows)), "a pipe has the same columns always"
    assert "order" in " ".join(drawn(columns, [], is_terminal=True))


@pytest.mark.parametrize("width", [78, 80, 84])
def test_word_that_fits_only_without_its_indent_has_a_line_of_its_own(width: int) -> None:
    lines = drawn(["name", "answer"], [["n" * 20, f"200 {'x' * 78} 27 ms"]], width=width)
    assert any("x" * 78 in line for line in lines)
    assert max(map(len, lines)) <= width


def test_word_wider_than_the_terminal_is_neither_cut_nor_folded() -> None:
    lines = drawn(["id", "address"], [["0-1", "y" * 200]])
    assert any("y" * 200 in line for line in lines)


def test_wide_heading_is_wrapped_above_its_column() -> None:
    rows = [[f"endpoint-{number}", "2026-11-30 09:07:38", "no"] for number in (1, 2)]
    lines = drawn(["endpoint", "last delivered to it, in UTC", "disabled by an operator"], rows, width=60)
    assert [line.split() for line in lines if "endpoint-" in line] == [
        row[0:1] + row[1].split() + row[2:] for row in rows
    ]
    assert "in UTC" in lines[2] or "in UTC" in lines[1]
    assert max(map(len, lines)) <= 60


def test_heading_wider_than_the_terminal_is_wrapped_too() -> None:
    heading = "the number of the order, the trade or the refund"
    lines = drawn([heading, "state"], [["1", "held"]], width=30)
    assert max(map(len, lines)) <= 30
    assert set(heading.split()) <= {word for line in lines for word in line.split()}


def test_wide_names_of_rows_have_lines_of_their_own_and_the_others_stand_below_them() -> None:
    columns = ["order", "difference", "in the bill", "here", "at (UTC)"]
    rows = [[LONG, "only in the bill", "123456789.00 CNY", "", "2026-11-30 09:07:38"]]
    rows += [["B" * 64, "another amount", "12.80 CNY", "12.90 CNY", "2026-11-30 09:07:40"]]
    assert drawn(columns, rows, width=76) == [
        "",
        "order",
        "    difference        in the bill       here       at (UTC)",
        LONG,
        "    only in the bill  123456789.00 CNY             2026-11-30 09:07:38",
        "B" * 64,
        "    another amount    12.80 CNY         12.90 CNY  2026-11-30 09:07:40",
        "",
    ]


def test_one_wide_name_does_not_move_the_names_of_all_rows() -> None:
    rows = [[f"A{number}", "2026-11-30 09:07:38", ID, "held"] for number in range(5)] + [[LONG, "", ID, "held"]]
    lines = drawn(["order", "at (UTC)", "id", "state"], rows, width=64)
    assert lines[2].split() == ["A0", "2026-11-30", "09:07:38", ID]
    assert lines[lines.index(LONG) + 1].split() == [ID]
    assert max(map(len, lines)) <= 64


@pytest.mark.parametrize("width", [40, 60])
def test_chinese_is_wrapped_between_its_characters_and_measured_by_its_width(width: int) -> None:
    for lines in (
        drawn(["id", "reason"], [["0-1", CHINESE]], width=width),
        hung("Reason        ", CHINESE, width=width),
    ):
        assert max(map(cell_len, lines)) <= width
        assert CHINESE in "".join(line.replace("reason", "").replace("Reason", "").strip() for line in lines)
        assert not any(line.strip().startswith(("，", "。")) for line in lines)


def test_text_that_does_not_fit_beside_a_wide_label_is_below_it() -> None:
    label = "amount_differs second_trade_of_one_order "
    lines = hung(label, PROSE, width=60)
    assert (lines[0], lines[1][:13]) == (label.strip(), "    a value c")
    assert hung(label, "fits", width=60) == [f"{label}fits"]


def test_label_and_text_wrap_at_blanks_with_an_indent() -> None:
    lines = hung("Reason        ", PROSE)
    assert lines[0].startswith("Reason        a value")
    assert lines[1].startswith(" " * 14)
    assert max(map(len, lines)) <= 80
    assert hung("Order         ", LONG + "BB") == [f"Order         {LONG}BB"]
    assert hung("Order         ", LONG + "BBB") == ["Order", f"{' ' * 13}{LONG}BBB"]
    assert hung("Order         ", "") == ["Order"]


@given(st.data(), st.integers(1, 6), st.sampled_from([40, 80, 100]))
def test_no_line_is_too_wide_and_no_word_is_broken(data: st.DataObject, count: int, width: int) -> None:
    columns = data.draw(st.lists(st.lists(WORD, min_size=1, max_size=4).map(" ".join), min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(CELL, min_size=count, max_size=count), max_size=4))
    lines = drawn(columns, rows, width=width)
    words = {word for row in rows for cell in row for word in PARTS.findall(cell)}
    assert words <= {word for line in lines for word in PARTS.findall(line)}
    words |= {word for column in columns for word in PARTS.findall(column)}
    widest = max(map(cell_len, words), default=0)
    assert all(cell_len(line) <= max(width, widest) for line in lines)
