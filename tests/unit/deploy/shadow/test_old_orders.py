"""The merchant's orders as CSV and JSON lines, and the rows that are left out."""

import io
from collections.abc import Sequence

import pytest

from deploy.shadow import old_orders
from deploy.shadow.lines import BadLine
from deploy.shadow.old_orders import OrderDefaults, OrderRow
from deploy.shadow.shapes import OldOrder, OldState
from schemas.money import Money

DEFAULTS = OrderDefaults(account="shop", currencies={"shop": "CNY", "jp": "JPY"}, as_of_ms=5, words={})


def rows(text: str | bytes) -> list[OrderRow]:
    content = text if isinstance(text, bytes) else text.encode()
    return list(old_orders.read(io.BytesIO(content), DEFAULTS))


def orders(text: str | bytes) -> list[OldOrder]:
    found = rows(text)
    assert [row.fault for row in found if row.fault] == []
    return [row.order for row in found if row.order is not None]


def faults(lines: Sequence[str]) -> list[tuple[int, str]]:
    return [(row.number, row.fault) for row in rows("\n".join(lines)) if row.fault]


def test_csv_has_its_columns_in_any_order_and_may_have_more() -> None:
    text = '\ufeffstate,customer,order,amount,refunded\npaid,"Li, Wei",A-1,12.8,\n\nrefunded,x,A-2,5,5.00\n'
    assert orders(text) == [
        OldOrder(account="shop", number="A-1", as_of_ms=5, state=OldState.PAID, amount=Money(1280, "CNY")),
        OldOrder(
            account="shop",
            number="A-2",
            as_of_ms=5,
            state=OldState.REFUNDED,
            amount=Money(500, "CNY"),
            refunded_minor=500,
        ),
    ]


def test_json_lines_may_name_account_and_currency() -> None:
    text = '{"order":"B","account":"jp","amount":1280}\n{"order":7,"amount":12.8,"currency":"USD","state":null}\n'
    assert [(each.number, each.account, each.amount) for each in orders(text)] == [
        ("B", "jp", Money(1280, "JPY")),
        ("7", "shop", Money(1280, "USD")),
    ]


def test_faulty_rows_are_named_and_the_others_are_read() -> None:
    assert faults(["order,state,amount,account", "A,paid,1.00,", "B,shelved,1.00,", "C,paid", "D,paid,1.005,", ""]) == [
        (3, "state 'shelved' is not known; map it with --state shelved=paid, for example"),
        (4, "has 2 columns, and line 1 has 4"),
        (5, "amount '1.005': CNY amounts must have 2 decimals, such as 12.80"),
    ]
    assert faults(['{"order":"A\\ud800"}', '{"order":"A","state":"\\ud800"}']) == [
        (1, "order is not text: it has half of a character"),
        (2, "state is not text: it has half of a character"),
    ]
    assert faults(['{"order":"A","account":"x"}', '{"order":""}', "{", '{"order":"A","amount":[]}']) == [
        (1, "account 'x' is not in accounts.toml"),
        (2, "order is missing"),
        (3, "is not JSON; an access log needs escape=json and UTF-8"),
        (4, "amount is neither text nor a number"),
    ]


def test_marks_of_spreadsheets_are_no_part_of_a_cell() -> None:
    text = (
        "order,amount,state\n"
        "'2026113000000000017,'12.80,paid\n"
        '="2026113000000000018",12.80\t,paid\n'
        "2026113000000000019\t,5,paid\n"
    )
    assert [(each.number, each.amount) for each in orders(text)] == [
        ("2026113000000000017", Money(1280, "CNY")),
        ("2026113000000000018", Money(1280, "CNY")),
        ("2026113000000000019", Money(500, "CNY")),
    ]
    (fault,) = faults(["order", "2.02611E+18"])
    assert (fault[0], "rounded" in fault[1]) == (2, True)


def test_file_without_orders_is_refused_and_an_empty_one_has_none() -> None:
    assert rows("") == []
    with pytest.raises(BadLine, match="neither a JSON object nor a column"):
        rows("id;state\n1;paid\n")
    with pytest.raises(BadLine, match="not CSV in UTF-8"):
        rows(b"order,\xff\n")
