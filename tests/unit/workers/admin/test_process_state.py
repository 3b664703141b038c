"""The state of a process over HTTP: its counts and lag, a wait that ends early, and news since the last answer."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from ingest.metrics import ReceiverMetrics
from schemas.dispositions import Outcome
from tests.support.admin import Client, Refused, World, form, serving
from tests.support.fakes import MemoryLogger
from tests.support.waiting import until
from workers.admin import app, process_state
from workers.admin.probes import Check
from workers.admin.process_state import OwnProcess, ProcessIdentity, ProcessPart, ProcessRole
from workers.tail import Tail


async def asked(client: Client, **query: object) -> dict[str, Any]:
    answer = await client.get("/api/process", params={name: str(value) for name, value in query.items()})
    assert answer.status == 200
    found: dict[str, Any] = await answer.json()
    return found


async def test_state_has_role_readiness_partitions_and_counts() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A1"))
    for partition, seconds in ((10, 0.5), (9, 2.0)):
        world.metrics.lag(partition=partition, group="g", messages=3, seconds=seconds)
    world.checks = [Check(name="store", ok=True), Check(name="redis", ok=False, detail="away", is_needed=False)]
    async with serving(world) as client:
        state = await asked(client)
    assert (state["identity"]["role"], state["identity"]["version"]) == ("engine", "1.2.3")
    assert (state["is_ready"], state["is_stopping"], state["failing"][0]["name"]) == (True, False, "redis")
    assert [(each["partition"], each["seconds"]) for each in state["partitions"]] == [("9", 2.0), ("10", 0.5)]
    assert (state["counts"]["applied"], state["counts"]["repeats"]) == (1, 1)


async def test_receiver_counts_accepted_and_refused_requests_of_all_accounts() -> None:
    async def ready() -> list[Check]:
        return []

    registry = CollectorRegistry()
    identity = ProcessIdentity(role=ProcessRole.RECEIVER, instance="r", version="1", started_at_ms=0)
    own = OwnProcess(identity=identity, readiness=ready, registry=registry, tail=Tail(now_ms=lambda: 0))
    assert own.counts().accepted == 0  # it starts after the admin port
    metrics = ReceiverMetrics(registry)
    for outcome in (Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.MALFORMED):
        metrics.answered(None, outcome, method="POST", status=200, seconds=0.1)
    assert (own.counts().accepted, own.counts().refused, own.counts().applied) == (2, 1, 0)


async def test_refused_requests_are_given_once_in_each_run() -> None:
    world = World()
    world.refusals.requests += [Refused("shop", "A1", "bad_signature"), Refused("shop", "A2", "malformed")]
    async with serving(world) as client:
        first = await asked(client)
        assert [each["order"] for each in first["refused"]] == ["A1", "A2"]
        world.refusals.requests.append(Refused("shop", "A3", "malformed"))
        known = {"run_id": first["run_id"], "refused_after": first["refused_added"]}
        assert [each["order"] for each in (await asked(client, **known))["refused"]] == ["A3"]
        other = await asked(client, **{**known, "run_id": "former"})
        assert [each["order"] for each in other["refused"]] == ["A1", "A2", "A3"]


async def test_lines_of_the_tail_end_the_wait_if_they_are_wanted() -> None:
    world = World()
    async with serving(world) as client:
        first = await asked(client)
        assert not world.tail.is_watched
        known = {"run_id": first["run_id"], "tail_after": first["tail_added"], "wait": "60s"}
        asking = asyncio.create_task(asked(client, **known, watch="true"))
        await until(lambda: world.tail.is_watched)
        await world.deliver(form("A1"))
        async with asyncio.timeout(30):
            state = await asking
        assert [(line["kind"], line["order"]) for line in state["tail"]] == [("settled", "A1")]
        assert state["tail_added"] == 1
        assert (await asked(client))["tail"] == []


async def test_process_that_stops_answers_at_once_that_it_does() -> None:
    world = World()
    async with serving(world) as client:
        asking = asyncio.create_task(asked(client, wait="60s"))
        await until(lambda: world.tail._waiters)
        world.tail.close()
        async with asyncio.timeout(30):
            assert (await asking)["is_stopping"]


async def test_process_leaves_when_each_console_knows_it() -> None:
    world = World()
    part = ProcessPart(world.own)
    application = web.Application()
    application.add_routes(part.routes())
    async with TestClient(TestServer(application)) as client, asyncio.timeout(30):
        await part.leave()  # without consoles, at once
        world.tail.is_closed = False
        for console in ("one", "two"):
            await asked(client, console=console)
        leaving = asyncio.create_task(part.leave())
        await until(lambda: world.tail.is_closed)
        assert (await asked(client, console="one"))["is_stopping"]
        assert not leaving.done()
        await asked(client, console="two", wait="60s")
        await leaving


async def test_process_does_not_wait_long_for_a_console_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_state, "LEAVE_S", 0.05)
    world = World()
    part = ProcessPart(world.own)
    application = web.Application()
    application.add_routes(part.routes())
    async with TestClient(TestServer(application)) as client, asyncio.timeout(30):
        for console in range(process_state.CONSOLES_MAX + 1):
            await asked(client, console=console)
        assert len(part._consoles) == process_state.CONSOLES_MAX
        await part.leave()


async def test_process_that_has_failed_does_not_look_like_one_that_stops() -> None:
    async def ready() -> list[Check]:
        return []

    identity = ProcessIdentity(role=ProcessRole.WORKER, instance="w", version="1", started_at_ms=0)
    tail = Tail(now_ms=lambda: 0)
    own = OwnProcess(
        identity=identity, readiness=ready, registry=CollectorRegistry(), tail=tail, has_failed=lambda: True
    )
    application = app.probes(own=own, readiness=ready, registry=CollectorRegistry(), log=MemoryLogger())
    async with TestClient(TestServer(application)) as client:
        tail.close()
        assert not (await asked(client, wait="60s"))["is_stopping"]


async def test_beyond_loopback_the_state_needs_the_token() -> None:
    world = World()
    async with serving(world, carried=None, reads_need_token=True) as client:
        assert (await client.get("/api/process")).status == 401
    async with serving(world, reads_need_token=True) as client:
        assert (await client.get("/api/process")).status == 200
        assert (await client.get("/api/process?wait=x")).status == 400
