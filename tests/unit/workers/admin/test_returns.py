"""The API for Returns: claims of the text beside the state of the order."""

from tests.support.admin import World, form, serving


async def test_return_is_shown_with_its_claims_and_the_state_of_the_order() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        answer = await (await client.post("/api/returns/shop", json={"query": "out_trade_no=A1&sign=x"})).json()
        assert (answer["authentic"], answer["result_status"], answer["claims"]) == (
            True,
            "9000",
            {"out_trade_no": "A1"},
        )
        assert (answer["order"]["status"], answer["order"]["timeline"]) == ("PAID", [])
        both = await client.post("/api/returns/shop", json={"query": "a", "result": "b"})
        none, empty = (
            await client.post("/api/returns/shop", json={}),
            await client.post("/api/returns/shop", json={"result": ""}),
        )
        unknown = await client.post("/api/returns/unknown", json={"query": "a"})
        assert [both.status, none.status, empty.status, unknown.status] == [400, 400, 400, 404]
