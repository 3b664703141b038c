"""A topic that denies us, on a real broker with access control: its events wait, and all others go on."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from deploy.local.kafka import cluster
from schemas import topics
from tests.faults.test_kafka_events import Topics, event, ids, publish
from tests.support import real_servers
from tests.support.kafka_topics import admin

EVERYBODY, ANY_HOST = "User:ANONYMOUS", "*"
TOPIC, LITERAL = 2, 3  # Kafka's numbers of a resource type and of a pattern type
ALL, WRITE, DESCRIBE = 2, 4, 8  # of operations
DENY, ALLOW = 2, 3  # of permissions


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A broker that checks who may do what. Everything is allowed on what no rule is about."""
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    servers = real_servers.Servers()
    try:
        kafka = servers.start(partial(cluster.running, more=rules))
        if not kafka.brokers:
            pytest.skip("NOT TESTED: the broker is not ours to guard")
        yield kafka.bootstrap
    finally:
        servers.end()


async def allow(three: Topics, topic: str) -> None:
    await ask(three, CreateAclsRequest(*rule(three, topic, ALL, ALLOW)))


async def deny(three: Topics, topic: str, operation: int) -> None:
    """Deny an operation, and return when the broker that is written to checks it: it learns rules a moment later."""
    denied = rule(three, topic, operation, DENY)
    await ask(three, CreateAclsRequest(*denied))
    async with admin(three.connection) as asked:
        broker = asked._client.get_random_node()
        async with asyncio.timeout(30):
            while True:
                if (await asked._send_request(DescribeAclsRequest(*denied), broker)).resources:
                    return
                await asyncio.sleep(0.02)


async def deny_no_more(three: Topics, topic: str, operation: int) -> None:
    await ask(three, DeleteAclsRequest(*rule(three, topic, operation, DENY)))


def rule(three: Topics, topic: str, operation: int, permission: int) -> tuple[int, str, int, str, str, int, int]:
    return TOPIC, three.named(topic), LITERAL, EVERYBODY, ANY_HOST, operation, permission


async def ask(three: Topics, request: Any) -> None:
    async with admin(three.connection) as asked:
        answer = await asked._send_to_controller(request)
    results = getattr(answer, "creation_responses", None) or answer.filter_responses
    assert [result[0] for result in results] == [0], answer


@pytest.mark.parametrize("operation", [WRITE, DESCRIBE])
async def test_denied_topic_keeps_its_events_and_no_others(guarded: str, operation: int) -> None:
    three = Topics(guarded)
    try:
        await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD, topics.NOTED)
        for denied in (topics.NOTED, topics.ORDER_STATE):
            await allow(three, denied)
            await deny(three, denied, operation)
        notices = [event("N1", 1, topic=topics.HELD), event("N1", 1, topic=topics.NOTED)]
        for _ in range(3):
            published = await three.events.publish([*notices, event("N1", 1)])
            assert published.acknowledged == [0]
            assert published.refused == []
        told = three.events.trouble or ""
        assert told.count("TopicAuthorizationFailedError") == 2
        assert three.named(topics.NOTED) in told
        assert three.named(topics.ORDER_STATE) in told
        assert ids(await three.read(topics.ORDER_EVENT)) == []

        await deny_no_more(three, topics.ORDER_STATE, operation)
        await publish(three, event("N1", 1), within_s=30)
        assert three.named(topics.ORDER_STATE) not in (three.events.trouble or "")
        await deny_no_more(three, topics.NOTED, operation)
        await publish(three, notices[1], within_s=30)
        assert three.events.trouble is None
        assert ids(await three.read(topics.ORDER_EVENT)) == ["shop:N1:1"]
    finally:
        await three.events.stop()
