"""Topics on a real broker: made, found, corrected, judged, and the command that does it."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.main import application
from deploy.cluster import kafka_admin, topic_check, topic_diff, topics
from deploy.cluster.kafka_admin import BrokerRefused, KafkaAdmin
from deploy.cluster.topic_check import NotSeen, TooWeak, TopicWatch
from deploy.cluster.topics import TopicSpec
from schemas.topics import NOTIFICATION

DAY_MS = 86_400_000


@pytest.fixture
def prefix() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def wanted(prefix: str) -> tuple[TopicSpec, ...]:
    return topics.wanted(prefix=prefix, development=True)


@pytest.fixture
def topic(wanted: tuple[TopicSpec, ...]) -> TopicSpec:
    return wanted[0]


@pytest.fixture
async def admin(kafka: str) -> AsyncIterator[KafkaAdmin]:
    async with kafka_admin.connected({"bootstrap_servers": kafka}) as connected:
        yield connected


async def made(admin: KafkaAdmin, topic: TopicSpec) -> None:
    await admin.create(topic)
    await admin.until(topic.name, lambda found: found.partitions == topic.partitions)


async def test_topic_is_read_with_its_effective_settings(admin: KafkaAdmin, topic: TopicSpec) -> None:
    await made(admin, topic)
    found = (await admin.found([topic.name]))[topic.name]
    assert (found.partitions, found.replicas) == (12, 1)
    assert topic.config.items() <= found.config.items()
    assert found.config["segment.bytes"] == "1073741824"  # not set anywhere: a broker's default


async def test_looking_for_a_missing_topic_does_not_create_it(admin: KafkaAdmin, topic: TopicSpec) -> None:
    for _ in range(2):
        assert await admin.found([topic.name]) == {}


async def test_creating_an_existing_topic_is_no_error(admin: KafkaAdmin, wanted: tuple[TopicSpec, ...]) -> None:
    names = [topic.name for topic in wanted]
    outcomes = await topic_diff.apply(admin, topic_diff.between(wanted, {}))
    assert [each.outcome.value for each in outcomes] == ["done"] * len(wanted)
    found = await admin.found(names)
    assert topic_diff.between(wanted, found) == []
    assert topic_check.weaknesses(wanted, found, development=True) == []
    assert len(topic_check.weaknesses(wanted, found)) == 2 * len(wanted)  # one replica, one in sync, for each of them
    await admin.create(wanted[0])


async def test_one_changed_setting_leaves_the_others(admin: KafkaAdmin, topic: TopicSpec) -> None:
    await made(admin, topic)
    await admin.set_config(topic.name, {"segment.bytes": "1048576"})
    await admin.set_config(topic.name, {"retention.ms": "60000", "cleanup.policy": "compact"})
    await admin.until(topic.name, lambda found: found.config["retention.ms"] == "60000")
    found = (await admin.found([topic.name]))[topic.name]
    assert found.config["segment.bytes"] == "1048576"


async def test_topic_is_corrected_and_keeps_stronger_settings(admin: KafkaAdmin, topic: TopicSpec) -> None:
    poor = TopicSpec(
        logical=topic.logical,
        name=topic.name,
        partitions=3,
        replicas=1,
        config={"retention.ms": "60000", "cleanup.policy": "compact", "max.message.bytes": "2000000"},
    )
    await made(admin, poor)
    faults = topic_check.weaknesses([topic], await admin.found([topic.name]), development=True)
    assert len(faults) == 1, faults  # a compacted topic has no retention to speak of
    outcomes = await topic_diff.apply(admin, topic_diff.between([topic], await admin.found([topic.name])))
    assert {each.outcome.value for each in outcomes} == {"done"}
    found = await admin.found([topic.name])
    assert topic_diff.between([topic], found) == []
    assert found[topic.name].partitions == 12
    assert found[topic.name].config["max.message.bytes"] == "2000000"


async def test_brokers_refusal_is_reported_in_their_words(admin: KafkaAdmin, topic: TopicSpec) -> None:
    await made(admin, topic)
    strict = topics.wanted(prefix=f"{topic.name.partition('.')[0]}x", only=[NOTIFICATION])[0]
    with pytest.raises(BrokerRefused, match="replication factor of 3"):
        await admin.create(strict)
    with pytest.raises(BrokerRefused, match="would not be an increase"):
        await admin.add_partitions(topic.name, up_to=3)
    with pytest.raises(BrokerRefused, match=r"no\.such\.setting"):
        await admin.set_config(topic.name, {"no.such.setting": "1"})


async def test_unreachable_brokers_are_reported_within_the_deadline(topic: TopicSpec) -> None:
    with pytest.raises(NotSeen, match="no broker accepts a connection"):
        await kafka_admin.look({"bootstrap_servers": "127.0.0.1:1"}, [topic.name])


async def test_silent_broker_is_given_up(topic: TopicSpec) -> None:
    hanging: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: hanging.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    with pytest.raises(NotSeen):
        await kafka_admin.look({"bootstrap_servers": f"127.0.0.1:{port}"}, [topic.name], within_s=1.5)
    assert time.monotonic() - began < 2.5
    for writer in hanging:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_topic_check_refuses_weak_topics_until_they_are_corrected(
    kafka: str, admin: KafkaAdmin, topic: TopicSpec
) -> None:
    async def look() -> dict[str, topics.Found]:
        return await kafka_admin.look({"bootstrap_servers": kafka}, [topic.name])

    observer = TopicWatch(look, [topic], development=True, every_s=0.05)
    await observer.check()
    assert "is missing" in (observer.trouble or "")
    await made(admin, topic)
    await observer.check()
    assert not observer.trouble
    running = asyncio.create_task(observer.run())
    await admin.set_config(topic.name, {"retention.ms": str(DAY_MS)})
    await until(lambda: observer.trouble is not None and "keeps its records for 1 days" in observer.trouble)
    with pytest.raises(TooWeak, match="keeps its records for 1 days"):
        await observer.check()
    await admin.set_config(topic.name, {"retention.ms": str(7 * DAY_MS)})
    await until(lambda: observer.trouble is None)
    running.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(application(), ["topics", *arguments], env={"COLUMNS": "200"})


def output(result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_plan_and_apply_create_every_topic(kafka: str, prefix: str) -> None:
    where = ("--kafka", kafka, "--topic-prefix", prefix, "--development")
    planned = command("plan", *where, "--output", "json")
    assert planned.exit_code == 3
    rows = output(planned)["differences"]
    assert [row["topic"] for row in rows] == [topic.name for topic in topics.wanted(prefix=prefix)]
    assert {row["outcome"] for row in rows} == {"would change"}

    dry = command("apply", *where)
    assert dry.exit_code == 3
    assert "Nothing was changed" in dry.stderr
    assert output(command("plan", *where, "--output", "json"))["differences"] == rows

    assert command("apply", *where, "--yes").exit_code == 0
    settled = command("plan", *where)
    assert (settled.exit_code, settled.stdout.strip()) == (0, "All topics are as they should be.")


def test_apply_names_manual_steps_and_refusals(kafka: str, prefix: str) -> None:
    where = ("--kafka", kafka, "--topic-prefix", prefix, "--output", "json")
    refused = command("apply", *where, "--yes")
    assert refused.exit_code == 1
    assert {row["outcome"] for row in output(refused)["differences"]} == {"failed"}
    assert command("apply", *where, "--development", "--yes").exit_code == 0
    left = command("apply", *where, "--yes")
    assert left.exit_code == 3
    rows = output(left)["differences"]
    assert {(row["what"], row["outcome"]) for row in rows} == {
        ("replicas", "by hand"),
        ("min.insync.replicas", "by hand"),
    }


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--kafka", "127.0.0.1:1"], 1, "no broker accepts a connection"),
        ([], 2, "ALIPAY_NOTIFY_KAFKA is not set"),
        (["--kafka", "127.0.0.1:1", "--topic-prefix", "a_b"], 2, "ALIPAY_NOTIFY_TOPIC_PREFIX"),
    ],
)
def test_command_that_cannot_run_names_the_reason(
    arguments: list[str], code: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALIPAY_NOTIFY_KAFKA", raising=False)
    result = command("plan", *arguments)
    assert result.exit_code == code
    assert text in result.stderr
