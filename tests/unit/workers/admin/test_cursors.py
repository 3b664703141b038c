"""Cursors: a page begins where the last one ended, and a foreign text is refused."""

import pytest
from aiohttp.test_utils import make_mocked_request

from tests.support.admin import World, form, serving
from workers.admin import cursors
from workers.admin.responses import ApiError


@pytest.mark.parametrize("text", ["x", "é", "e30", "WzEsMl0", "WzEsIngiLCJ5Il0", "A" * 5000, "%%%"])
def test_text_that_no_list_returned_is_a_bad_request(text: str) -> None:
    request = make_mocked_request("GET", "/api/held?cursor=" + text.replace("%", "%25"))
    with pytest.raises(ApiError, match="earlier page of this list"):
        cursors.held_place(request)


async def test_pages_of_held_notifications_follow_each_other_without_gaps() -> None:
    world = World()
    ids = [str(await world.deliver(form(f"B{number}"), "strict")) for number in range(5)]
    async with serving(world) as client:
        listed, sizes = [], []
        cursor: str | None = ""
        while cursor is not None:
            page = await (await client.get("/api/held", params={"limit": "2", "cursor": cursor})).json()
            listed += [row["id"] for row in page["held"]]
            sizes.append((len(page["held"]), page["total"]))
            cursor = page["next"]
    assert listed == ids
    assert sizes == [(2, 5), (2, 5), (1, 5)]


async def test_page_that_ends_with_the_last_row_has_no_next_page() -> None:
    world = World()
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        assert (await (await client.get("/api/held?limit=1")).json())["next"] is None
        counted = await (await client.get("/api/held?limit=0")).json()
    assert (counted["held"], counted["total"], counted["next"]) == ([], 1, None)


async def test_pages_of_orders_follow_each_other() -> None:
    world = World()
    for number in range(3):
        await world.deliver(form(f"A{number}"))
    async with serving(world) as client:
        first = await (await client.get("/api/orders?limit=2")).json()
        second = await (await client.get("/api/orders", params={"limit": "2", "cursor": first["next"]})).json()
        foreign = await client.get("/api/held", params={"cursor": first["next"]})
    assert [each["order"] for each in first["orders"] + second["orders"]] == ["A2", "A1", "A0"]
    assert second["next"] is None
    assert foreign.status == 400
