"""Weak topics: how they are detected, and the watch that does it."""

import asyncio
from collections.abc import Mapping

import pytest
from msgspec import structs

from deploy.cluster import topic_check, topics
from deploy.cluster.topic_check import NotSeen, TooWeak, TopicWatch
from deploy.cluster.topics import Found
from schemas.topics import ALL, NOTIFICATION, ORDER_EVENT, ORDER_STATE

WANTED = topics.wanted()
STRONG = {topic.name: Found(partitions=12, replicas=3, config=topic.config) for topic in WANTED}
DAY_MS = 86_400_000


def but(topic: str, **changes: object) -> dict[str, Found]:
    """All topics as specified, with these changes to one; write settings with underscores for dots."""
    fields = {name: changes.pop(name) for name in ("partitions", "replicas") if name in changes}
    config = {name.replace("_", "."): str(value) for name, value in changes.items()}
    there = STRONG[topic]
    return STRONG | {topic: structs.replace(there, config={**there.config, **config}, **fields)}


def weaknesses(found: Mapping[str, Found], *, development: bool = False) -> list[str]:
    return topic_check.weaknesses(WANTED, found, development=development)


def test_topics_as_specified_have_no_weakness() -> None:
    assert weaknesses(STRONG) == []


@pytest.mark.parametrize("topic", ALL)
@pytest.mark.parametrize("development", [False, True])
def test_missing_topic_is_a_weakness(topic: str, development: bool) -> None:
    found = {name: there for name, there in STRONG.items() if name != topic}
    assert weaknesses(found, development=development) == [f"the topic {topic} is missing"]


@pytest.mark.parametrize("topic", ALL)
@pytest.mark.parametrize("weak", [{"replicas": 2}, {"replicas": 1}, {"min_insync_replicas": 1}])
def test_too_few_replicas_are_allowed_in_development_only(topic: str, weak: dict[str, object]) -> None:
    (fault,) = weaknesses(but(topic, **weak))
    assert fault.startswith(topic)
    assert "must be at least" in fault
    assert weaknesses(but(topic, **weak), development=True) == []


@pytest.mark.parametrize(
    "weak",
    [
        {"unclean_leader_election_enable": "true"},
        {"retention_ms": 7 * DAY_MS - 1},
        {"retention_ms": 60_000},
        {"retention_ms": 0},
        {"retention_ms": ""},
        {"cleanup_policy": "compact"},
        {"cleanup_policy": "compact,delete"},
    ],
)
@pytest.mark.parametrize("development", [False, True])
def test_settings_that_delete_acknowledged_records_are_weaknesses(weak: dict[str, object], development: bool) -> None:
    (fault,) = weaknesses(but(NOTIFICATION, **weak), development=development)
    assert fault.startswith(NOTIFICATION)


@pytest.mark.parametrize("kept", [-1, 7 * DAY_MS, 400 * DAY_MS])
def test_retention_of_a_week_or_more_is_enough(kept: int) -> None:
    assert weaknesses(but(NOTIFICATION, retention_ms=kept)) == []


def test_retention_of_event_topics_is_not_checked() -> None:
    assert weaknesses(but(ORDER_EVENT, retention_ms=60_000)) == []


def test_only_the_state_topic_may_be_compacted() -> None:
    (fault,) = weaknesses(but(ORDER_EVENT, cleanup_policy="compact"))
    assert "is compacted" in fault
    assert weaknesses(but(ORDER_STATE, cleanup_policy="compact,delete")) == []


def test_all_weaknesses_are_reported_at_once() -> None:
    found = but(NOTIFICATION, replicas=1, min_insync_replicas=1, retention_ms=0, unclean_leader_election_enable="true")
    del found[ORDER_EVENT]
    assert len(weaknesses(found)) == 5


class Cluster:
    """Returns these results one after another, and then the last one again and again."""

    def __init__(self, *looks: Mapping[str, Found] | Exception) -> None:
        self._looks = [*looks]
        self.looked = 0
        self.exhausted = asyncio.Event()

    async def look(self) -> Mapping[str, Found]:
        self.looked += 1
        if len(self._looks) == 1:
            self.exhausted.set()
        found = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if isinstance(found, Exception):
            raise found
        return found


