"""The API for comparisons with bills."""

from typing import Any

import pytest
from msgspec import structs

from tests.support.admin import ACCOUNTS, World, form, serving
from workers.admin import bills
from workers.admin.bill_shapes import AccountBody
from workers.admin.responses import ApiError
from workers.bills import DIFFERENCES_MAX

REPORT: dict[str, Any] = {"file": "bill.csv", "layout": "trade bill", "since_ms": 0, "until_ms": 86_400_000, "by": ""}
BEGIN: dict[str, Any] = {"account": "shop", "digest": "a" * 64, "report": REPORT, "by": "kim"}
DIFFERENCE: dict[str, Any] = {
    "kind": "payment_only_in_bill", "scope": "shop", "order": "A1", "bill_minor": 1280, "bill_currency": "USD",
    "is_known": False,
}  # fmt: skip


async def finished(client: Any, *differences: dict[str, Any], report: dict[str, Any] | None = None) -> int:
    begun = await client.post("/api/bills", json=BEGIN | {"report": REPORT | (report or {})})
    number = (await begun.json())["number"]
    body = {"first": 1, "differences": list(differences)}
    assert (await client.post(f"/api/bills/{number}/differences", json=body)).status == 200
    assert (await client.post(f"/api/bills/{number}/finish", json={"by": "kim"})).status == 200
    return int(number)


async def test_orders_are_returned_with_their_trades_and_refunds() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("W1", "WAIT_BUYER_PAY"))
    async with serving(world) as client:
        body = {"account": "shop", "orders": ["A1", "A1", "none"], "trades": ["20251009W1"]}
        answer = await (await client.post("/api/bills/orders", json=body)).json()
        found = {each["order"]: each for each in answer["orders"]}
        assert found.keys() == {"A1", "W1"}
        payment = {"trade": "20251009A1", "minor": 1280, "currency": "USD", "is_paid": True, "refunded_minor": 0}
        assert (found["A1"]["payments"], found["A1"]["status"]) == ([payment], "PAID")
        assert found["W1"]["payments"][0]["is_paid"] is False
        many = {"account": "shop", "orders": ["x"] * (bills.NUMBERS_MAX + 1)}
        assert (await client.post("/api/bills/orders", json=many)).status == 400
        assert (await client.post("/api/bills/orders", json={"account": "nobody"})).status == 404


async def test_histories_have_the_time_of_the_payment() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        body = {"account": "shop", "orders": [{"order": "A1"}, {"order": "none"}]}
        (found,) = (await (await client.post("/api/bills/histories", json=body)).json())["histories"]
        assert (found["order"], found["history"]["paid_at_ms"]) == ("A1", 1_759_999_998_000)
        many = {"account": "shop", "orders": [{"order": "x"}] * (bills.HISTORIES_MAX + 1)}
        assert (await client.post("/api/bills/histories", json=many)).status == 400


async def test_report_is_shown_when_it_is_finished() -> None:
    async with serving(World()) as client:
        number = (await (await client.post("/api/bills", json=BEGIN)).json())["number"]
        assert (await client.get(f"/api/bills/{number}")).status == 404
        again = await finished(client, DIFFERENCE, report={"counts": {"payment_only_in_bill": 1, "uncertain": 4}})
        shown = await (await client.get(f"/api/bills/{again}")).json()
        assert (shown["file"], shown["is_agreed"], shown["differences"], shown["uncertain"]) == (
            "bill.csv",
            False,
            1,
            4,
        )
        assert shown["by"].startswith("kim (")
        (listed,) = (await (await client.get(f"/api/bills/{again}/differences")).json())["differences"]
        assert (listed["place"], listed["bill_amount"], listed["here_amount"]) == (1, "12.80", None)
        imports = (await (await client.get("/api/bills")).json())["imports"]
        assert [each["number"] for each in imports] == [again]


async def test_finished_report_takes_no_more() -> None:
    async with serving(World()) as client:
        number = await finished(client)
        more = {"first": 1, "differences": [DIFFERENCE]}
        assert (await client.post(f"/api/bills/{number}/differences", json=more)).status == 409
        repeated = await (await client.post(f"/api/bills/{number}/finish", json={})).json()
        assert (repeated["import"]["number"], repeated["replaces"]) == (number, None)
        assert (await client.post("/api/bills/99/differences", json=more)).status == 404
        assert (await client.post("/api/bills/99/finish", json={})).status == 404
        assert (await client.post("/api/bills/99/ask", json={})).status == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": "short"},
        {"report": REPORT | {"since_ms": 5, "until_ms": 5}},
        {"report": REPORT | {"until_ms": 10**18}},
        {"report": REPORT | {"file": "x" * 501}},
        {"report": REPORT | {"others": {"x" * 501: 1}}},
        {"report": {"file": "x"}},
        {"more": 1},
    ],
)
async def test_wrong_reports_are_refused(wrong: dict[str, Any]) -> None:
    async with serving(World()) as client:
        assert (await client.post("/api/bills", json=BEGIN | wrong)).status == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": 0, "differences": [DIFFERENCE]},
        {"first": DIFFERENCES_MAX + 1, "differences": [DIFFERENCE]},
        {"first": 1, "differences": [DIFFERENCE | {"scope": "strict"}]},
        {"first": 1, "differences": [DIFFERENCE | {"kind": "other"}]},
    ],
)
async def test_wrong_differences_are_refused(wrong: dict[str, Any]) -> None:
    async with serving(World()) as client:
        number = (await (await client.post("/api/bills", json=BEGIN)).json())["number"]
        assert (await client.post(f"/api/bills/{number}/differences", json=wrong)).status == 400


