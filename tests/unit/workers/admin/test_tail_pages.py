"""The tail in a browser: the list of newest lines, and the stream that goes on after it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse

from tests.support.admin import Client, Refused, World, form, serving
from tests.support.waiting import until
from workers import tail as tails
from workers.admin import tail_pages
from workers.errors import InfrastructureDown
from workers.tail import Tail

SCRIPT = "<script>alert(1)</script>"


@asynccontextmanager
async def following(client: Client, query: str = "", **headers: str) -> AsyncIterator[ClientResponse]:
    async with asyncio.timeout(30), client.get(f"/api/tail?{query}", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        await answer.content.readuntil(b"\n\n")  # the first comment: from now on new lines come
        yield answer


async def events(answer: ClientResponse, count: int) -> list[dict[str, str]]:
    """The next events with data, as their fields."""
    found: list[dict[str, str]] = []
    while len(found) < count:
        block = (await answer.content.readuntil(b"\n\n")).decode().strip()
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append(fields)
    return found


def orders(found: Sequence[dict[str, str]]) -> list[str]:
    return [json.loads(event["data"])["order"] for event in found]


def receive(into: Tail, order: str, account: str = "shop") -> None:
    into.received(account=account, scope=account, order=order, notification_id="n1")


async def test_page_lists_the_newest_lines_of_all_kinds_without_a_script() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("B1"), "strict")
    await world.store.mark_sent([1])
    world.refusals.requests.append(Refused("shop", SCRIPT, "bad_signature"))
    receive(world.tail, "R1")
    async with serving(world) as client:
        answer = await client.get("/tail")
        text = await answer.text()
    assert answer.status == 200
    for shown in (
        "R1",
        "/orders/shop/A1",
        "/orders/strict/B1",
        "order.paid",
        "bad signature",
        "parked",
        "unknown order",
    ):
        assert shown in text, shown
    assert SCRIPT not in text
    assert "somebody@example.com" not in text
    assert world.tail.is_watched
    assert f'data-after="{world.tail.run_id}-1"' in text


async def test_list_is_filtered_by_account_moment_and_outcome() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("B1"), "strict")
    async with serving(world) as client:
        by_account = await (await client.get("/tail?account=strict")).text()
        by_outcome = await (await client.get("/tail?outcome=applied&kind=")).text()
        by_kind = await (await client.get("/tail?kind=refused")).text()
        wrong = await client.get("/tail?kind=seen")
        assert (wrong.status, "kind must be one of" in await wrong.text()) == (400, True)
        assert (await client.get("/api/tail?kind=seen")).status == 400
    assert ["/orders/shop/A1" in by_account, "/orders/strict/B1" in by_account] == [False, True]
    assert ["/orders/shop/A1" in by_outcome, "/orders/strict/B1" in by_outcome] == [True, False]
    assert "Nothing matches yet." in by_kind


async def test_without_the_store_the_page_shows_what_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))

    async def down(*_: object) -> Any:
        raise InfrastructureDown("away")

    monkeypatch.setattr(world.store, "events_after", down)
    async with serving(world) as client:
        answer = await client.get("/tail")
        assert (answer.status, "/orders/shop/A1" in await answer.text()) == (200, True)


async def test_stream_sends_each_line_that_matches() -> None:
    world = World()
    async with serving(world) as client, following(client, "account=shop&outcome=applied") as answer:
        await world.deliver(form("A1"))
        await world.deliver(form("A1"))
        await world.deliver(form("A2"))
        found = await events(answer, 2)
    assert orders(found) == ["A1", "A2"]
    line = json.loads(found[0]["data"])
    assert (line["kind"], line["outcome"], line["reason"], line["account"]) == ("settled", "applied", "changed", "shop")
    assert "auth_app_id" not in line
    assert [event["id"] for event in found] == [f"{world.tail.run_id}-1", f"{world.tail.run_id}-3"]


async def test_viewer_who_comes_again_goes_on_after_the_last_id() -> None:
    world = World()
    for number in range(4):
        receive(world.tail, f"A{number}")
    run = world.tail.run_id
    async with serving(world) as client:
        async with following(client, f"after={run}-1") as answer:
            assert orders(await events(answer, 3)) == ["A1", "A2", "A3"]
        async with following(client, f"after={run}-1", **{"Last-Event-ID": f"{run}-3"}) as answer:
            assert orders(await events(answer, 1)) == ["A3"]
        for other in (f"former-{1}", "nonsense", f"{run}-99999999999999999999"):
            async with following(client, f"after={other}") as answer:
                receive(world.tail, "new")
                assert orders(await events(answer, 1)) == ["new"]


async def test_lines_that_come_too_fast_are_counted_and_not_kept() -> None:
    world = World()
    async with serving(world) as client, following(client) as answer:
        for number in range(tail_pages.LINES_MAX + 5):
            receive(world.tail, f"A{number}")
        missed, first = await events(answer, 2)
    assert (missed["event"], missed["data"]) == ("missed", "5")
    assert orders([first]) == ["A5"]


async def test_quiet_stream_beats_and_keeps_the_tail_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_pages, "HEARTBEAT_S", 0.01)
    world = World()
    async with serving(world) as client, following(client, "account=strict") as answer:
        assert world.tail.is_watched
        beats = [await answer.content.readuntil(b"\n\n") for _ in range(3)]
        receive(world.tail, "A1")  # of another account: the place moves on all the same
        async with asyncio.timeout(30):
            while beats[-1] != f"id: {world.tail.run_id}-1\n\n".encode():
                beats.append(await answer.content.readuntil(b"\n\n"))
    assert beats[0] == f"id: {world.tail.run_id}-0\n\n".encode()


async def test_number_of_viewers_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "VIEWERS_MAX", 1)
    async with serving(World()) as client, following(client):
        refused = await client.get("/api/tail")
        assert (refused.status, (await refused.json())["error"]) == (503, "too_many_waiters")


async def test_viewer_who_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WRITE_S", 0.2), ("GATHERED_S", 0.0)):
        monkeypatch.setattr(tail_pages, name, value)
    world = World()
    async with serving(world) as client:
        _, writer = await asyncio.open_connection(client.host, client.port, limit=1)
        writer.write(f"GET /api/tail HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
        async with asyncio.timeout(60):
            await until(lambda: world.tail._waiters)
            while world.tail._waiters:
                for _ in range(tail_pages.LINES_MAX):
                    receive(world.tail, "N" * tails.TEXT_MAX)
                await asyncio.sleep(0.001)
        writer.close()


async def test_head_of_the_stream_ends_at_once() -> None:
    world = World()
    async with serving(world) as client, asyncio.timeout(30):
        answer = await client.head("/api/tail")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert not world.tail._waiters


async def test_stream_ends_when_the_process_stops() -> None:
    world = World()
    async with serving(world) as client, following(client) as answer:
        world.tail.close()
        rest = await answer.content.read()
        assert re.fullmatch(rb"(id: \w+-0\n\n)*", rest)
