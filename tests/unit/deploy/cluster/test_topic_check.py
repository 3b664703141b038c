"""What makes a topic too weak for a promise, and the watch over it."""

import asyncio
from collections.abc import Mapping

import pytest
from msgspec import structs

from deploy.cluster import topic_check, topics
from deploy.cluster.topic_check import NotSeen, TooWeak, Watched
from deploy.cluster.topics import Found
from schemas.topics import ALL, NOTIFICATION, ORDER_EVENT, ORDER_STATE

WANTED = topics.wanted()
STRONG = {topic.name: Found(partitions=12, replicas=3, config=topic.config) for topic in WANTED}
DAY_MS = 86_400_000


def but(topic: str, **changes: object) -> dict[str, Found]:
    """All as it should be but one topic: fields of it by their name, settings with underscores for dots."""
    fields = {name: changes.pop(name) for name in ("partitions", "replicas") if name in changes}
    config = {name.replace("_", "."): str(value) for name, value in changes.items()}
    there = STRONG[topic]
    return STRONG | {topic: structs.replace(there, config={**there.config, **config}, **fields)}


def weaknesses(found: Mapping[str, Found], *, development: bool = False) -> list[str]:
    return topic_check.weaknesses(WANTED, found, development=development)


def test_topics_as_the_file_describes_them_are_strong_enough() -> None:
    assert weaknesses(STRONG) == []


@pytest.mark.parametrize("topic", ALL)
@pytest.mark.parametrize("development", [False, True])
def test_a_missing_topic_is_named(topic: str, development: bool) -> None:
    found = {name: there for name, there in STRONG.items() if name != topic}
    assert weaknesses(found, development=development) == [f"the topic {topic} is missing"]


@pytest.mark.parametrize("topic", ALL)
@pytest.mark.parametrize("weak", [{"replicas": 2}, {"replicas": 1}, {"min_insync_replicas": 1}])
def test_too_few_copies_are_forgiven_in_development_only(topic: str, weak: dict[str, object]) -> None:
    (fault,) = weaknesses(but(topic, **weak))
    assert fault.startswith(topic)
    assert fault.endswith("is the least")
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
def test_what_deletes_what_was_acknowledged_is_never_forgiven(weak: dict[str, object], development: bool) -> None:
    (fault,) = weaknesses(but(NOTIFICATION, **weak), development=development)
    assert fault.startswith(NOTIFICATION)


@pytest.mark.parametrize("kept", [-1, 7 * DAY_MS, 400 * DAY_MS])
def test_a_retention_of_a_week_or_more_or_for_ever_is_long_enough(kept: int) -> None:
    assert weaknesses(but(NOTIFICATION, retention_ms=kept)) == []


def test_the_retention_of_other_topics_is_their_consumers_affair() -> None:
    assert weaknesses(but(ORDER_EVENT, retention_ms=60_000)) == []


def test_only_the_topic_that_is_meant_to_be_compacted_may_be() -> None:
    (fault,) = weaknesses(but(ORDER_EVENT, cleanup_policy="compact"))
    assert "is compacted" in fault
    assert weaknesses(but(ORDER_STATE, cleanup_policy="compact,delete")) == []


def test_all_weaknesses_are_named_at_once() -> None:
    found = but(NOTIFICATION, replicas=1, min_insync_replicas=1, retention_ms=0, unclean_leader_election_enable="true")
    del found[ORDER_EVENT]
    assert len(weaknesses(found)) == 5


class Cluster:
    """What the next looks find; the last for ever."""

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


def watched(cluster: Cluster, *, development: bool = False) -> Watched:
    return Watched(cluster.look, WANTED, development=development, every_s=0)


async def watch_to_the_end(observer: Watched, cluster: Cluster) -> None:
    """Until the last of its looks has been evaluated."""
    running = asyncio.create_task(observer.run())
    await cluster.exhausted.wait()
    seen = cluster.looked
    while cluster.looked == seen:  # noqa: ASYNC110 - it looks again at once
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


WEAK = but(NOTIFICATION, replicas=1)


async def test_before_the_first_look_nothing_is_known() -> None:
    assert watched(Cluster(STRONG)).trouble == "the topics have not been looked at yet"


async def test_strong_topics_let_a_process_start() -> None:
    observer = watched(Cluster(STRONG))
    await observer.check()
    assert observer.trouble is None


async def test_weak_topics_refuse_the_start_with_every_fault_and_what_to_do() -> None:
    observer = watched(Cluster(but(NOTIFICATION, replicas=1, retention_ms=0)))
    with pytest.raises(TooWeak) as refused:
        await observer.check()
    assert len(refused.value.faults) == 2
    assert all(fault in str(refused.value) for fault in refused.value.faults)
    assert "alipay-notify topics apply" in str(refused.value)


async def test_a_missing_topic_is_waited_for_and_refuses_nothing() -> None:
    cluster = Cluster({}, {}, STRONG)
    observer = watched(cluster)
    await observer.check()
    assert observer.trouble is not None
    assert f"the topic {NOTIFICATION} is missing" in observer.trouble
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is None


async def test_a_weak_topic_refuses_the_start_also_where_another_is_missing() -> None:
    observer = watched(Cluster({NOTIFICATION: WEAK[NOTIFICATION]}))
    with pytest.raises(TooWeak) as refused:
        await observer.check()
    assert len(refused.value.faults) == 1


async def test_what_is_not_well_is_looked_at_again_soon_and_what_is_well_is_not() -> None:
    cluster = Cluster(WEAK, STRONG)
    observer = Watched(cluster.look, WANTED, every_s=3600, every_in_trouble_s=0)
    running = asyncio.create_task(observer.run())
    await cluster.exhausted.wait()
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert observer.trouble is None
    assert cluster.looked == 2


async def test_development_starts_on_one_copy() -> None:
    observer = watched(Cluster(but(NOTIFICATION, replicas=1, min_insync_replicas=1)), development=True)
    await observer.check()
    assert observer.trouble is None


async def test_a_cluster_that_is_away_does_not_refuse_the_start_but_is_not_ready() -> None:
    cluster = Cluster(NotSeen("nobody there"), NotSeen("nobody there"), STRONG)
    observer = watched(cluster)
    await observer.check()
    assert observer.trouble == "the topics could not be looked at yet: nobody there"
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is None


async def test_a_topic_that_becomes_weak_is_trouble_until_it_is_corrected() -> None:
    cluster = Cluster(STRONG, WEAK)
    observer = watched(cluster)
    await observer.check()
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is not None
    assert "replication factor of 1" in observer.trouble


async def test_what_was_corrected_is_trouble_no_more() -> None:
    cluster = Cluster(NotSeen("no"), WEAK, STRONG)
    observer = watched(cluster)
    await watch_to_the_end(observer, cluster)
    assert observer.trouble is None


async def test_a_look_that_fails_says_nothing_new() -> None:
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
