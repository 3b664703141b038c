"""The API for decisions on one held notification: refund outside and snooze; accept and discard are in `test_held`."""

from typing import Any

import pytest

from tests.support.admin import Client, World, form, serving
from tests.unit.workers.admin.test_held import mismatched


async def post(client: Client, id_: str, verb: str, **body: str) -> tuple[int, dict[str, Any]]:
    answer = await client.post(f"/api/held/{id_}/{verb}", json=body)
    return answer.status, await answer.json()


async def test_refund_outside_is_recorded_with_its_amount_on_the_order_and_in_the_audit() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        assert (await post(client, id_, "refund-outside", reason="twice"))[0] == 400, "the amount is missing"
        assert (await post(client, id_, "refund-outside", amount="12.80", reason=" "))[0] == 400
        status, refused = await post(client, id_, "refund-outside", amount="99.00", reason="twice")
        assert (status, "it reports 12.80 USD, so not 99.00 USD" in refused["detail"]) == (409, True)
        status, done = await post(client, id_, "refund-outside", amount="12.80", reason="wrong price", by="kim")
        assert (status, done["resolution"], done["why"]) == (200, "refunded_outside", "wrong price")
        assert (await post(client, id_, "refund-outside", amount="12.80", reason="again"))[0] == 409
        order = await (await client.get("/api/orders/shop/A1")).json()
        page = await (await client.get("/orders/shop/A1")).text()
        audit = await (await client.get("/api/audit?action=refund_outside")).json()
    assert (order["status"], order["flags"]) == ("WAITING", [])
    (decision,) = [entry for entry in order["timeline"] if entry["kind"] == "decision"]
    told = (decision["action"], decision["refunded_minor"], decision["refunded"], decision["currency"])
    assert told == ("refund_outside", 1280, "12.80", "USD")
    assert "Refunded outside" in page
    assert [(each["subject"], each["why"]) for each in audit["entries"]] == [(id_, "12.80 USD: wrong price")]


async def test_second_payment_is_refunded_outside_and_its_refund_is_only_noted_later() -> None:
    world = World()
    await world.deliver(form("A1"))
    second = str(await world.deliver(form("A1", notify_id="n2", trade_no="2025100999")))
    async with serving(world) as client:
        status, done = await post(client, second, "refund-outside", amount="12.80", reason="paid twice")
        assert (status, done["resolution"]) == (200, "refunded_outside")
        order = await (await client.get("/api/orders/shop/A1")).json()
        assert (order["status"], order["refunded_minor"], order["flags"]) == ("PAID", 0, [])
        again = str(await world.deliver(form("A1", notify_id="n3", trade_no="2025100999")))
        shown = await (await client.get(f"/api/held/{again}")).json()
    assert shown["reason"] == "second_trade", "the payment is held once more, and not counted"


async def test_snoozed_one_is_out_of_the_first_list_but_its_money_is_at_risk() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        status, snoozed = await post(client, id_, "snooze", until="4h", reason="the shop is asked", by="kim")
        assert (status, snoozed["snoozed_why"]) == (200, "the shop is asked")
        assert snoozed["snoozed_by"].startswith("kim (")
        assert (await (await client.get("/api/held?snoozed=false")).json())["held"] == []
        listed = await (await client.get("/api/held?snoozed=true")).json()
        assert ([each["id"] for each in listed["held"]], listed["snoozed"]) == ([id_], 1)
        assert (await (await client.get("/api/held")).json())["total"] == 1
        page = await (await client.get("/held")).text()
        assert ("1 snoozed" in page, f'value="{id_}"' in page) == (True, False)
        assert ("leaves 1 snoozed out" in page, "data-all" in page) == (True, True)
        assert 'value="all"' not in await (await client.get("/held?snoozed=true")).text()
        dry = await (await client.post("/api/held/replay", json={})).json()
        assert (dry["count"], dry["snoozed"], dry["ids"]) == (0, 1, [])
        for rows, total in (({}, 0), ({"ids": [id_]}, 1)):
            started = await client.post("/api/held/tasks", json=rows | {"reason": "registered"})
            assert (await started.json())["total"] == total
        assert f'value="{id_}"' in await (await client.get("/held?snoozed=true")).text()
        assert "the shop is asked" in await (await client.get(f"/held/{id_}")).text()
        assert "12.80" in await (await client.get("/")).text(), "money at risk"
        assert (await post(client, id_, "unsnooze"))[0] == 200
        assert f'value="{id_}"' in await (await client.get("/held")).text()
        audit = await (await client.get("/api/audit")).json()
    actions = [(each["action"], each["subject"]) for each in audit["entries"]]
    assert [each for each in actions if "snooze" in each[0]] == [("unsnooze", id_), ("snooze", id_)]


@pytest.mark.parametrize("until", ["0h", "31d", "2020-01-01T00:00:00Z", "tomorrow", ""])
async def test_snooze_needs_a_time_in_the_next_thirty_days(until: str) -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        assert (await post(client, id_, "snooze", until=until, reason="asked"))[0] == 400
        assert (await post(client, id_, "snooze", until="4h", reason=""))[0] == 400
        assert (await post(client, "0-99", "snooze", until="4h", reason="asked"))[0] == 404


async def test_resolved_one_is_not_snoozed() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        await post(client, id_, "discard", reason="wrong")
        assert (await post(client, id_, "snooze", until="4h", reason="asked"))[0] == 409


@pytest.mark.parametrize("verb", ["refund-outside", "snooze", "unsnooze"])
async def test_each_needs_the_token(verb: str) -> None:
    async with serving(World(), carried=None) as client:
        assert (await client.post(f"/api/held/0-1/{verb}", json={"reason": "x"})).status == 401
