"""`alipay-notify bill`: import, list, show."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec import structs

from deploy.cli import admin, bill
from schemas import times
from tests.support import bills
from tests.support.admin import form
from tests.support.bills import bill_in_dollars
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed
from workers.errors import InfrastructureDown

REFUND = {"refund_status": "REFUND_SUCCESS", "gmt_refund": "2025-10-09 18:00:00", "refund_fee": "5.00"}


def written(path: Path, *rows: tuple[str, dict[str, str]]) -> str:
    path.write_bytes(bill_in_dollars(*rows))
    return str(path)


def imported(server: Server, *arguments: str) -> tuple[int, Any]:
    result = against(server, "bill", "import", *arguments, "--account", "shop", "--output", "json")
    assert result.stdout, result.stderr
    return result.exit_code, parsed(result)


def kinds(result: Any) -> list[tuple[str, str]]:
    return [(each["order"], each["kind"]) for each in result["differences"]]


def test_bill_that_agrees_ends_with_zero(server: Server, tmp_path: Path) -> None:
    for order in ("A1", "A2"):
        server.do(server.world.deliver(form(order)))
    server.do(server.world.deliver(form("A1", notify_id="r", **REFUND)))
    refund = {"amount": "-5.00", "kind": "退款", "refund": "R1", "trade": "20251009A1"}
    file = written(tmp_path / "bill.csv", ("A1", {}), ("A2", {}), ("A1", refund))
    code, result = imported(server, file)
    assert (code, result["import"]["is_agreed"], result["differences"]) == (0, True, [])
    sums = [
        (each["kind"], each["bill_count"], each["bill_minor"], each["here_minor"])
        for each in result["import"]["report"]["sums"]
    ]
    assert sums == [("payment", 2, 2560, 2560), ("refund", 1, 500, 500)]
    table = against(server, "bill", "import", file, "--account", "shop")
    assert (table.exit_code, "all agree" in table.stdout, "Replaces" in table.stdout) == (0, True, True)


def test_each_kind_of_difference_is_found(server: Server, tmp_path: Path) -> None:
    world = server.world
    for order in ("same", "cheap", "mine", "refunded"):
        server.do(world.deliver(form(order)))
    server.do(world.deliver(form("refunded", notify_id="r", **REFUND)))
    server.do(world.deliver(form("waits", "WAIT_BUYER_PAY")))
    refund = {"amount": "-3.00", "kind": "退款", "refund": "R2"}
    file = written(
        tmp_path / "bill.csv", ("same", {}), ("cheap", {"amount": "12.79"}), ("refunded", {}), ("waits", {}),
        ("theirs", {}),
        ("same", refund),
    )  # fmt: skip
    code, result = imported(server, file)
    assert code == 3
    assert sorted(kinds(result)) == [
        ("cheap", "payment_amount"), ("mine", "payment_only_here"), ("refunded", "refund_only_here"),
        ("same", "refund_only_in_bill"), ("theirs", "payment_only_in_bill"), ("waits", "payment_only_in_bill"),
    ]  # fmt: skip
    assert result["import"]["differences"] == 6
    shown = against(server, "bill", "show", str(result["import"]["number"]))
    assert (shown.exit_code, "theirs" in shown.stdout, "6 differences" in shown.stdout) == (3, True, True)
    listed = against(server, "bill", "list")
    assert (listed.exit_code, "6 differences" in listed.stdout, "bill.csv" in listed.stdout) == (0, True, True)


def test_refund_that_is_missing_here_is_not_hidden_by_an_earlier_one(server: Server, tmp_path: Path) -> None:
    paid = {"gmt_payment": "2025-10-07 10:00:00"}
    first = REFUND | paid | {"gmt_refund": "2025-10-08 18:00:00"}
    second = first | {"gmt_refund": "2025-10-09 18:00:00", "refund_fee": "8.00"}  # of both refunds
    for order in ("A1", "A2", "A3"):
        server.do(server.world.deliver(form(order, **paid)))
        server.do(server.world.deliver(form(order, notify_id=f"first-{order}", **first)))
    server.do(server.world.deliver(form("A2", notify_id="second", **second)))
    refund = {"kind": "退款", "refund": "R2"}
    rows = [
        (order, refund | {"amount": amount, "trade": f"20251009{order}"})
        for order, amount in (("A1", "-3.00"), ("A2", "-3.00"), ("A3", "-5.00"))
    ]
    code, result = imported(server, written(tmp_path / "bill.csv", *rows))
    assert (code, kinds(result)) == (3, [("A1", "refund_only_in_bill"), ("A3", "refund_only_in_bill")])
    (total,) = result["import"]["report"]["sums"]
    assert (total["kind"], total["bill_minor"], total["here_minor"]) == ("refund", 1100, 300)


def test_comparison_changes_no_order(server: Server, tmp_path: Path) -> None:
    server.do(server.world.deliver(form("A1", "WAIT_BUYER_PAY")))
    before = server.do(server.world.store.order_page("shop", "A1"))
    assert imported(server, written(tmp_path / "bill.csv", ("A1", {}), ("B1", {})))[0] == 3
    assert server.do(server.world.store.order_page("shop", "A1")) == before
    assert server.do(server.world.store.order_page("shop", "B1")) is None


def test_payments_near_midnight_and_of_other_days_are_no_differences(server: Server, tmp_path: Path) -> None:
    for order, at in (
        ("late", "2025-10-09 23:59:58"),
        ("next", "2025-10-10 00:00:01"),
        ("before", "2025-10-08 12:00:00"),
    ):
        server.do(server.world.deliver(form(order, gmt_payment=at)))
    code, result = imported(server, written(tmp_path / "bill.csv"))
    assert (code, kinds(result), result["import"]["uncertain"]) == (0, [("late", "uncertain")], 1)
    assert "near the edge" in result["differences"][0]["detail"]


def test_payment_near_midnight_is_decided_by_the_bill_of_the_next_or_the_last_day(
    server: Server, tmp_path: Path
) -> None:
    for order, at in (
        ("late", "2025-10-09 23:59:58"),
        ("lost", "2025-10-09 23:59:59"),
        ("early", "2025-10-09 00:00:01"),
    ):
        server.do(server.world.deliver(form(order, gmt_payment=at)))
    empty = written(tmp_path / "empty.csv")
    code, result = imported(server, empty)
    assert (code, dict(kinds(result))) == (0, {"early": "uncertain", "late": "uncertain", "lost": "uncertain"})
    next_day = written(tmp_path / "next.csv", ("late", {"at": "2025-10-10 00:00:02"}))
    code, result = imported(server, next_day, "--date", "2025-10-10")
    assert (code, kinds(result)) == (3, [("lost", "payment_only_here")])
    assert "in neither of the bills" in result["differences"][0]["detail"]
    code, result = imported(server, empty, "--date", "2025-10-08")
    assert (code, kinds(result)) == (3, [("early", "payment_only_here")])


def test_rows_that_cannot_be_read_or_contradict_the_file_end_with_one(server: Server, tmp_path: Path) -> None:
    server.do(server.world.deliver(form("A1")))
    code, result = imported(server, written(tmp_path / "a.csv", ("A1", {}), ("A2", {"amount": "abc"})))
    report = result["import"]["report"]
    assert (code, report["unreadable"], "abc" in report["faults"][0]) == (3, 1, False)
    table = against(server, "bill", "show", str(result["import"]["number"]))
    assert ("the text in it is not an amount" in table.stdout, "the summary has 2 payments" in table.stdout) == (
        True,
        True,
    )


def test_rows_that_are_there_twice_count_once(server: Server, tmp_path: Path) -> None:
    server.do(server.world.deliver(form("A1")))
    code, result = imported(server, written(tmp_path / "bill.csv", ("A1", {}), ("A1", {}), ("A1", {"kind": "其他"})))
    report = result["import"]["report"]
    assert (code, report["duplicates"], report["others"], report["rows"]) == (0, 1, {"其他": 1}, 3)


def test_import_goes_on_after_an_outage_of_the_store(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "FIRST_WAIT_S", 0.01)
    world = server.world
    server.do(world.deliver(form("A1")))
    ask, begin, outages = world.bills.bill_orders, world.bills.begin_import, ["orders", "begin"]

    async def orders(*given: Any) -> Any:
        if "orders" in outages:
            outages.remove("orders")
            raise InfrastructureDown("it fails over")
        return await ask(*given)

    async def begun(*given: Any, **more: Any) -> int:
        number = await begin(*given, **more)
        if "begin" in outages:
            outages.remove("begin")
            raise InfrastructureDown("the answer is lost")
        return number

    monkeypatch.setattr(world.bills, "bill_orders", orders)
    monkeypatch.setattr(world.bills, "begin_import", begun)
    code, result = imported(server, written(tmp_path / "bill.csv", ("A1", {})))
    assert (code, result["import"]["is_agreed"], outages) == (0, True, [])
    assert len(server.do(world.bills.imports(10))) == 1


def test_period_can_be_given(server: Server, tmp_path: Path) -> None:
    server.do(server.world.deliver(form("A1")))
    file = written(tmp_path / "bill.csv", ("A1", {}), ("B1", {"at": "2025-10-11 10:00:00"}))
    code, result = imported(server, file, "--date", "2025-10-09")
    assert (code, result["import"]["report"]["outside"]) == (0, 1)
    assert result["import"]["until"] == "2025-10-09T16:00:00Z"
    assert imported(server, file, "--date", "2025-10")[0] == 3


def test_archive_and_standard_input_are_compared_like_a_file(server: Server, tmp_path: Path) -> None:
    server.do(server.world.deliver(form("A1")))
    path = bills.archive(tmp_path / "bill.zip", detail=bill_in_dollars(("A1", {})))
    assert imported(server, str(path))[0] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"a,b\n1,2\n", "Found: a, b"), (bills.TRADE_COLUMNS.encode() + b"\n", "--date")],
)
def test_files_that_cannot_be_used_end_with_two(server: Server, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(content)
    result = against(server, "bill", "import", str(path), "--account", "shop")
    assert (result.exit_code, words in result.stderr) == (1, True)
    assert against(server, "bill", "list").stdout == ""


def test_wrong_accounts_and_no_server_end_with_two(server: Server, tmp_path: Path) -> None:
    file = written(tmp_path / "bill.csv", ("A1", {}))
    several = against(server, "bill", "import", file)
    assert (several.exit_code, "--account: shop, strict, isv" in several.stderr) == (2, True)
    assert against(server, "bill", "import", file, "--account", "antom-us").exit_code == 2
    assert against(server, "bill", "import", file, "--account", "nobody").exit_code == 1
    (tmp_path / "other.csv").write_bytes(bills.trade_bill([]).encode("gbk"))
    other = against(server, "bill", "import", str(tmp_path / "other.csv"), "--account", "shop")
    assert (other.exit_code, "2088001000000001" in other.stderr) == (2, True)
    assert against("http://127.0.0.1:9", "bill", "import", file).exit_code == 1
    assert against("http://127.0.0.1:9", "bill", "list").exit_code == 1
    assert against(server, "bill", "show", "99").exit_code == 1


def test_orders_that_only_the_bill_has_are_registered_if_asked(server: Server, tmp_path: Path) -> None:
    world = server.world
    server.do(world.deliver(form("waits", "WAIT_BUYER_PAY")))
    file = written(tmp_path / "bill.csv", ("theirs", {}), ("waits", {}), ("x" * 65, {}))
    refused = against(server, "bill", "import", file, "--account", "shop", "--ask")
    assert (refused.exit_code, "queries = true" in refused.stderr) == (1, True)
    world.accounts["shop"] = structs.replace(world.accounts["shop"], queries=True)
    code, result = imported(server, file, "--ask")
    assert (code, result["asked"]) == (3, {"registered": 1, "known": 1, "unusable": 1})
    page = server.do(world.store.order_page("shop", "theirs"))
    assert page is not None
    assert page.order is not None
    assert str(page.order.expected) == "12.80 USD"


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026-01-31", "2026-01-31", "2026-02-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026-02", "2026-02-01", "2026-03-01"),
        ("2026-01-01..2026-01-07", "2026-01-01", "2026-01-08"),
    ],
)
def test_period_names_days_in_china(text: str, first: str, after: str) -> None:
    found = bill.span(text)
    days = [datetime.fromisoformat(each).replace(tzinfo=times.BEIJING) for each in (first, after)]
    assert [found.since_ms, found.until_ms] == [times.to_epoch_ms(each) for each in days]


@pytest.mark.parametrize("text", ["yesterday", "2026", "2026-02-30", "2026-01-07..2026-01-01", "2026-13", "9999-12-31"])
def test_other_periods_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        bill.span(text)
