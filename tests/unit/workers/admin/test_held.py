"""The API for held notifications: list, show, retry, discard."""

import base64

import pytest

from schemas import topics
from schemas.dispositions import Reason
from tests.support.admin import ISV, World, form, serving


async def mismatched(world: World, number: str = "A1") -> str:
    """The id of a notification that is held because it names another amount than the merchant."""
    async with serving(world) as client:
        await client.put(f"/api/orders/shop/{number}", json={"amount": "99.00"})
    return str(await world.deliver(form(number)))


async def test_held_notifications_are_listed_by_filter() -> None:
    world = World()
    id_ = await mismatched(world)
    parked = str(await world.deliver(form("B1"), "strict"))
    async with serving(world) as client:

        async def ids(query: str) -> list[str]:
            return [row["id"] for row in (await (await client.get(f"/api/held?{query}")).json())["held"]]

        assert await ids("") == [id_, parked]
        assert await ids("reason=amount_mismatch") == [id_]
        assert await ids("disposition=parked") == [parked]
        assert await ids("account=strict&since=24h") == [parked]
        assert await ids("order=nothing") == []
        assert await ids("limit=1") == [id_]
        assert await ids("resolved=true") == []


@pytest.mark.parametrize(
    "query", ["reason=because", "disposition=applied", "since=yesterday", "since=2026-01-01", "limit=x"]
)
async def test_unknown_filter_value_is_a_bad_request(query: str) -> None:
    async with serving(World()) as client:
        answer = await client.get(f"/api/held?{query}")
        assert (answer.status, (await answer.json())["error"]) == (400, "bad_request")


async def test_one_is_shown_with_bytes_fields_and_signature_check() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        held = await (await client.get(f"/api/held/{id_}")).json()
        world.is_authentic = False
        forged = await (await client.get(f"/api/held/{id_}")).json()
    assert (held["disposition"], held["reason"], held["order"]) == ("quarantined", "amount_mismatch", "A1")
    assert held["signature"] == {"authentic": True, "detail": "", "key_id": "k"}
    assert "验签失败" in forged["signature"]["detail"]
    assert b"out_trade_no=A1" in base64.b64decode(held["body_base64"])
    assert (held["fields"]["total_fee"], held["fields"]["buyer_email"]) == ("12.80", "som***")
    assert held["headers"]["account"] == "shop"
    assert held["masked"]
    assert b"somebody" not in base64.b64decode(held["body_base64"])


async def test_unreadable_record_is_shown_as_far_as_possible() -> None:
    world = World()
    broken = str(await world.deliver_raw(b"no form at all", "A1"))
    message = str(
        await world.deliver_raw(b'{"notifyType": "X", "pspCustomerInfo": {"userId": "208800000"}}', "", "antom-us")
    )
    async with serving(world) as client:
        assert (await (await client.get(f"/api/held/{broken}")).json())["fields"] == {}
        shown = await (await client.get(f"/api/held/{message}")).json()
        assert shown["fields"] == {"notifyType": "X", "pspCustomerInfo.userId": "208***"}
        assert (await client.get("/api/held/0-999")).status == 404


async def test_retry_after_correction_applies_the_notification_once() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        still = await (await client.post(f"/api/held/{id_}/replay", json={"reason": "try"})).json()
        assert (still["resolution"], still["disposition"], still["replays"]) == ("", "quarantined", 1)
        await client.put("/api/orders/shop/A1", json={"amount": "12.80"})
        done = await client.post(f"/api/held/{id_}/replay", json={"reason": "the price was wrong", "by": "kim"})
        assert (await done.json())["resolution"] == "applied"
        again = await client.post(f"/api/held/{id_}/replay", json={"reason": "twice"})
        assert (again.status, (await again.json())["error"]) == (409, "conflict")
        order = await (await client.get("/api/orders/shop/A1")).json()
    assert (order["status"], order["flags"]) == ("PAID", [])
    assert [(verb, id_, why) for verb, id_, _, why in world.store.decided] == [
        ("replay", id_, "try"),
        ("replay", id_, "the price was wrong"),
    ]
    assert world.store.decided[1][2].startswith("kim (")
    assert world.registry.get_sample_value("alipay_notify_replayed_total", {"result": "applied"}) == 1


