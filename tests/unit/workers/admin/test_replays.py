"""The API for tasks over many held notifications: start, follow, cancel, resume."""

import pytest

from tests.support.admin import World, form, serving
from workers.queries import HeldQuery


async def parked(world: World, count: int) -> None:
    for number in range(count):
        await world.deliver(form(f"B{number}"), "strict")


async def test_replay_is_started_followed_cancelled_and_resumed() -> None:
    world = World()
    await parked(world, 5)
    async with serving(world) as client:
        body = {"held_reason": "unknown_order", "rate": 20, "reason": "registered now", "by": "kim"}
        started = await client.post("/api/held/replays", json=body)
        assert started.status == 201
        task = await started.json()
        assert (task["id"], task["state"], task["total"], task["done"]) == (1, "running", 5, 0)
        assert task["filter"]["reason"] == "unknown_order"
        await world.replayer().run_once()
        cancelled = await (await client.post("/api/held/replays/1/cancel", json={"by": "kim"})).json()
        assert (cancelled["state"], cancelled["done"], cancelled["held_again"]) == ("cancelled", 2, 2)
        page = await (await client.get("/held")).text()
        assert 'data-verb="resume"' in page
        again = await client.post("/api/held/replays/1/cancel", json={})
        assert (again.status, (await again.json())["detail"]) == (409, "task 1 is cancelled, not running")
        assert (await client.post("/api/held/replays/1/resume", json={})).status == 200
        for _ in range(3):
            await world.replayer().run_once()
        ended = await (await client.get("/api/held/replays/1")).json()
        assert (ended["state"], ended["done"], ended["finished_at"] is not None) == ("finished", 5, True)
        listed = await (await client.get("/api/held/replays")).json()
        assert [each["id"] for each in listed["replays"]] == [1]
        assert (await (await client.get("/api/held/replays?before=1")).json())["replays"] == []
        assert (await client.get("/api/held/replays/2")).status == 404
    actions = [action for action, *_ in world.store.decided if action != "replay"]
    assert actions == ["replay_start", "replay_cancel", "replay_resume"]


async def test_selection_is_discarded_by_a_task_and_shown_with_its_failures() -> None:
    world = World()
    await parked(world, 3)
    async with serving(world) as client:
        for action in ("accept", "discard"):
            body = {"action": action, "ids": ["0-1", "0-3"], "reason": "tests", "by": "kim"}
            started = await (await client.post("/api/held/tasks", json=body)).json()
            assert (started["action"], started["total"], started["filter"]["ids"]) == (action, 2, "0-1 0-3")
            loop = world.replayer()
            for _ in range(2):
                await loop.run_once()
        discarded, accepted = (await (await client.get("/api/held/tasks")).json())["tasks"]
        assert (accepted["state"], accepted["done"], accepted["decided"]) == ("finished", 2, 0)
        ((reason, count),) = accepted["failures"].items()
        assert (count, "held as unknown_order" in reason) == (2, True)
        assert (discarded["state"], discarded["done"], discarded["decided"]) == ("finished", 2, 2)
        assert discarded["failures"] == {}
        page = await (await client.get("/held")).text()
        assert "0 accepted, 2 refused" in page
        assert "held as unknown_order" in page
        audit = await (await client.get("/api/audit?action=task_start")).json()
        assert [(each["subject"], each["why"]) for each in audit["entries"]] == [
            ("task:2", "tests"),
            ("task:1", "tests"),
        ]
    assert [page.row.order for page in await world.store.held_list(HeldQuery())] == ["B1"]
    assert [(action, id_) for action, id_, *_ in world.store.decided if action == "discard"] == [
        ("discard", "0-1"),
        ("discard", "0-3"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "x", "rate": 0},
        {"reason": "x", "rate": 501},
        {"reason": "x", "held_reason": "y"},
        {"reason": "x", "action": "apply"},
        {"reason": "x", "ids": []},
        {"reason": "x", "account": "shop", "auth_app_id": ""},
        {"reason": "x", "account": ""},
        {"reason": "x", "order": ""},
        {"reason": "x", "ids": ["1234"]},
        {"reason": "x", "ids": ["0-1"] * 1001},
    ],
)
async def test_wrong_start_is_a_bad_request(body: dict[str, object]) -> None:
    async with serving(World()) as client:
        assert (await client.post("/api/held/tasks", json=body)).status == 400


async def test_l08_replay_needs_the_token() -> None:
    async with serving(World(), carried=None) as client:
        for path in ("", "/1/cancel", "/1/resume"):
            for name in ("tasks", "replays"):
                assert (await client.post(f"/api/held/{name}{path}", json={"reason": "x"})).status == 401
