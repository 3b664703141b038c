"""What becomes of each difference when they are applied.

What is proposed makes a topic as it should be, and never weaker, smaller or emptier than it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec import structs

from deploy.cluster import topic_diff, topics
from deploy.cluster.kafka_admin import BrokerRefused
from deploy.cluster.topic_check import NotSeen
from deploy.cluster.topic_diff import AddPartitions, ApplyOutcome, ByHand, Create, Difference, SetConfig
from deploy.cluster.topics import Found, TopicSpec
from schemas.topics import NOTIFICATION, ORDER_EVENT, ORDER_STATE

APPLIED_TOPIC, OTHER = topics.wanted(only=[NOTIFICATION, ORDER_EVENT])
RETENTION = SetConfig(name=APPLIED_TOPIC.name, setting="retention.ms", now="1", wanted="2")
CLEANUP = SetConfig(name=APPLIED_TOPIC.name, setting="cleanup.policy", now="compact", wanted="delete")
ELSEWHERE = structs.replace(RETENTION, name=OTHER.name)
REPLICAS = ByHand(name=APPLIED_TOPIC.name, setting="replicas", now="1", wanted="3", how="move them")


class Admin:
    """Writes down what it is asked for, and refuses what it was told to."""

    def __init__(self, *refused: str, invisible: bool = False) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._refused = refused
        self._is_invisible = invisible

    async def create(self, topic: TopicSpec) -> None:
        self._take("create", topic.name)

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None:
        if self._is_invisible:
            raise NotSeen("no answer in time")
        assert not holds(Found(partitions=0, replicas=1, config={}))
        assert holds(Found(partitions=12, replicas=1, config={"retention.ms": "2", "cleanup.policy": "delete"}))
        self._take("seen", name)

    async def add_partitions(self, name: str, *, up_to: int) -> None:
        self._take("partitions", name, up_to)

    async def set_config(self, name: str, config: Mapping[str, str]) -> None:
        self._take("config", name, dict(config))

    def _take(self, what: str, name: str, *more: object) -> None:
        if name in self._refused:
            raise BrokerRefused(f"{name}: not allowed")
        self.asked.append((what, name, *more))


async def outcomes(admin: Admin, *differences: Difference) -> list[tuple[ApplyOutcome, str]]:
    return [(told.outcome, told.detail) for told in await topic_diff.apply(admin, differences)]


async def test_a_change_is_made_when_the_brokers_show_it() -> None:
    admin = Admin()
    assert await outcomes(admin, Create(APPLIED_TOPIC)) == [(ApplyOutcome.DONE, "")]
    assert admin.asked == [("create", APPLIED_TOPIC.name), ("seen", APPLIED_TOPIC.name)]
    for change in (Create(APPLIED_TOPIC), RETENTION, AddPartitions(name=APPLIED_TOPIC.name, now=1, wanted=12)):
        assert await outcomes(Admin(invisible=True), change) == [(ApplyOutcome.FAILED, "no answer in time")]


async def test_the_settings_of_one_topic_are_set_together() -> None:
    admin = Admin()
    assert await outcomes(admin, RETENTION, ELSEWHERE, CLEANUP) == [(ApplyOutcome.DONE, "")] * 3
    assert admin.asked == [
        ("config", APPLIED_TOPIC.name, {"retention.ms": "2", "cleanup.policy": "delete"}),
        ("seen", APPLIED_TOPIC.name),
        ("config", OTHER.name, {"retention.ms": "2"}),
        ("seen", OTHER.name),
    ]


async def test_what_is_refused_keeps_nothing_else_from_being_done() -> None:
    admin = Admin(APPLIED_TOPIC.name)
    more = AddPartitions(name=OTHER.name, now=1, wanted=12)
    refused = (ApplyOutcome.FAILED, f"{APPLIED_TOPIC.name}: not allowed")
    assert await outcomes(admin, Create(APPLIED_TOPIC), RETENTION, CLEANUP, more, ELSEWHERE) == [
        refused,
        refused,
        refused,
        (ApplyOutcome.DONE, ""),
        (ApplyOutcome.DONE, ""),
    ]
    assert {name for _, name, *_ in admin.asked} == {OTHER.name}


async def test_what_is_for_a_person_is_left_to_one() -> None:
    admin = Admin()
    assert await outcomes(admin, REPLICAS) == [(ApplyOutcome.BY_HAND, "move them")]
    assert admin.asked == []


def test_a_plan_says_what_would_be_done() -> None:
    told = topic_diff.planned([Create(APPLIED_TOPIC), REPLICAS])
    assert [each.outcome for each in told] == [ApplyOutcome.WOULD_CHANGE, ApplyOutcome.BY_HAND]


(TOPIC,) = topics.wanted(only=[NOTIFICATION])
(STATE,) = topics.wanted(only=[ORDER_STATE])
AS_WANTED = Found(partitions=12, replicas=3, config={**TOPIC.config, "segment.ms": "604800000"})


def between(found: Found | None, wanted: TopicSpec = TOPIC) -> list[topic_diff.Difference]:
    return topic_diff.between([wanted], {} if found is None else {wanted.name: found})


def with_config(**config: str) -> Found:
    changes = {name.replace("_", "."): value for name, value in config.items()}
    return structs.replace(AS_WANTED, config={**AS_WANTED.config, **changes})


def test_a_topic_as_it_should_be_has_no_difference() -> None:
    assert between(AS_WANTED) == []


def test_a_topic_that_is_not_there_is_created() -> None:
    assert between(None) == [Create(TOPIC)]


def test_missing_partitions_are_added() -> None:
    found = structs.replace(AS_WANTED, partitions=6)
    assert between(found) == [AddPartitions(name=TOPIC.name, now=6, wanted=12)]


@pytest.mark.parametrize(
    "found",
    [
        structs.replace(AS_WANTED, partitions=24),
        structs.replace(AS_WANTED, replicas=5),
        with_config(retention_ms="31536000000"),
        with_config(retention_ms="-1"),
        with_config(min_insync_replicas="3"),
        with_config(max_message_bytes="5000000"),
    ],
)
def test_more_than_was_asked_for_stays(found: Found) -> None:
    assert between(found) == []


@pytest.mark.parametrize(
    ("setting", "now"),
    [
        ("retention.ms", "604800000"),
        ("retention.ms", "0"),
        ("retention.ms", ""),
        ("retention.bytes", "1073741824"),
        ("min.insync.replicas", "1"),
        ("min.insync.replicas", "4"),  # more than there are replicas
        ("max.message.bytes", "1000"),
        ("unclean.leader.election.enable", "true"),
        ("message.timestamp.type", "LogAppendTime"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
    ],
)
def test_a_setting_that_is_not_as_it_should_be_is_set(setting: str, now: str) -> None:
    found = structs.replace(AS_WANTED, config={**AS_WANTED.config, setting: now})
    assert between(found) == [SetConfig(name=TOPIC.name, setting=setting, now=now, wanted=TOPIC.config[setting])]


def test_what_is_not_asked_for_may_be_as_it_likes() -> None:
    found = structs.replace(AS_WANTED, config={**STATE.config, "retention.ms": "1", "segment.bytes": "1"})
    assert between(found, STATE) == []


def test_the_policies_of_a_clean_up_have_no_order() -> None:
    both = structs.replace(STATE, config={**STATE.config, "cleanup.policy": "compact,delete"})
    found = Found(partitions=12, replicas=3, config={**STATE.config, "cleanup.policy": "delete, compact"})
    assert between(found, both) == []


def test_replicas_are_for_a_person_and_no_setting_asks_for_more_copies_than_there_are() -> None:
    found = structs.replace(with_config(min_insync_replicas="1"), replicas=1)
    replicas, in_sync = between(found)
    assert isinstance(replicas, ByHand)
    assert (replicas.setting, replicas.now, replicas.wanted) == ("replicas", "1", "3")
    assert "kafka-reassign-partitions.sh" in replicas.how
    assert isinstance(in_sync, ByHand)
    assert (in_sync.setting, in_sync.now, in_sync.wanted) == ("min.insync.replicas", "1", "2")


def test_with_replicas_enough_the_in_sync_ones_are_set_though_there_should_be_more() -> None:
    found = structs.replace(with_config(min_insync_replicas="1"), replicas=2)
    assert [type(difference) for difference in between(found)] == [ByHand, SetConfig]
