"""The API for single notifications: what they are about, also if their bytes can no longer be read."""

import json
from typing import Any

from msgspec import structs

from schemas import personal
from tests.support import antom_kinds
from tests.support.admin import World, form, serving
from tests.support.log_records import NOW_MS

UNSIGN = {
    "notify_type": "dut_user_unsign",
    "notify_id": "m1",
    "notify_time": "2025-10-09 16:53:20",
    "agreement_no": "A1",
    "external_agreement_no": "E1",
    "status": "UNSIGN",
    "unsign_time": "2025-10-09 16:53:19",
    "alipay_user_id": "2088102008779321",
    "alipay_logon_id": "som***@example.com",
}


async def get(world: World, path: str) -> tuple[int, dict[str, Any]]:
    async with serving(world) as client:
        response = await client.get(path)
        return response.status, await response.json()


async def test_noted_notification_has_its_kind_numbers_and_public_fields() -> None:
    world = World()
    await world.deliver(UNSIGN)
    status, answer = await get(world, "/api/notifications/0-1")
    assert status == 200
    assert (answer["id"], answer["account"], answer["order"]) == ("0-1", "shop", "")
    assert (answer["kind"], answer["type"], answer["status"]) == ("agreement", "dut_user_unsign", "UNSIGN")
    assert (answer["disposition"], answer["reason"]) == ("applied", "noted")
    assert answer["numbers"] == [
        {"kind": "agreement", "number": "A1"},
        {"kind": "external_agreement", "number": "E1"},
    ]
    assert answer["fields"] == {"status": "UNSIGN", "unsign_time": "2025-10-09 16:53:19"}
    assert answer["sent_at"] == "2025-10-09T16:53:20+08:00"
    assert "2088102008779321" not in str(answer)


async def test_notification_is_found_by_id_and_each_number() -> None:
    world = World()
    await world.deliver(UNSIGN)
    for number in ("m1", "A1", "E1"):
        _, answer = await get(world, f"/api/find?number={number}")
        (found,) = answer["notifications"]
        assert (found["id"], found["status"], answer["matches"]) == ("0-1", "UNSIGN", [])


async def test_payment_and_its_copy_show_what_they_are() -> None:
    world = World()
    await world.deliver(form("N1"))
    await world.deliver(form("N1"))
    for id_, disposition in (("0-1", "applied"), ("0-2", "duplicate")):
        _, answer = await get(world, f"/api/notifications/{id_}")
        assert (answer["kind"], answer["order"], answer["disposition"]) == ("payment", "N1", disposition)
        assert (answer["numbers"], answer["fields"]) == ([], {})


async def test_notification_that_cannot_be_read_has_no_kind() -> None:
    world = World()
    await world.deliver_raw(b"no form at all", "X")
    await world.deliver(form("N1", total_fee="nonsense"))
    for id_, disposition in (("0-1", "dead"), ("0-2", "quarantined")):
        status, answer = await get(world, f"/api/notifications/{id_}")
        assert (status, answer["kind"], answer["disposition"]) == (200, None, disposition)
        assert answer["received_at"].startswith("2025-10-09"), NOW_MS


async def test_position_without_a_record_is_unknown() -> None:
    for id_ in ("0-9", "nonsense"):
        status, answer = await get(World(), f"/api/notifications/{id_}")
        assert (status, answer["error"]) == (404, "unknown_notification")


async def test_held_notification_shows_the_numbers_by_which_it_is_found() -> None:
    world = World()
    await world.deliver(form("N1", total_fee="1e2", agreement_no="AG1"))
    _, answer = await get(world, "/api/notifications/0-1")
    assert (answer["kind"], answer["disposition"], answer["reason"]) == (None, "quarantined", "bad_amount")
    assert [each["number"] for each in answer["numbers"]] == ["AG1", "20251009N1"]


async def test_notification_with_a_known_id_shows_its_own_content() -> None:
    world = World()
    await world.deliver(UNSIGN)
    await world.deliver(UNSIGN | {"agreement_no": "A2"})
    shown = [(await get(world, f"/api/notifications/0-{offset}"))[1]["numbers"][0]["number"] for offset in (1, 2)]
    assert shown == ["A1", "A2"]


async def test_erased_notification_shows_no_number_made_of_what_was_erased() -> None:
    world = World()
    (kind,) = [each for each in antom_kinds.NOTED if each.message.get("authorizationNotifyType") == "TOKEN_CREATED"]
    await world.deliver_raw(json.dumps(kind.message | {"accessToken": "a-token-of-a-buyer"}).encode(), "", "antom-us")
    kinds = {each["kind"] for each in (await get(world, "/api/notifications/0-1"))[1]["numbers"]}
    assert "access_token" in kinds
    ((key, entry),) = world.store.ledger.items()
    world.store.ledger[key] = structs.replace(entry, record=personal.erased(entry.record))
    world.store.erased_at_ms[key] = NOW_MS
    numbers = (await get(world, "/api/notifications/0-1"))[1]["numbers"]
    assert {each["kind"] for each in numbers} == kinds - {"access_token"}
    assert not [each for each in numbers if each["number"] == personal.ERASED]
