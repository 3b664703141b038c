"""The load's reader of order events on a real topic: everything since the mark, nothing before it, in order."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import structs

from deploy.load import topic
from deploy.load.api import UnreadableAnswer
from deploy.load.judge import SeenEvent
from schemas.record_format import Record
from tests.support.kafka_topics import Appending, Topic

FIRST = SeenEvent(
    account="demo-cn", order="L1-0-0000000", version=1, status="PAID", closed_because=None, trade="T1",
    amount_minor=1280, currency="CNY", refunded_minor=0, flags=(),
)  # fmt: skip


@pytest.fixture
async def events(kafka: str) -> AsyncIterator[Topic]:
    made = Topic(kafka, partitions=3)
    await made.make()
    await known(kafka, made.name)
    yield made
    await made.remove()


async def known(kafka: str, name: str) -> None:
    """Return when the broker shows the topic; it confirms the creation a moment before that."""
    async with asyncio.timeout(15):
        while True:
            try:
                await topic.mark({"bootstrap_servers": kafka}, name)
            except UnreadableAnswer:
                await asyncio.sleep(0.1)
            else:
                return


async def append(log: Appending, event: SeenEvent, *, partition: int) -> None:
    value = msgspec.json.encode(event)
    await log.append(Record(key=event.order.encode(), value=value, headers=()), partition=partition)


async def read(feed: topic.TopicFeed, count: int) -> list[SeenEvent]:
    found: list[SeenEvent] = []
    async with asyncio.timeout(15):
        while len(found) < count:
            found += [event for event, _ in await feed.read()]
    assert await feed.read() == []
    return found


async def test_reads_all_events_since_the_mark_with_copies(kafka: str, events: Topic) -> None:
    async with events.log() as log:
        await append(log, structs.replace(FIRST, order="before"), partition=1)
        mark = await topic.mark({"bootstrap_servers": kafka}, events.name)
        assert mark == {0: 0, 1: 1, 2: 0}
        for version in (1, 1, 2, 3):
            await append(log, structs.replace(FIRST, version=version), partition=1)
        await append(log, structs.replace(FIRST, order="other"), partition=2)
    async with topic.feed({"bootstrap_servers": kafka}, events.name, mark) as feed:
        found = await read(feed, 5)
    assert [event.version for event in found if event.order == FIRST.order] == [1, 1, 2, 3]
    assert {event.order for event in found} == {FIRST.order, "other"}


async def test_value_that_is_no_event_is_an_error(kafka: str, events: Topic) -> None:
    mark = await topic.mark({"bootstrap_servers": kafka}, events.name)
    async with events.log() as log:
        await log.append(Record(key=b"k", value=b"{}", headers=()), partition=0)
    async with topic.feed({"bootstrap_servers": kafka}, events.name, mark) as feed:
        with pytest.raises(UnreadableAnswer, match="cannot be read"):
            await read(feed, 1)


async def test_missing_topic_and_unreachable_cluster_are_reported(kafka: str) -> None:
    with pytest.raises(UnreadableAnswer, match=r"no topic nowhere\.v1"):
        await topic.mark({"bootstrap_servers": kafka}, "nowhere.v1")
    with pytest.raises(UnreadableAnswer, match=r"127\.0\.0\.1:1"):
        await topic.mark({"bootstrap_servers": "127.0.0.1:1"}, "nowhere.v1")
