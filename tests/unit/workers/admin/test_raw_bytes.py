"""The bytes of notifications over HTTP: hidden by default, revealed with a reason, and verified by the keys of now."""

import base64
from typing import Any

from tests.support.admin import World, form, serving
from workers.errors import InfrastructureDown


def body_of(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["body_base64"])


async def test_bytes_are_shown_with_personal_data_hidden_and_verified_now() -> None:
    world = World()
    applied = await world.deliver(form("A1"))
    held = await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        for position in (applied, held):
            response = await client.get(f"/api/notifications/{position}/raw")
            shown = await response.json()
            assert (response.headers["Cache-Control"], shown["masked"]) == ("no-store", True)
            assert b"subject=Two+tickets&buyer_email=***&" in body_of(shown)
            assert (shown["fields"]["buyer_email"], shown["fields"]["subject"]) == ("som***", "Two tickets")
            assert shown["signature"] == {"authentic": True, "detail": "", "key_id": "k"}
        world.is_authentic = False
        forged = await (await client.get(f"/api/notifications/{applied}/raw")).json()
        assert not forged["signature"]["authentic"]
        assert (await client.get("/api/notifications/0-99/raw")).status == 404


async def test_reveal_answers_with_the_bytes_after_the_audit_row() -> None:
    world = World()
    position = await world.deliver(form("A1"))
    async with serving(world) as client:
        url = f"/api/notifications/{position}/reveal"
        assert (await client.post(url, json={"reason": " "})).status == 400
        assert (await client.get(url)).status == 405
        assert (await client.post("/api/notifications/0-99/reveal", json={"reason": "x"})).status == 404
        assert world.store.audit == []
        response = await client.post(url, json={"reason": "the buyer asks", "by": "kim"})
        revealed = await response.json()
    assert (response.headers["Cache-Control"], revealed["masked"]) == ("no-store", False)
    assert b"buyer_email=somebody%40example.com" in body_of(revealed)
    assert revealed["fields"]["buyer_email"] == "somebody@example.com"
    assert world.store.audit == [("reveal", "0-1", "kim (127.0.0.1)", "the buyer asks")]
    (line,) = world.log.of("notification_revealed")
    assert line == {"notification": "0-1", "by": "kim (127.0.0.1)", "why": "the buyer asks"}


async def test_nothing_is_revealed_without_the_token_or_without_the_audit_row() -> None:
    world = World()
    position = await world.deliver(form("A1"))
    url = f"/api/notifications/{position}/reveal"
    async with serving(world, carried=None) as client:
        assert (await client.post(url, json={"reason": "x"})).status == 401

    async def down(*_: object, **__: object) -> None:
        raise InfrastructureDown("away")

    world.audit.note = down  # type: ignore[method-assign]
    async with serving(world) as client:
        answer = await client.post(url, json={"reason": "x"})
        assert answer.status == 503
        assert "somebody" not in await answer.text()


async def test_second_copy_is_verified_by_the_first_with_its_id() -> None:
    world = World()
    await world.deliver(form("A1"))
    copy = await world.deliver(form("A1"))
    async with serving(world) as client:
        shown = await (await client.get(f"/api/notifications/{copy}/raw")).json()
    assert shown["signature"]["authentic"]


async def test_pages_hide_personal_data_and_can_verify_each_notification() -> None:
    world = World()
    applied = await world.deliver(form("A1"))
    held = await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        order = await (await client.get("/orders/shop/A1")).text()
        pages = [await (await client.get(path)).text() for path in (f"/notifications/{applied}", f"/held/{held}")]
    assert f'data-verify="{applied}"' in order
    for page in pages:
        assert "somebody" not in page
        assert "buyer_email=***" in page
        assert "verified now with key k" in page
    assert f'data-reveal="{applied}"' in pages[0]
