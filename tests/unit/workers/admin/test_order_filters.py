"""The filter of a list of orders, from a query."""

import pytest
from aiohttp.test_utils import make_mocked_request

from schemas.orders import Status
from tests.support.admin import ACCOUNTS, NOW_MS, World, form, serving
from workers.admin import order_filters
from workers.admin.responses import ApiError
from workers.queries import AmountRange, OrderQuery


def parsed(text: str) -> OrderQuery:
    return order_filters.query(make_mocked_request("GET", f"/api/orders?{text}"), ACCOUNTS, now_ms=NOW_MS)


def test_each_parameter_becomes_a_part_of_the_filter() -> None:
    assert parsed("") == parsed("account=&status=&since=&amount_min=&currency=&prefix=+") == OrderQuery()
    merchant = "account=isv&auth_app_id=2021000000000009"
    assert parsed(f"{merchant}&status=PAID&flagged=true&prefix=2026&limit=7") == OrderQuery(
        account="isv", scope="isv/2021000000000009", status=Status.PAID, is_flagged=True, prefix="2026", limit=7
    )
    assert parsed("since=1h&before=1m") == OrderQuery(since_ms=NOW_MS - 3_600_000, before_ms=NOW_MS - 60_000)


def test_amounts_are_in_the_currency_that_is_given_or_the_only_one() -> None:
    usd = AmountRange(currency="USD", from_minor=1280, to_minor=None)
    assert parsed("account=shop&amount_min=12.80").amounts == parsed("currency=USD&amount_min=12.80").amounts == usd
    assert parsed("currency=USD&amount_min=12.8").amounts == usd
    assert parsed("currency=KWD&amount_min=12").amounts == AmountRange(currency="KWD", from_minor=12_000)
    assert parsed("currency=JPY&amount_max=500").amounts == AmountRange(currency="JPY", to_minor=500)
    assert parsed("currency=XXQ").amounts == AmountRange(currency="XXQ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("status=paid", "status must be one of WAITING, PAID"),
        ("amount_min=1", "need a currency"),
        ("currency=usd", "three capital letters"),
        ("currency=USD&amount_min=1.234", "amount_min: "),
        ("currency=USD&amount_max=x", "amount_max: "),
        ("since=yesterday", "a time must look like"),
        ("limit=1001", "limit must be"),
        ("auth_app_id=2021000000000009", "auth_app_id needs account"),
        (f"prefix={'9' * 65}", "at most 64 characters"),
        ("cursor=x", "cursor must be"),
    ],
)
def test_fault_names_its_parameter(text: str, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        parsed(text)


async def test_api_lists_what_matches_with_the_time_of_the_change() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A2", "WAIT_BUYER_PAY"))
    await world.deliver(form("B1"))
    async with serving(world) as client:
        paid = await (await client.get("/api/orders?status=PAID&prefix=A")).json()
        wrong = await client.get("/api/orders?status=GONE")
    (order,) = paid["orders"]
    assert (order["order"], order["status"], order["changed_at"]) == ("A1", "PAID", "2025-10-09T08:53:20Z")
    assert paid["next"] is None
    assert wrong.status == 400
