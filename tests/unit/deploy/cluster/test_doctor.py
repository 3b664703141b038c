"""Findings about a cluster, without servers: topics, schema, eviction, and settings that cannot be used."""

import pytest
from msgspec import structs

from deploy.cluster import doctor, settings, topics
from deploy.cluster.servers import Servers
from deploy.cluster.topics import Found
from deploy.doctor import Finding, FindingState
from workers.postgres import migrations

WANTED = topics.wanted()
STRONG = {topic.name: Found(partitions=topic.partitions, replicas=3, config=topic.config) for topic in WANTED}
NEEDED = migrations.steps()[-1].number


async def findings(**configured: str) -> dict[str, Finding]:
    servers = Servers(settings=settings.load({}, accounts="accounts.toml", **configured), is_local=False)
    return {finding.name: finding for finding in await doctor.examine(servers)}


def test_topics_as_specified_are_ok() -> None:
    (finding,) = doctor._topics(WANTED, STRONG, development=False)
    assert finding.state is FindingState.OK


def test_weak_topics_are_wrong_and_differing_ones_are_a_note() -> None:
    name = WANTED[0].name
    weak = STRONG | {name: structs.replace(STRONG[name], replicas=1)}
    (finding,) = doctor._topics(WANTED, weak, development=False)
    assert (finding.state, "topics apply" in finding.advice) == (FindingState.WRONG, True)
    fewer = STRONG | {name: structs.replace(STRONG[name], partitions=1)}
    (finding,) = doctor._topics(WANTED, fewer, development=False)
    assert (finding.state, finding.advice) == (FindingState.NOTE, doctor.PLAN)


def test_brokers_without_copies_in_sync_are_wrong_and_named() -> None:
    assert doctor._copies(STRONG) == []
    first, second, *_ = STRONG
    behind = {name: structs.replace(STRONG[name], under_replicated=5, behind=(2,)) for name in (first, second)}
    (finding,) = doctor._copies(STRONG | behind)
    partitions = sum(topic.partitions for topic in WANTED)
    assert finding.state is FindingState.WRONG
    assert finding.detail == f"broker 2: no copy in sync of 10 of our {partitions} partitions"
    more = STRONG | {first: structs.replace(STRONG[first], under_replicated=1, behind=(1, 3))}
    assert doctor._copies(more)[0].detail.startswith("brokers 1, 3: ")


@pytest.mark.parametrize(
    ("step", "state", "detail"),
    [
        (0, FindingState.WRONG, "the database is empty"),
        (NEEDED, FindingState.OK, f"at step {NEEDED}"),
        (NEEDED + 1, FindingState.OK, "works with later ones"),
    ],
)
def test_schema_must_be_at_the_needed_step_or_later(step: int, state: FindingState, detail: str) -> None:
    finding = doctor._schema(step)
    assert (finding.state, detail in finding.detail) == (state, True)
    assert ("db upgrade" in finding.advice) == (state is FindingState.WRONG)


@pytest.mark.parametrize(
    ("ahead_s", "state"),
    [(0.0, FindingState.OK), (-1.9, FindingState.OK), (2.1, FindingState.WRONG), (-90, FindingState.WRONG)],
)
def test_clock_that_differs_from_postgresql_is_wrong(ahead_s: float, state: FindingState) -> None:
    finding = doctor._skew(ahead_s)
    assert (finding.state, f"{ahead_s:+.1f} s" in finding.detail) == (state, True)


@pytest.mark.parametrize(
    ("info", "state"),
    [
        (b"# Memory\r\nmaxmemory_policy:noeviction\r\n", FindingState.OK),
        ("maxmemory_policy:allkeys-lru", FindingState.NOTE),
        ("", FindingState.NOTE),
    ],
)
def test_eviction_other_than_noeviction_is_a_note(info: bytes | str, state: FindingState) -> None:
    assert doctor._eviction(info).state is state


async def test_missing_redis_is_ok_and_other_servers_are_skipped_if_not_configured() -> None:
    found = await findings()
    assert {name: finding.state for name, finding in found.items()} == {"Redis": FindingState.OK}


async def test_unusable_addresses_are_wrong_with_advice() -> None:
    found = await findings(kafka="PLAINTEXT://k1:9092", postgres="mysql://db", redis="rudis://a")
    assert {finding.state for finding in found.values()} == {FindingState.WRONG}
    assert "is not host:port" in found["Kafka"].detail
    assert "does not begin with postgresql://" in found["PostgreSQL"].detail
    assert "does not begin with redis://" in found["Redis"].detail
    assert all("config show" in finding.advice for finding in found.values())
