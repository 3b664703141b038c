"""Orders as CSV: safe cells, bounded rows, and a cut connection if something fails in the middle."""

import asyncio
import csv
import io

import pytest
from aiohttp import ClientError

from tests.support.admin import World, form, serving
from workers.admin import order_export
from workers.errors import InfrastructureDown
from workers.queries import OrderList, OrderQuery


async def rows(world: World, path: str = "/orders.csv") -> list[list[str]]:
    async with serving(world) as client:
        answer = await client.get(path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "attachment" in answer.headers["Content-Disposition"]
        return list(csv.reader(io.StringIO(await answer.text(), newline="")))


async def test_csv_has_the_orders_that_match() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A2", "WAIT_BUYER_PAY"))
    header, row = await rows(world, "/orders.csv?status=PAID")
    assert tuple(header) == order_export.COLUMNS
    named = dict(zip(header, row, strict=True))
    assert (named["account"], named["order"], named["status"], named["amount"]) == ("shop", "A1", "PAID", "12.80")
    assert (named["currency"], named["trade"], named["expected"]) == ("USD", "20251009A1", "")
    assert named["changed_at"] == "2025-10-09T08:53:20+00:00"


async def test_csv_of_nothing_has_the_names_of_its_columns() -> None:
    assert await rows(World()) == [[*order_export.COLUMNS]]


@pytest.mark.parametrize("number", ['=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "＝1", "＋1", "－1", "＠x"])
async def test_cell_never_begins_like_a_formula(number: str) -> None:
    world = World()
    await world.deliver(form(number))
    _, row = await rows(world)
    assert row[2] == f"'{number}"


async def test_csv_ends_at_its_maximum_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_export, "ROWS_MAX", 3)
    monkeypatch.setattr(order_export, "PAGE", 2)
    world = World()
    for number in range(3):
        await world.deliver(form(f"A{number}"))
    assert [row[2] for row in (await rows(world))[1:]] == ["A2", "A1", "A0"]
    await world.deliver(form("A3"))
    *_, third, last = await rows(world)
    assert third[2] == "A1"
    assert last == ["3 orders are listed, and more may match: narrow the filter"]


async def test_failure_before_the_first_row_is_an_answer_and_later_cuts_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order_export, "PAGE", 1)
    world = World()
    for number in range(3):
        await world.deliver(form(f"A{number}"))
    read, calls = world.store.order_list, 0

    async def fail(query: OrderQuery) -> OrderList:
        nonlocal calls
        calls += 1
        if calls in (2, 3):
            raise InfrastructureDown("gone")
        return await read(query)

    monkeypatch.setattr(world.store, "order_list", fail)
    async with serving(world) as client:
        answer = await client.get("/orders.csv")
        with pytest.raises(ClientError):
            await answer.text()
        assert (await client.get("/orders.csv")).status == 503
        assert (await (await client.get("/orders.csv")).text()).count("shop,,A") == 3
        assert (await client.get("/orders.csv?status=GONE")).status == 400


async def test_one_export_runs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    begun, may_go_on = asyncio.Event(), asyncio.Event()
    read = world.store.order_list

    async def stand(query: OrderQuery) -> OrderList:
        begun.set()
        await may_go_on.wait()
        return await read(query)

    monkeypatch.setattr(world.store, "order_list", stand)
    async with serving(world) as client:
        first = asyncio.create_task(client.get("/orders.csv"))
        await begun.wait()
        assert (await client.get("/orders.csv")).status == 503
        may_go_on.set()
        assert (await first).status == 200
