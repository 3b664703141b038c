"""Erasing one order over HTTP: what goes, what stays, and who asked for it."""

import base64

from tests.support.admin import World, form, serving


async def test_order_is_erased_with_an_audit_row_and_its_state_stays() -> None:
    world = World()
    position = await world.deliver(form("A1"))
    async with serving(world) as client:
        before = await (await client.get("/api/orders/shop/A1")).json()
        response = await client.post("/api/orders/shop/A1/erase", json={"reason": "the buyer asks", "by": "kim"})
        answer = await response.json()
        after = await (await client.get("/api/orders/shop/A1")).json()
        raw = await (await client.get(f"/api/notifications/{position}/raw")).json()
        pages = [await (await client.get(path)).text() for path in ("/orders/shop/A1", f"/notifications/{position}")]
        again = await (await client.post("/api/orders/shop/A1/erase", json={"reason": "once more"})).json()
    assert (answer["erased"], answer["held"], answer["more"]) == (1, [], False)
    assert again["erased"] == 0
    assert [after[name] for name in ("status", "amount", "version")] == [
        before[name] for name in ("status", "amount", "version")
    ]
    assert [entry["kind"] for entry in after["timeline"]] == ["notification", "event", "erased"]
    assert after["timeline"][0]["erased_at"] == raw["erased_at"]
    assert b"somebody" not in base64.b64decode(raw["body_base64"])
    assert "cannot be verified any more" in raw["signature"]["detail"]
    assert "the buyer asks" in pages[0]
    assert "data-verify" not in pages[0]
    assert "personal data was erased" in pages[1]
    assert "Reveal personal data" not in pages[1]
    assert world.store.audit[0] == ("erase", "shop:A1", "kim (127.0.0.1)", "the buyer asks")
    (line, _) = world.log.of("order_erased")
    assert (line["account"], line["out_trade_no"], line["count"]) == ("shop", "A1", 1)


async def test_order_s_page_offers_to_erase_while_a_notification_has_its_bytes() -> None:
    world = World()
    number = "A/1 &2"
    await world.deliver(form(number))
    path = "/orders/shop/A%2F1%20%262"
    async with serving(world) as client:
        await client.put("/api/orders/shop/R1", json={"amount": "12.80"})
        assert f'data-erase="/api{path}/erase"' in await (await client.get(path)).text()
        assert "data-erase" not in await (await client.get("/orders/shop/R1")).text()  # it has no notification
        assert (await client.post(f"/api{path}/erase", json={"reason": "x"})).status == 200
        assert "data-erase" not in await (await client.get(path)).text()


async def test_copy_of_an_erased_notification_is_still_a_duplicate() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        await client.post("/api/orders/shop/A1/erase", json={"reason": "x"})
        await world.deliver(form("A1", notify_time="2025-10-09 17:53:20"))
        order = await (await client.get("/api/orders/shop/A1")).json()
    notifications = [entry for entry in order["timeline"] if entry["kind"] == "notification"]
    assert [(entry["disposition"], entry["reason"]) for entry in notifications] == [
        ("applied", "changed"), ("duplicate", "same_id"),
    ]  # fmt: skip
    assert order["version"] == 1


async def test_held_notification_keeps_its_bytes_and_is_named() -> None:
    world = World()
    position = await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        answer = await (await client.post("/api/orders/strict/B1/erase", json={"reason": "x"})).json()
        held = await (await client.get(f"/api/held/{position}")).json()
    assert (answer["erased"], answer["held"]) == (0, [str(position)])
    assert held["signature"]["authentic"]
    assert held["erased_at"] is None


async def test_erasing_needs_a_reason_the_token_and_an_order() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        assert (await client.post("/api/orders/shop/A1/erase", json={})).status == 400
        assert (await client.post("/api/orders/shop/A2/erase", json={"reason": "x"})).status == 404
        assert (await client.post("/api/orders/isv/A1/erase?auth_app_id=-", json={"reason": "x"})).status == 400
    async with serving(world, carried=None) as client:
        assert (await client.post("/api/orders/shop/A1/erase", json={"reason": "x"})).status == 401
    assert world.store.audit == []
