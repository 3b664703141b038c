"""Lists of orders in every order store: each filter, by change or by number, page by page, and bounded."""

import pytest
from msgspec import structs

from deploy.embedded import order_lists as sqlite_lists
from schemas.money import Money
from schemas.orders import Status
from tests.contract.engines import AnyStore
from tests.support import bulk
from tests.support.log_records import NOW_MS
from workers.postgres import order_lists as postgres_lists
from workers.queries import AmountRange, OrderQuery
from workers.row_codec import Row

ORDERS = (
    ("A1", "shop", "", None),
    ("A2", "shop", "frozen", Money(1280, "USD")),
    ("A10", "isv/2088", "", Money(1280, "HKD")),
    ("B1", "isv", "amount_mismatch frozen", Money(99, "USD")),
    ("B\U0010ffff", "isv/2099", "", Money(5000, "USD")),
    ("b2", "shopping", "", None),
)


def rows() -> list[Row]:
    """The orders, each a minute younger than the one before."""
    return [
        bulk.order_row(number, account, NOW_MS + index * 60_000, flags=flags, amount=amount)
        for index, (number, account, flags, amount) in enumerate(ORDERS)
    ]


async def listed(store: AnyStore, query: OrderQuery) -> list[str]:
    """All numbers, page by page. Each page but the last is full, or says by `next_` that it is not the last."""
    numbers: list[str] = []
    for _ in range(50):
        page = await store.order_list(query)
        assert len(page.pages) <= query.limit
        numbers += [each.number for each in page.pages]
        if page.next_ is None:
            return numbers
        query = structs.replace(query, after=page.next_)
    raise AssertionError("the list has no end")


CASES = [
    (OrderQuery(), "b2 B\U0010ffff B1 A10 A2 A1"),
    (OrderQuery(account="shop"), "A2 A1"),
    (OrderQuery(account="isv"), "B\U0010ffff B1 A10"),
    (OrderQuery(account="isv", scope="isv/2088"), "A10"),
    (OrderQuery(account="isv", scope="isv"), "B1"),
    (OrderQuery(account="nobody"), ""),
    (OrderQuery(status=Status.PAID), "B\U0010ffff B1 A10 A2"),
    (OrderQuery(status=Status.WAITING), "b2 A1"),
    (OrderQuery(is_flagged=True), "B1 A2"),
    (OrderQuery(is_flagged=True, account="isv"), "B1"),
    (OrderQuery(is_flagged=True, prefix="A"), "A2"),
    (OrderQuery(since_ms=NOW_MS + 60_000, before_ms=NOW_MS + 180_000), "A10 A2"),
    (OrderQuery(since_ms=NOW_MS + 60_000, before_ms=NOW_MS + 180_000, account="shop"), "A2"),
    (OrderQuery(since_ms=NOW_MS + 60_000, before_ms=NOW_MS + 180_000, prefix="A1"), "A10"),
    (OrderQuery(amounts=AmountRange(currency="USD")), "B\U0010ffff B1 A2"),
    (OrderQuery(amounts=AmountRange(currency="USD", from_minor=99, to_minor=1280)), "B1 A2"),
    (OrderQuery(amounts=AmountRange(currency="USD", from_minor=1281), account="isv"), "B\U0010ffff"),
    (OrderQuery(prefix="A"), "A2 A10 A1"),
    (OrderQuery(prefix="A1"), "A10 A1"),
    (OrderQuery(prefix="A1", account="isv"), "A10"),
    (OrderQuery(prefix="B\U0010ffff"), "B\U0010ffff"),
    (OrderQuery(prefix="A%"), ""),
    (OrderQuery(prefix="\U0010ffff"), ""),
    (OrderQuery(prefix="\ud7ff"), ""),
]


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_list_has_what_matches_page_by_page(store: AnyStore, limit: int) -> None:
    await bulk.add(store, "orders", rows())
    for query, numbers in CASES:
        assert await listed(store, structs.replace(query, limit=limit)) == numbers.split(), query


async def test_page_of_a_rare_filter_ends_early_and_says_where_to_go_on(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lists in (sqlite_lists, postgres_lists):
        monkeypatch.setattr(lists, "EXAMINED_MAX", 2)
    await bulk.add(store, "orders", rows())
    for query in (OrderQuery(amounts=AmountRange(currency="HKD")), OrderQuery(prefix="A", status=Status.WAITING)):
        first = await store.order_list(query)
        assert first.pages == ()
        assert first.next_ is not None
    assert await listed(store, OrderQuery(amounts=AmountRange(currency="HKD"))) == ["A10"]
    assert await listed(store, OrderQuery(prefix="A", status=Status.WAITING)) == ["A1"]


async def test_page_of_no_orders_has_none_and_no_next(store: AnyStore) -> None:
    await bulk.add(store, "orders", rows())
    assert await store.order_list(OrderQuery(limit=0)) == await store.order_list(OrderQuery(account="x", limit=0))


async def test_orders_of_one_moment_are_listed_once_each_by_account(store: AnyStore) -> None:
    many = (bulk.order_row(f"M{number}", "many", NOW_MS) for number in range(9))
    await bulk.add(store, "orders", [*rows(), *many])
    numbers = await listed(store, OrderQuery(account="many", limit=2))
    assert numbers == [f"M{number}" for number in range(8, -1, -1)]
