"""The dry run of a task: what it counts and shows, and that the task that follows is over the same rows."""

import re
from collections.abc import Sequence

import pytest

from schemas import times
from tests.support.admin import NOW_MS, Client, World, form, serving
from workers.admin import held_preview
from workers.errors import ReadTooSlow
from workers.queries import HeldPage, HeldQuery


async def shown(client: Client, body: dict[str, object]) -> str:
    answer = await client.post("/held/preview", json=body)
    assert (answer.status, answer.content_type) == (200, "text/html")
    return " ".join(re.sub(r"<[^>]*>", " ", await answer.text()).split())


async def before(client: Client, body: dict[str, object]) -> str:
    found = re.search(r'data-before="([^"]+)"', await (await client.post("/held/preview", json=body)).text())
    assert found is not None
    return found[1]


async def world_of(*orders: str) -> World:
    world = World()
    for order in orders:
        await world.deliver(form(order), "strict")
    return world


async def test_filter_is_counted_with_its_sums_and_groups() -> None:
    world = await world_of("B0", "B1")
    await world.deliver_raw(b"nonsense", "B2", "strict")
    async with serving(world) as client:
        told = await shown(client, {"account": "strict", "action": "discard", "rate": 10})
        for part in (
            "Discard 3?",
            "25.60 USD paid in 2",
            "Oldest 2025-10-09",
            "Newest 2025-10-09",
            "Discarding is final",
        ):
            assert part in told, part
        assert "parked unknown order 2" in told
        assert "At most 10 a second" in told
        told = await shown(client, {"held_reason": "unknown_order"})
        assert "Retry 2?" in told
        assert "final" not in told
        assert "Type" not in told
    assert world.store.audit == []
    assert (await world.store.replays(10)).tasks == []


async def test_selection_names_those_that_are_no_longer_held() -> None:
    world = await world_of("B0", "B1")
    async with serving(world) as client:
        await client.post("/api/held/0-1/discard", json={"reason": "x"})
        told = await shown(client, {"ids": ["0-1", "0-2", "0-9", "0-2"], "action": "accept"})
        assert "Accept 1?" in told
        assert "Of 3 that are selected, 1 are still held." in told
        told = await shown(client, {"ids": ["0-1"], "action": "discard"})
    assert "None of them is held any more." in told
    assert "Discard them" not in told


async def test_snoozed_ones_are_left_out_of_a_filter_and_not_of_a_selection() -> None:
    world = await world_of("B0", "B1")
    async with serving(world) as client:
        await client.post("/api/held/0-1/snooze", json={"reason": "x", "until": "4h"})
        told = await shown(client, {"account": "strict"})
        assert "Retry 1?" in told
        assert "1 snoozed ones are left out." in told
        told = await shown(client, {"ids": ["0-1", "0-2"]})
        assert "Retry 2?" in told
        assert "snoozed" not in told


@pytest.mark.parametrize("body", [{"account": "strict"}, {"ids": ["0-1", "0-2"]}, {"held_reason": "unknown_order"}])
async def test_task_is_over_as_many_as_its_preview_has(body: dict[str, object]) -> None:
    world = await world_of("B0", "B1")
    async with serving(world) as client:
        assert "Retry 2?" in await shown(client, body)
        end = {} if "ids" in body else {"before": await before(client, body)}
        task = await (await client.post("/api/held/tasks", json=body | end | {"reason": "x"})).json()
    assert task["total"] == 2


async def test_end_of_the_filter_is_the_moment_of_the_preview_or_the_one_given() -> None:
    given: list[tuple[dict[str, object], int]] = [
        ({}, NOW_MS + 1),
        ({"before": "1h"}, NOW_MS - times.HOUR_MS),
        ({"before": "2025-10-09T08:00:00.123Z"}, 1_759_996_800_123),
    ]
    async with serving(await world_of("B0")) as client:
        for body, end_ms in given:
            end = await before(client, body)
            assert times.iso_to_epoch_ms(end) == end_ms
            task = await (await client.post("/api/held/tasks", json={"before": end, "reason": "x"})).json()
            assert times.iso_to_epoch_ms(task["filter"]["before"]) == end_ms


async def test_very_many_have_no_end_so_that_their_start_need_not_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_preview, "ENDED_MAX", 1)
    async with serving(await world_of("B0", "B1")) as client:
        assert "after its start are not taken" in await shown(client, {"account": "strict"})
        assert 'data-before=""' in await (await client.post("/held/preview", json={"account": "strict"})).text()
        assert "from now on are not taken" in await shown(client, {"order": "B0"})


@pytest.mark.parametrize(
    "body",
    [
        {"rate": 0},
        {"rate": 501},
        {"ids": []},
        {"ids": ["x"]},
        {"action": "delete"},
        {"account": ""},
        {"held_reason": "because"},
        {"limit": 3},
    ],
)
async def test_wrong_body_is_refused_as_by_the_start(body: dict[str, object]) -> None:
    async with serving(World()) as client:
        answers = [await client.post(path, json=body) for path in ("/held/preview", "/api/held/tasks")]
        assert [answer.status for answer in answers] == [400, 400]


async def test_preview_needs_the_token_like_the_task() -> None:
    async with serving(await world_of("B0"), carried=None) as client:
        assert (await client.post("/held/preview", json={})).status == 401


async def test_sums_that_take_too_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await world_of("B0")
    plain = world.store.held_list

    async def slow(query: HeldQuery) -> Sequence[HeldPage]:
        if query.limit > 1:
            raise ReadTooSlow("the order store took longer than 3 s")
        return await plain(query)

    monkeypatch.setattr(world.store, "held_list", slow)
    async with serving(world) as client:
        assert "It takes too long to add them up." in await shown(client, {})