def notices(world: World) -> list[dict[str, bytes]]:
    """The headers of all notices of held notifications, oldest first."""
    return [dict(event.headers) for event in world.store.outbox if event.topic == topics.HELD]


async def test_notice_tells_of_the_retries_by_hand_before_it_and_of_this_one() -> None:
    world = World()
    id_ = await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        for why in ("perhaps now", "once more"):
            await client.post(f"/api/held/{id_}/replay", json={"reason": why})
        await client.put("/api/orders/strict/A1", json={"amount": "99.00"})
        await client.post(f"/api/held/{id_}/replay", json={"reason": "registered"})
    parked, quarantined = notices(world)
    assert (parked["held-replays"], parked["held-reason"]) == (b"0", b"unknown_order")
    assert (quarantined["held-replays"], quarantined["held-reason"]) == (b"3", b"amount_mismatch")


async def test_notice_of_a_record_that_cannot_be_read_names_the_exception() -> None:
    world = World()
    await world.deliver(form("A1", total_fee="many"))
    (notice,) = notices(world)
    assert (notice["held-step"], notice["held-error-class"]) == (b"read", b"Unreadable")
    assert notice["held-error-message"]


async def test_discard_is_final_and_records_operator_and_reason() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        assert (await client.post(f"/api/held/{id_}/discard", json={})).status == 400
        assert (await client.post(f"/api/held/{id_}/discard", json={"reason": " "})).status == 400
        done = await (await client.post(f"/api/held/{id_}/discard", json={"reason": "refunded by hand"})).json()
        assert (done["resolution"], done["why"]) == ("discarded", "refunded by hand")
        assert (await client.post(f"/api/held/{id_}/discard", json={"reason": "again"})).status == 409
        assert (await client.post("/api/held/0-99/discard", json={"reason": "none"})).status == 404
        order = await (await client.get("/api/orders/shop/A1")).json()
    assert order["amount_minor"] == 9900
    assert any(event == "held_discarded" and line["why"] == "refunded by hand" for event, line in world.log.lines)


async def test_accepted_amount_is_registered_and_paid_and_its_decision_is_on_the_timeline() -> None:
    world = World()
    id_ = await mismatched(world)
    async with serving(world) as client:
        assert (await client.post(f"/api/held/{id_}/accept", json={})).status == 400
        done = await (await client.post(f"/api/held/{id_}/accept", json={"reason": "a voucher", "by": "kim"})).json()
        assert (done["resolution"], done["why"]) == ("accepted", "a voucher")
        again = await client.post(f"/api/held/{id_}/accept", json={"reason": "twice"})
        assert (again.status, "already resolved: accepted" in (await again.json())["detail"]) == (409, True)
        order = await (await client.get("/api/orders/shop/A1")).json()
        page = await (await client.get("/orders/shop/A1")).text()
    assert (order["status"], order["expected_minor"], order["flags"]) == ("PAID", 1280, [])
    (decision,) = [entry for entry in order["timeline"] if entry["kind"] == "decision"]
    assert (decision["action"], decision["why"], decision["version"]) == ("accept", "a voucher", 2)
    assert "a voucher" in page


async def test_row_that_cannot_be_accepted_is_a_conflict_that_says_what_to_do() -> None:
    world = World()
    parked = str(await world.deliver(form("B1"), "strict"))
    async with serving(world) as client:
        refused = await client.post(f"/api/held/{parked}/accept", json={"reason": "right"})
        detail = (await refused.json())["detail"]
        page = await (await client.get(f"/held/{parked}")).text()
    assert refused.status == 409
    assert "held as unknown_order: mend the cause" in detail
    assert 'value="accept"' not in page


