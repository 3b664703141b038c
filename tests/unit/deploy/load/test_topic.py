"""The errors of the events' topic. `tests/contract/test_load_topic.py` reads a real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.cluster import kafka_admin
from deploy.cluster.topic_check import NotSeen
from deploy.load import topic
from deploy.load.api import UnreadableAnswer


@asynccontextmanager
async def no_consumer(_connection: topic.Connection) -> AsyncIterator[Any]:
    yield None


async def test_broker_that_does_not_answer_is_named(unused_port: int) -> None:
    with pytest.raises(UnreadableAnswer, match=f"127.0.0.1:{unused_port}"):
        await topic.mark({"bootstrap_servers": f"127.0.0.1:{unused_port}"}, "orders")


async def test_missing_topic_is_named_with_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_connection: topic.Connection, _topics: list[str]) -> dict[str, Any]:
        return {"orders": None}

    monkeypatch.setattr(topic, "_consumer", no_consumer)
    monkeypatch.setattr(kafka_admin, "look", look)
    with pytest.raises(UnreadableAnswer, match=r"no topic orders at a:1,b:2; give --topic"):
        await topic.mark({"bootstrap_servers": ["a:1", "b:2"]}, "orders")


async def test_broker_that_refuses_to_describe_the_topic_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_connection: topic.Connection, _topics: list[str]) -> dict[str, Any]:
        raise NotSeen("not authorized")

    monkeypatch.setattr(topic, "_consumer", no_consumer)
    monkeypatch.setattr(kafka_admin, "look", look)
    with pytest.raises(UnreadableAnswer, match="not authorized"):
        await topic.mark({"bootstrap_servers": "a:1"}, "orders")
