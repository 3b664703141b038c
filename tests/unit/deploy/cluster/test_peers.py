"""The console's view of receivers and workers: heartbeats, gone and stopped ones, counts, refused ones, the tail."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from deploy.cluster import peers as module
from deploy.cluster.peers import PeerAddress, Peers
from tests.support.admin import TOKEN, Refused, World, form
from tests.support.waiting import until
from workers.admin import process_state, server
from workers.admin.guard import LOOPBACK_ONLY, Access
from workers.admin.operators import Operator
from workers.admin.processes import SeenProcess
from workers.tail import Tail

WITHIN_S = 30.0


@pytest.fixture(autouse=True)
def leave_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process waits for consoles only in tests in which they are still there when it stops."""
    monkeypatch.setattr(process_state, "LEAVE_S", 0.0)


@asynccontextmanager
async def listening(world: World, port: int, access: Access = LOOPBACK_ONLY) -> AsyncIterator[PeerAddress]:
    """The world's admin port; on leaving it stops in good order."""
    application = world.application(access)
    async with server.serving(application, host="127.0.0.1", port=port, log=world.log) as opened:
        yield PeerAddress("127.0.0.1", opened)


@asynccontextmanager
async def asking(*addresses: PeerAddress, **more: Any) -> AsyncIterator[Peers]:
    settings: dict[str, Any] = {"tail": Tail(now_ms=lambda: 0), "ask_s": 0.2, "answer_s": 1.0, "gone_s": 0.5, **more}
    found = Peers(addresses, now_ms=lambda: 7, **settings)
    task = asyncio.create_task(found.run())
    try:
        yield found
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(peers: Peers, condition: Callable[[Sequence[SeenProcess]], object]) -> Sequence[SeenProcess]:
    """What it sees, as soon as that meets the condition."""
    async with asyncio.timeout(WITHIN_S):
        while not condition(found := await peers.seen()):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    return found


def answered(found: Sequence[SeenProcess]) -> bool:
    return bool(found) and all(each.state is not None and not each.is_gone for each in found)


async def test_each_process_is_seen_with_its_state_and_its_last_heartbeat() -> None:
    async with listening(World(), 0) as one, listening(World(), 0) as other, asking(one, other, one) as peers:
        found = await seen(peers, answered)
        assert [each.address for each in found] == [str(one), str(other)]
        assert found[0].state is not None
        assert (found[0].state.identity.instance, found[0].seen_at_ms) == ("here-1", 7)


async def test_process_that_stops_in_order_disappears_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_state, "LEAVE_S", 10.0)
    port = unused_port()
    async with asking(PeerAddress("127.0.0.1", port)) as peers:
        async with listening(World(), port):
            await seen(peers, answered)
        await seen(peers, lambda found: not found)
        await asyncio.sleep(0.6)  # longer than a process is gone after
        assert await peers.seen() == []
        async with listening(World(), port):
            await seen(peers, answered)


async def test_process_that_does_not_answer_any_more_is_gone() -> None:
    world, hang = World(), asyncio.Event()

    @web.middleware
    async def hanging(request: web.Request, handler: Any) -> Any:
        if hang.is_set():
            await asyncio.Event().wait()
        return await handler(request)

    application = world.application()
    application.middlewares.insert(0, hanging)
    async with TestServer(application) as hung, asking(PeerAddress("127.0.0.1", hung.port or 0)) as peers:
        await seen(peers, answered)
        hang.set()
        [gone] = await seen(peers, lambda found: found[0].is_gone)
        assert gone.state is not None
        hang.clear()
        await seen(peers, answered)


async def test_address_that_never_answered_is_gone_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)

    async def wrong(_: web.Request) -> web.Response:
        return web.json_response({"identity": {"role": "unheard"}})

    other = web.Application()
    other.router.add_get("/api/process", wrong)
    nobody = PeerAddress("127.0.0.1", unused_port())
    async with AsyncExitStack() as stack:
        strange = await stack.enter_async_context(TestServer(other))
        shut = await stack.enter_async_context(
            listening(World(), 0, Access(operators=(Operator("", b"x" * 16),), reads_need_token=True))
        )
        addresses = (nobody, PeerAddress("127.0.0.1", strange.port or 0), shut)
        peers = await stack.enter_async_context(asking(*addresses))
        found = await seen(peers, lambda found: len(found) == 3 and all(each.is_gone for each in found))
    assert [each.state for each in found] == [None] * 3
    assert "refused" in found[0].trouble or "connect" in found[0].trouble
    assert "another release" in found[1].trouble
    assert found[2].trouble == "it answers 401"