async def test_asking_registers_the_orders_that_only_the_bill_has() -> None:
    world = World()
    async with serving(world) as client:
        other = DIFFERENCE | {"kind": "payment_amount", "order": "A2"}
        number = await finished(client, DIFFERENCE, other)
        assert (await client.post(f"/api/bills/{number}/ask", json={})).status == 409
        world.accounts["shop"] = structs.replace(world.accounts["shop"], queries=True)
        answer = await (await client.post(f"/api/bills/{number}/ask", json={"by": "kim"})).json()
        assert answer == {"registered": 1, "known": 0, "unusable": 0, "after": None}
        page = await world.store.order_page("shop", "A1")
        assert page is not None
        assert page.order is not None
        assert (page.order.registered, str(page.order.expected)) == (True, "12.80 USD")
        assert await world.store.order_page("shop", "A2") is None


async def test_amount_in_the_currency_of_a_settlement_is_not_registered() -> None:
    world = World()
    world.accounts["shop"] = structs.replace(world.accounts["shop"], queries=True)
    async with serving(world) as client:
        number = await finished(client, DIFFERENCE, report={"layout": "cross-border transaction file"})
        await client.post(f"/api/bills/{number}/ask", json={})
    page = await world.store.order_page("shop", "A1")
    assert page is not None
    assert page.order is not None
    assert (page.order.registered, page.order.amounts) == (True, ())


async def test_account_with_several_merchants_needs_one_of_them() -> None:
    async with serving(World()) as client:
        body = {"account": "isv"}
        assert (await client.post("/api/bills/account", json=body)).status == 400
        assert (await client.post("/api/bills/account", json=body | {"auth_app_id": "2021999"})).status == 400
        named = await client.post("/api/bills/account", json=body | {"auth_app_id": "2021000000000009"})
        assert (await named.json())["scope"] == "isv/2021000000000009"


def test_accounts_of_one_seller_share_its_bill() -> None:
    shop = ACCOUNTS["shop"]
    accounts = {
        each.name: each
        for each in (shop, structs.replace(shop, name="web"), structs.replace(shop, name="other", seller_id="2088009"))
    }
    assert bills.sharing(shop, accounts) == ["web"]
    assert bills.sharing(structs.replace(shop, seller_id=None), accounts) == []


async def test_order_that_another_account_of_the_seller_has_is_not_registered() -> None:
    world = World()
    world.accounts["shop"] = structs.replace(world.accounts["shop"], queries=True)
    world.accounts["web"] = structs.replace(world.accounts["shop"], name="web")
    await world.deliver(form("A1"), "web")
    await world.deliver(form("A2"), "web")
    differences = [DIFFERENCE, DIFFERENCE | {"order": "B2", "trade": "20251009A2"}]
    async with serving(world) as client:
        number = await finished(client, *differences)
        asked = await (await client.post(f"/api/bills/{number}/ask", json={"by": "kim"})).json()
    assert (asked["registered"], asked["known"]) == (0, 2)
    assert await world.store.order_page("shop", "A1") is None


def test_account_is_that_which_fits_the_file() -> None:
    accounts = {
        "shop": structs.replace(ACCOUNTS["shop"], seller_id="2088001000000001"),
        "other": structs.replace(ACCOUNTS["shop"], name="other", seller_id="2088001000000002"),
        "antom-us": ACCOUNTS["antom-us"],
    }
    merchants = ("2088001000000002",)
    assert bills.chosen(AccountBody(merchants=merchants), accounts).name == "other"
    assert bills.chosen(AccountBody(is_antom=True), accounts).name == "antom-us"
    assert bills.chosen(AccountBody(account="shop"), accounts).name == "shop"
    for given in (
        AccountBody(), AccountBody(account="shop", merchants=merchants), AccountBody(account="antom-us"),
        AccountBody(account="shop", is_antom=True), AccountBody(account="nobody"),
        AccountBody(merchants=("2088009999999999",)),
    ):  # fmt: skip
        with pytest.raises(ApiError):
            bills.chosen(given, accounts)


def test_accounts_of_providers_and_without_queries_cannot_ask() -> None:
    assert "several merchants" in bills.cannot_ask(structs.replace(ACCOUNTS["isv"], queries=True))
    assert "queries = true" in bills.cannot_ask(ACCOUNTS["shop"])
    assert bills.cannot_ask(structs.replace(ACCOUNTS["shop"], queries=True)) == ""
