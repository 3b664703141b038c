"""The settings of the clients that protect records, and the disposal of a client in any state. No broker is needed."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from workers.kafka import clients

CONNECTION = {"bootstrap_servers": "a:1"}


class Client:
    """A client with the parts of an aiokafka consumer or producer. Its `stop` does what the test says."""

    def __init__(self, stop: Callable[[], Awaitable[None]]) -> None:
        self.ended: list[str] = []
        self._stop = stop
        self._coordinator = SimpleNamespace(
            _coordination_task=asyncio.create_task(asyncio.Event().wait()),
            _heartbeat_task=asyncio.create_task(asyncio.Event().wait()),
            _commit_refresh_task=None,
            _maybe_leave_group=lambda: self._end("leave"),
        )
        self._fetcher = SimpleNamespace(close=lambda: self._end("fetcher"))
        self._sender = SimpleNamespace(sender_task=asyncio.create_task(asyncio.Event().wait()))
        self._client = SimpleNamespace(close=lambda: self._end("connections"))

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        return [self._coordinator._coordination_task, self._coordinator._heartbeat_task, self._sender.sender_task]

    async def stop(self) -> None:
        await self._stop()

    async def _end(self, part: str) -> None:
        self.ended.append(part)


async def stops() -> None: ...


async def hangs() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise OSError("connection lost")


async def test_client_that_stops_in_time_is_left_alone() -> None:
    client = Client(stops)
    assert await clients.dispose(client)
    assert client.ended == []
    for task in client.tasks:
        task.cancel()


@pytest.mark.parametrize("stop", [hangs, fails])
async def test_client_that_does_not_stop_is_closed_by_force(stop: Callable[[], Awaitable[None]]) -> None:
    client = Client(stop)
    assert not await clients.dispose(client, within_s=0.01)
    assert all(task.cancelled() for task in client.tasks)
    assert client.ended == ["leave", "fetcher", "connections"]


async def test_part_that_fails_or_hangs_does_not_keep_the_others_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "FORCE_S", 0.01)
    client = Client(fails)
    client._coordinator._maybe_leave_group = hangs
    client._fetcher.close = fails
    assert not await clients.dispose(client)
    assert client.ended == ["connections"]


async def test_producer_without_coordinator_or_fetcher_is_closed_by_force() -> None:
    client = Client(fails)
    for part in ("_coordinator", "_fetcher"):
        delattr(client, part)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not await clients.dispose(client)
    assert client._sender.sender_task.cancelled()
    assert client.ended == ["connections"]
    for task in others:
        task.cancel()


async def test_unstarted_consumer_and_producer_are_disposed_of() -> None:
    consumer, producer = clients.consumer(CONNECTION, group="g"), clients.producer(CONNECTION)
    assert isinstance(consumer, AIOKafkaConsumer)
    assert isinstance(producer, AIOKafkaProducer)
    assert await clients.dispose(consumer)
    assert await clients.dispose(producer)


async def test_consumer_never_commits_or_chooses_an_offset_by_itself() -> None:
    consumer = clients.consumer(CONNECTION, group="g", session_s=12.5)
    assert consumer._enable_auto_commit is False
    assert consumer._auto_offset_reset == "none"
    assert consumer._session_timeout_ms == 12_500
    await clients.dispose(consumer)


async def test_settings_of_the_connection_and_of_the_caller_take_precedence() -> None:
    consumer = clients.consumer({**CONNECTION, "client_id": "worker-1"}, group="g", max_poll_interval_ms=7)
    assert consumer._client._client_id == "worker-1"
    assert consumer._max_poll_interval_ms == 7
    await clients.dispose(consumer)
