"""The API for callbacks: endpoints, delivery logs, resend, enable and disable."""

import pytest
from msgspec import structs

from tests.support.admin import World, form, serving
from workers.admin import callbacks
from workers.callbacks.deliveries import DeliveryQuery
from workers.callbacks.schedule import DeliveryState, EndpointState


async def test_endpoints_are_listed_without_the_query_of_their_url() -> None:
    async with serving(World()) as client:
        (shown,) = (await (await client.get("/api/callbacks")).json())["endpoints"]
    assert (shown["name"], shown["url"], shown["state"], shown["pending"]) == (
        "hooks", "https://shop.example/callbacks", "active", 2,
    )  # fmt: skip


def test_state_of_an_endpoint_is_one_word() -> None:
    page = World().callbacks.page
    failing, disabled = EndpointState(failing_since_ms=1), EndpointState(failing_since_ms=1, disabled_at_ms=2)
    assert callbacks.endpoint_answer(structs.replace(page, state=failing)).state == "failing"
    assert callbacks.endpoint_answer(structs.replace(page, state=disabled)).state == "disabled"
    removed = callbacks.endpoint_answer(structs.replace(page, state=failing, is_configured=False))
    assert (removed.state, removed.disabled_why) == ("removed", callbacks.REMOVED)


async def test_log_is_filtered_and_paged() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        path = "/api/callbacks/hooks/deliveries"
        first = await (await client.get(f"{path}?limit=2")).json()
        assert ([each["number"] for each in first["deliveries"]], first["before"]) == ([3, 2], 2)
        rest = await (await client.get(f"{path}?limit=2&before=2")).json()
        assert ([each["number"] for each in rest["deliveries"]], rest["before"]) == ([1], None)
        assert (await client.get(f"{path}?state=pending&order=A1")).status == 200
        assert (await client.get(f"{path}?state=lost")).status == 400
        assert (await client.get(f"{path}?order=A9")).status == 404
        assert (await client.get("/api/callbacks/nobody/deliveries")).status == 404
    assert world.callbacks.queries[-1] == DeliveryQuery(endpoint="hooks", state=DeliveryState.PENDING, order="shop:A1")


async def test_endpoint_is_disabled_and_enabled_with_a_reason() -> None:
    world = World()
    async with serving(world) as client:
        assert (await client.post("/api/callbacks/hooks/disable", json={})).status == 400
        disabled = await (await client.post("/api/callbacks/hooks/disable", json={"reason": "moves"})).json()
        assert (disabled["state"], disabled["disabled_why"]) == ("disabled", "moves")
        assert (await client.post("/api/callbacks/hooks/disable", json={"reason": "moves"})).status == 409
        enabled = await (await client.post("/api/callbacks/hooks/enable", json={"reason": "moved"})).json()
        assert enabled["state"] == "active"
        for verb, body in (("enable", {}), ("disable", {}), ("resend", {"number": 1})):
            answer = await client.post(f"/api/callbacks/nobody/{verb}", json=body | {"reason": "x"})
            assert (answer.status, (await answer.json())["error"]) == (404, "unknown_endpoint")
    assert "all" not in world.callbacks.asked
    assert world.callbacks.acts == [("disable", "hooks", "moves"), ("enable", "hooks", "moved")]


async def test_events_are_resent_by_number_or_by_order() -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        for body in ({"number": 7}, {"order": "A1"}, {"order": "A1", "account": "shop", "version": 1}):
            answer = await client.post("/api/callbacks/hooks/resend", json=body | {"reason": "lost"})
            assert await answer.json() == {"resent": 1}
    assert world.callbacks.resent == [(7, "", "", None), (None, "shop", "A1", None), (None, "shop", "A1", 1)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"number": 7, "order": "A1"}, 400),
        ({"number": 0}, 400),
        ({"number": 2**63}, 400),
        ({"order": "A1", "version": -1}, 400),
        ({"order": "A9"}, 404),
        ({"order": "A1", "account": "other"}, 404),
        ({"number": 99}, 404),
    ],
)
async def test_resend_of_nothing_is_refused(body: dict[str, object], status: int) -> None:
    world = World()
    await world.deliver(form("A1"))
    async with serving(world) as client:
        answer = await client.post("/api/callbacks/hooks/resend", json=body | {"reason": "lost"})
        assert answer.status == status


async def test_writes_need_the_token() -> None:
    async with serving(World(), carried=None) as client:
        for verb in ("enable", "disable", "resend"):
            assert (await client.post(f"/api/callbacks/hooks/{verb}", json={"reason": "x"})).status == 401
