"""The doctor's findings on real servers: healthy, unhealthy in each known way, and unreachable."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis
from typer.testing import CliRunner

from deploy.cli.main import application
from deploy.cluster import doctor, kafka_admin, settings, topic_diff, topics
from deploy.cluster.servers import Servers
from deploy.doctor import Finding, FindingState
from schemas.topics import NOTIFICATION
from workers.postgres.migrations import run

NOWHERE = "127.0.0.1:1"


def environment(**named: str) -> dict[str, str]:
    environ = {f"ALIPAY_NOTIFY_{name.upper()}": value for name, value in named.items()}
    return {"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml", **environ}


async def findings(**named: str) -> dict[str, Finding]:
    """By their names; of topics the last."""
    found = await doctor.examine(Servers(settings=settings.load(environment(**named)), is_local=False))
    return {finding.name: finding for finding in found}


@pytest.fixture
def prefix() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
async def schema(postgres_dsn: str) -> AsyncIterator[str]:
    """The address of an empty schema on the real server."""
    name = f"t{secrets.token_hex(6)}"
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"CREATE SCHEMA {name}")
    yield f"{postgres_dsn}?search_path={name}"
    await connection.execute(f"DROP SCHEMA {name} CASCADE")
    await connection.close()


async def test_missing_topics_are_wrong_with_the_command_that_creates_them(kafka: str, prefix: str) -> None:
    found = await findings(kafka=kafka, topic_prefix=prefix, development="1")
    assert found["Kafka"].state is FindingState.OK
    assert found["topics"].state is FindingState.WRONG
    assert found["topics"].detail.endswith("is missing")
    assert "alipay-notify topics apply" in found["topics"].advice


async def test_topics_are_good_noted_or_too_weak(kafka: str, prefix: str) -> None:
    wanted = topics.wanted(prefix=prefix, development=True)
    async with kafka_admin.connected({"bootstrap_servers": kafka}) as admin:
        await topic_diff.apply(admin, topic_diff.between(wanted, {}))
        named = {"kafka": kafka, "topic_prefix": prefix}
        assert (await findings(**named, development="1"))["topics"].state is FindingState.OK
        assert (await findings(**named))["topics"].state is FindingState.WRONG  # one replica is no promise

        name = next(topic.name for topic in wanted if topic.logical == NOTIFICATION)
        await admin.set_config(name, {"retention.ms": "700000000"})  # eight days
        await admin.until(name, lambda found: found.config["retention.ms"] == "700000000")
        noted = (await findings(**named, development="1"))["topics"]
        assert (noted.state, noted.advice) == (FindingState.NOTE, doctor.PLAN)


async def test_group_without_a_worker_is_wrong(kafka: str, prefix: str) -> None:
    found = await findings(kafka=kafka, topic_prefix=prefix, group=prefix)
    assert (found["group"].state, found["group"].detail[: len(prefix)]) == (FindingState.WRONG, prefix)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=prefix)
    consumer.subscribe(pattern="^nothing$")
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while (await findings(kafka=kafka, topic_prefix=prefix, group=prefix))["group"].state is FindingState.WRONG:
                await asyncio.sleep(0.2)
    finally:
        await consumer.stop()


async def test_schema_is_missing_until_it_is_created(schema: str) -> None:
    found = await findings(postgres=schema)
    assert found["PostgreSQL"].state is FindingState.OK
    assert "fsync, full_page_writes and synchronous_commit are on" in found["PostgreSQL"].detail
    assert found["clock skew"].state is FindingState.OK
    assert (found["schema"].state, found["schema"].advice) == (FindingState.WRONG, "run `alipay-notify db upgrade`")
    await run.upgrade(schema)
    assert (await findings(postgres=schema))["schema"].state is FindingState.OK


async def test_server_that_may_lose_commits_is_wrong(schema: str) -> None:
    found = await findings(postgres=f"{schema}&synchronous_commit=off")
    assert found["PostgreSQL"].state is FindingState.WRONG
    assert "synchronous_commit is off" in found["PostgreSQL"].detail


@pytest.mark.parametrize(("policy", "state"), [("noeviction", FindingState.OK), ("allkeys-lru", FindingState.NOTE)])
async def test_evicting_redis_is_noted(redis_url: str, policy: str, state: FindingState) -> None:
    client = Redis.from_url(redis_url)
    before = str((await client.config_get("maxmemory-policy"))["maxmemory-policy"])
    await client.config_set("maxmemory-policy", policy)
    try:
        found = await findings(redis=redis_url)
    finally:
        await client.config_set("maxmemory-policy", before)
        await client.aclose()
    assert found["Redis"].state is FindingState.OK
    assert (found["Redis eviction"].state, found["Redis eviction"].detail) == (state, policy)


async def test_each_unreachable_server_is_reported_with_its_remedy() -> None:
    found = await findings(kafka=NOWHERE, redis=f"redis://{NOWHERE}/0", postgres=f"postgresql://a@{NOWHERE}/b")
    assert set(found) == {"Kafka", "PostgreSQL", "Redis"}
    assert all(finding.state is FindingState.WRONG and finding.advice for finding in found.values())


async def test_invalid_address_is_reported_and_the_others_are_checked(tmp_path: Path) -> None:
    found = await findings(kafka=NOWHERE, redis="rudis://a", postgres_file=str(tmp_path / "none"))
    assert "does not begin with redis://" in found["Redis"].detail
    assert "cannot be read" in found["PostgreSQL"].detail
    assert "no broker accepts a connection" in found["Kafka"].detail


async def test_missing_redis_setting_is_no_fault() -> None:
    assert (await findings(kafka=NOWHERE))["Redis"].state is FindingState.OK


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which no stack runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA", "POSTGRES", "REDIS"):
        monkeypatch.delenv(f"ALIPAY_NOTIFY_{name}", raising=False)
    return tmp_path


def test_command_checks_the_configured_cluster(elsewhere: Path, redis_url: str) -> None:
    def names(*arguments: str) -> list[str]:
        result = CliRunner().invoke(application(), ["doctor", "--output", "json", *arguments])
        assert result.exit_code == 3  # there are no accounts
        return [finding["name"] for finding in json.loads(result.stdout)["findings"]]

    assert "Redis" not in names()
    assert {"Redis", "Redis eviction"} <= {*names("--redis", redis_url)}


def test_wrong_setting_is_reported_once(elsewhere: Path) -> None:
    environ = environment(kafka=NOWHERE, port="none", topic_prefix="A_b")
    result = CliRunner().invoke(application(), ["doctor", "--output", "json"], env=environ)
    details = [finding["detail"] for finding in json.loads(result.stdout)["findings"]]
    assert result.exit_code == 3
    assert len(details) == len({*details})
    assert any("PORT" in detail for detail in details)
    assert any("TOPIC_PREFIX" in detail for detail in details)