async def test_token_opens_a_port_beyond_loopback() -> None:
    access = Access(operators=(Operator("", TOKEN.encode()),), reads_need_token=True)
    async with listening(World(), 0, access) as address, asking(address, token=TOKEN.encode()) as peers:
        await seen(peers, answered)


async def test_answer_that_is_too_large_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 10)
    async with listening(World(), 0) as address, asking(address) as peers:
        await seen(peers, lambda found: found and found[0].trouble == "its answer is too large")


async def test_counts_are_summed_over_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_state, "LEAVE_S", 10.0)
    port, world = unused_port(), World()
    await world.deliver(form("A0"))
    async with asking(PeerAddress("127.0.0.1", port)) as peers:
        async with listening(world, port):
            await seen(peers, answered)
            assert peers.counts().applied == 0  # what came before the console began is not its to count
            await world.deliver(form("A1"))
            await until(lambda: peers.counts().applied == 1, within_s=WITHIN_S)
        await seen(peers, lambda found: not found)
        fresh = World()
        await fresh.deliver(form("A2"))
        async with listening(fresh, port):
            await until(lambda: peers.counts().applied == 2, within_s=WITHIN_S)


async def test_refused_requests_of_all_receivers_are_found_by_order() -> None:
    one, other = World(), World()
    one.refusals.requests.append(Refused("shop", "A1", "bad_signature", 2))
    other.refusals.requests += [Refused("shop", "A1", "malformed", 1), Refused("shop", "A2", "malformed", 3)]
    async with listening(one, 0) as first, listening(other, 0) as second, asking(first, second) as peers:
        await until(lambda: len(peers.newest(10)) == 3, within_s=WITHIN_S)
        assert [each.reason for each in peers.of_order("shop", "A1")] == ["malformed", "bad_signature"]
        assert [each.order for each in peers.newest(1)] == ["A2"]
        assert peers.of_order("strict", "A1") == []
        one.refusals.requests.append(Refused("isv", "A9", "malformed", 4, scope="isv/2021"))
        await until(lambda: peers.of_order("isv/2021", "A9"), within_s=WITHIN_S)


async def test_tail_is_collected_only_while_it_is_watched() -> None:
    world, tail = World(), Tail(now_ms=lambda: 0)
    async with listening(world, 0) as address, asking(address, tail=tail) as peers:
        await seen(peers, answered)
        assert not world.tail.is_watched
        tail.watch()
        await until(lambda: world.tail.is_watched, within_s=WITHIN_S)
        await world.deliver(form("A1"))
        await until(lambda: tail.added, within_s=WITHIN_S)
        [entry] = tail.after(0, 10)
        assert (entry.kind, entry.order, entry.process) == ("settled", "A1", "here-1")
        for number in range(1200):
            world.tail.received(account="shop", scope="shop", order=str(number), notification_id="")
        await until(lambda: tail.added == 1201, within_s=WITHIN_S)
        assert len(tail.after(1, 2000)) == 500  # the others were too many for one answer, and are counted


async def test_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_UP_S", 0.01)
    monkeypatch.setattr(module, "FORGET_S", 0.0)
    hosts: list[str] | OSError = ["127.0.0.1", "127.0.0.2"]

    async def look_up(*_: object, **__: object) -> list[Any]:
        if isinstance(hosts, OSError):
            raise hosts
        four = [(socket.AF_INET, 1, 6, "", (host, 1)) for host in hosts]
        return [*four, (socket.AF_INET6, 1, 6, "", ("::1", 1, 0, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with asking(PeerAddress("workers.example", unused_port())) as peers:
        found = await seen(peers, lambda found: len(found) == 2)
        assert [each.address.partition(":")[0] for each in found] == ["127.0.0.1", "127.0.0.2"]
        hosts = ["127.0.0.2"]
        await seen(peers, lambda found: len(found) == 1)
        hosts = OSError("no name server")
        await asyncio.sleep(0.05)
        assert len(await peers.seen()) == 1  # it is unknown what the name stands for now


async def test_unknown_name_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object, **__: object) -> list[Any]:
        raise OSError("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with asking(PeerAddress("workers.example", 9464)) as peers:
        [found] = await seen(peers, lambda found: found)
        assert (found.address, found.is_gone) == ("workers.example:9464", True)
        assert "no such name" in found.trouble


async def test_number_of_processes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS_MAX", 1)
    async with listening(World(), 0) as one, listening(World(), 0) as other, asking(one, other) as peers:
        found = await seen(peers, answered)
        assert len(found) == 1


def test_address_is_shown_as_it_is_written() -> None:
    assert str(PeerAddress("::1", 9464)) == "[::1]:9464"
    assert str(PeerAddress("ingest-1", 9464)) == "ingest-1:9464"
    assert not Peers([], tail=Tail(now_ms=lambda: 0), now_ms=lambda: 0).are_known
