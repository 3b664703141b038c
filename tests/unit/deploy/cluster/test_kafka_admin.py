"""Requests to brokers: reads ask one after another and create nothing, changes are sent once."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, TopicAuthorizationFailedError

from deploy.cluster import topics
from deploy.cluster.kafka_admin import BrokerRefused, KafkaAdmin
from deploy.cluster.topic_check import NotSeen
from deploy.cluster.topics import Found
from schemas.topics import NOTIFICATION

(TOPIC,) = topics.wanted(only=[NOTIFICATION])
NAME = TOPIC.name
VERSIONS = {3: (0, 13), 19: (2, 7), 32: (1, 4), 37: (0, 3), 44: (0, 1)}  # Kafka 4.3
METADATA, CREATE, DESCRIBE, PARTITIONS, CONFIG = 3, 19, 32, 37, 44
NO_SUCH_TOPIC, NOT_ALLOWED = 3, 29


class Client:
    """Three brokers, some of them down, with one answer for each kind of request."""

    def __init__(self, answers: dict[int, Any], *, down: tuple[int, ...] = ()) -> None:
        brokers = [SimpleNamespace(nodeId=node) for node in (1, 2, 3)]
        self.cluster = SimpleNamespace(brokers=lambda: brokers, controller=brokers[1])
        self.sent: list[tuple[int, Any]] = []
        self._answers = answers
        self._down = down

    async def ready(self, node: int) -> bool:
        return node not in self._down

    async def send(self, node: int, request: Any) -> Any:
        if node in self._down:
            raise NodeNotReadyError
        prepared = request.prepare(VERSIONS)
        prepared.encode()  # it can be sent
        self.sent.append((node, prepared))
        answer = self._answers[request.API_KEY]
        if isinstance(answer, Exception):
            raise answer
        return answer


def described(code: int = 0, **config: str) -> Any:
    entries: list[Any] = [(name, value, False, 5, False, []) for name, value in config.items()]
    return SimpleNamespace(resources=[(code, "", 2, NAME, entries)])


def listed(code: int = 0, *replicas: list[int]) -> Any:
    partitions: list[Any] = [(0, number, 1, nodes, nodes, []) for number, nodes in enumerate(replicas)]
    return SimpleNamespace(topics=[(code, NAME, False, partitions)])


def admin(client: Client) -> KafkaAdmin:
    return KafkaAdmin(client, within_s=1)


async def test_replicas_of_a_topic_are_the_minimum_of_its_partitions() -> None:
    client = Client({DESCRIBE: described(a="1"), METADATA: listed(0, [1, 2, 3], [1, 2])})
    assert await admin(client).found([NAME]) == {NAME: Found(partitions=2, replicas=2, config={"a": "1"})}


async def test_brokers_whose_copies_are_not_in_sync_are_named() -> None:
    partitions: list[Any] = [
        (0, 0, 1, [1, 2, 3], [1, 2], []),
        (0, 1, 2, [1, 2, 3], [2, 1, 3], []),
        (0, 2, 1, [4, 1], [1]),
    ]
    metadata = SimpleNamespace(topics=[(0, NAME, False, partitions)])
    found = await admin(Client({DESCRIBE: described(), METADATA: metadata})).found([NAME])
    assert (found[NAME].under_replicated, found[NAME].behind) == (2, (3, 4))


async def test_reading_never_creates_a_topic() -> None:
    client = Client({DESCRIBE: described(NO_SUCH_TOPIC), METADATA: listed(NO_SUCH_TOPIC)})
    assert await admin(client).found([NAME]) == {}
    (asked,) = [request for _, request in client.sent if request.API_KEY == METADATA]
    assert asked.allow_auto_topic_creation is False


@pytest.mark.parametrize("down", [(1,), (2, 3), (1, 3)])
async def test_brokers_that_are_down_are_skipped(down: tuple[int, ...]) -> None:
    client = Client({DESCRIBE: described(), METADATA: listed(0, [1])}, down=down)
    assert await admin(client).found([NAME]) != {}
    assert not {node for node, _ in client.sent} & {*down}


async def test_topics_are_not_seen_if_all_brokers_are_down() -> None:
    with pytest.raises(NotSeen, match="NodeNotReady"):
        await admin(Client({}, down=(1, 2, 3))).found([NAME])


@pytest.mark.parametrize("answers", [{DESCRIBE: described(NOT_ALLOWED)}, {METADATA: listed(NOT_ALLOWED)}])
async def test_unauthorized_topic_is_not_reported_as_missing(answers: dict[int, Any]) -> None:
    client = Client({DESCRIBE: described(), METADATA: listed(0, [1])} | answers)
    with pytest.raises(NotSeen, match="Authorization"):
        await admin(client).found([NAME])


async def test_change_is_sent_to_the_controller_if_it_is_up() -> None:
    answers = {CONFIG: SimpleNamespace(resources=[(0, None, 2, NAME)])}
    for down, node in (((), 2), ((2,), 1)):
        client = Client(answers, down=down)
        await admin(client).set_config(NAME, {"retention.ms": "1"})
        assert [at for at, _ in client.sent] == [node]


@pytest.mark.parametrize("code", [0, 36])
async def test_topic_that_exists_already_counts_as_created(code: int) -> None:
    client = Client({CREATE: SimpleNamespace(topic_errors=[(NAME, code, "Topic exists.")])})
    await admin(client).create(TOPIC)


async def test_refused_change_raises_the_reason_of_the_broker() -> None:
    refusal = SimpleNamespace(topic_errors=[(NAME, 38, "too few brokers")], resources=[(40, None, 2, NAME)])
    client = Client({CREATE: refusal, PARTITIONS: refusal, CONFIG: refusal})
    with pytest.raises(BrokerRefused, match="too few brokers"):
        await admin(client).create(TOPIC)
    with pytest.raises(BrokerRefused, match="too few brokers"):
        await admin(client).add_partitions(NAME, up_to=3)
    with pytest.raises(BrokerRefused, match="InvalidConfiguration"):
        await admin(client).set_config(NAME, {"retention.ms": "x"})


@pytest.mark.parametrize("lost", [TimeoutError(), KafkaConnectionError("gone"), TopicAuthorizationFailedError()])
async def test_change_with_a_lost_answer_is_not_sent_again(lost: Exception) -> None:
    client = Client({PARTITIONS: lost})
    with pytest.raises(BrokerRefused, match="no answer to the change"):
        await admin(client).add_partitions(NAME, up_to=3)
    assert len(client.sent) == 1