async def test_bulk_retry_is_a_dry_run_by_default_and_oldest_first() -> None:
    world = World()
    ids = [await mismatched(world, number) for number in ("A1", "A2", "A3")]
    async with serving(world) as client:
        for number in ("A1", "A3"):
            await client.put(f"/api/orders/shop/{number}", json={"amount": "12.80"})
        meant = {"held_reason": Reason.AMOUNT_MISMATCH.value, "limit": 10, "rate": 500}
        dry = await (await client.post("/api/held/replay", json=meant)).json()
        assert dry == {"dry_run": True, "count": 3, "snoozed": 0, "ids": ids}
        assert not world.store.decided
        assert (await client.post("/api/held/replay", json=meant | {"dry_run": False})).status == 400
        done = await client.post("/api/held/replay", json=meant | {"dry_run": False, "reason": "prices corrected"})
        assert await done.json() == {
            "dry_run": False,
            "count": 3,
            "snoozed": 0,
            "results": {"applied": 2, "quarantined": 1},
        }
    assert [id_ for _, id_, _, _ in world.store.decided] == ids


@pytest.mark.parametrize(
    "body", [{"rate": 0}, {"rate": 501}, {"limit": 0}, {"limit": 1001}, {"held_reason": "x"}, {"dryrun": True}]
)
async def test_bulk_retry_has_limits(body: dict[str, object]) -> None:
    async with serving(World()) as client:
        assert (await client.post("/api/held/replay", json=body)).status == 400


async def test_bulk_retry_of_dead_letters_does_not_stop_the_worker() -> None:
    world = World()
    for number in range(25):
        await world.deliver_raw(b"no form", f"A{number}")
        await world.deliver(form(f"B{number}"))
    async with serving(world) as client:
        meant = {"disposition": "dead", "dry_run": False, "reason": "after the upgrade", "rate": 500}
        done = await client.post("/api/held/replay", json=meant)
        assert await done.json() == {"dry_run": False, "count": 25, "snoozed": 0, "results": {"dead": 25}}
    await world.deliver_raw(b"no form", "C1")  # the worker goes on


def of_merchant(order: str, merchant: str) -> dict[str, str]:
    return form(order, app_id=str(ISV.app_id), auth_app_id=merchant, total_amount="12.80")


async def test_filter_by_merchant_needs_the_account_and_leaves_the_others() -> None:
    world = World()
    first, second = [str(await world.deliver(of_merchant("B1", merchant), "isv")) for merchant in ISV.auth_app_ids]
    async with serving(world) as client:
        for merchant, id_ in zip(ISV.auth_app_ids, (first, second), strict=True):
            query = f"account=isv&order=B1&auth_app_id={merchant}"
            answer = await (await client.get(f"/api/held?{query}")).json()
            assert [row["id"] for row in answer["held"]] == [id_]
            assert answer["total"] == 1
            body = {"account": "isv", "order": "B1", "auth_app_id": merchant}
            assert (await (await client.post("/api/held/replay", json=body)).json())["ids"] == [id_]
            started = await client.post("/api/held/replays", json=body | {"reason": "registered"})
            assert (await started.json())["total"] == 1
        assert (await (await client.get("/api/held?account=isv")).json())["total"] == 2
        for wrong in ("auth_app_id=2021000000000009", "account=shop&auth_app_id=2021000000000009"):
            assert (await client.get(f"/api/held?{wrong}")).status == 400


async def test_filter_by_merchant_of_a_removed_account_is_its_former_scope() -> None:
    world = World()
    await world.deliver(of_merchant("B1", ISV.auth_app_ids[1]), "isv")
    del world.accounts["isv"]
    async with serving(world) as client:
        for merchant, total in ((ISV.auth_app_ids[1], 1), (ISV.auth_app_ids[0], 0)):
            answer = await client.get(f"/api/held?account=isv&auth_app_id={merchant}")
            assert (await answer.json())["total"] == total