def watched(cluster: Cluster, *, development: bool = False) -> TopicWatch:
    return TopicWatch(cluster.look, WANTED, development=development, every_s=0)


async def watch_to_the_end(observer: TopicWatch, cluster: Cluster) -> None:
    """Run the watch until it has evaluated the last result."""
    running = asyncio.create_task(observer.run())
    await cluster.exhausted.wait()
    seen = cluster.looked
    while cluster.looked == seen:  # noqa: ASYNC110 - it looks again at once
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


WEAK = but(NOTIFICATION, replicas=1)


async def test_topics_are_unknown_before_the_first_check() -> None:
    assert watched(Cluster(STRONG)).trouble == "the topics have not been checked yet"


async def test_strong_topics_allow_the_start() -> None:
    observer = watched(Cluster(STRONG))
    await observer.check()
    assert observer.trouble is None


async def test_weak_topics_refuse_the_start_with_all_faults_and_the_remedy() -> None:
    observer = watched(Cluster(but(NOTIFICATION, replicas=1, retention_ms=0)))
    with pytest.raises(TooWeak) as refused:
        await observer.check()
    assert len(refused.value.faults) == 2
    assert all(fault in str(refused.value) for fault in refused.value.faults)
    assert "alipay-notify topics apply" in str(refused.value)


async def test_missing_topic_is_waited_for_and_does_not_refuse_the_start() -> None:
    cluster = Cluster({}, {}, STRONG)
    observer = watched(cluster)
    await observer.check()
    assert observer.trouble is not None
    assert f"the topic {NOTIFICATION} is missing" in observer.trouble
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is None


async def test_weak_topic_refuses_the_start_even_if_another_is_missing() -> None:
    observer = watched(Cluster({NOTIFICATION: WEAK[NOTIFICATION]}))
    with pytest.raises(TooWeak) as refused:
        await observer.check()
    assert len(refused.value.faults) == 1


async def test_replicas_behind_are_shown_and_no_trouble() -> None:
    shown: list[Mapping[str, Found]] = []
    behind = but(NOTIFICATION) | {NOTIFICATION: structs.replace(STRONG[NOTIFICATION], under_replicated=12, behind=(3,))}
    observer = TopicWatch(Cluster(behind).look, WANTED, seen=shown.append)
    await observer.check()
    assert (observer.trouble, shown) == (None, [behind])


async def test_weak_topics_are_checked_again_sooner_than_strong_ones() -> None:
    cluster = Cluster(WEAK, STRONG)
    observer = TopicWatch(cluster.look, WANTED, every_s=3600, every_in_trouble_s=0)
    running = asyncio.create_task(observer.run())
    await cluster.exhausted.wait()
    while observer.trouble is not None:  # noqa: ASYNC110 - the last result is evaluated at once
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert observer.trouble is None
    assert cluster.looked == 2


async def test_development_starts_on_one_replica() -> None:
    observer = watched(Cluster(but(NOTIFICATION, replicas=1, min_insync_replicas=1)), development=True)
    await observer.check()
    assert observer.trouble is None


async def test_unreachable_cluster_starts_but_is_not_ready() -> None:
    cluster = Cluster(NotSeen("no broker"), NotSeen("no broker"), STRONG)
    observer = watched(cluster)
    await observer.check()
    assert observer.trouble == "the topics could not be checked yet: no broker"
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is None


async def test_topic_that_becomes_weak_is_trouble() -> None:
    cluster = Cluster(STRONG, WEAK)
    observer = watched(cluster)
    await observer.check()
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is not None
    assert "replication factor of 1" in observer.trouble


async def test_corrected_topic_is_no_longer_trouble() -> None:
    cluster = Cluster(NotSeen("no"), WEAK, STRONG)
    observer = watched(cluster)
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is None


async def test_failed_check_keeps_the_last_result() -> None:
    for last, verdict in ((STRONG, True), (WEAK, False)):
        cluster = Cluster(last, NotSeen("gone"))
        observer = watched(cluster)
        await watch_to_the_end(observer, cluster)
        assert (observer.trouble is None) == verdict


async def test_weakness_found_after_an_outage_at_the_start_is_trouble() -> None:
    cluster = Cluster(NotSeen("no"), WEAK)
    observer = watched(cluster)
    await observer.check()
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is not None
    assert observer.trouble.startswith(NOTIFICATION)
