"""Differences of topics, which never weaken or shrink a topic, and how they are applied."""

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
    """Records the changes, and refuses those of the named topics."""

    def __init__(self, *refused: str, invisible: bool = False) -> None:
        self.changes: list[tuple[Any, ...]] = []
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
        self.changes.append((what, name, *more))


async def outcomes(admin: Admin, *differences: Difference) -> list[tuple[ApplyOutcome, str]]:
    return [(report.outcome, report.detail) for report in await topic_diff.apply(admin, differences)]


async def test_change_is_done_when_the_brokers_show_it() -> None:
    admin = Admin()
    assert await outcomes(admin, Create(APPLIED_TOPIC)) == [(ApplyOutcome.DONE, "")]
    assert admin.changes == [("create", APPLIED_TOPIC.name), ("seen", APPLIED_TOPIC.name)]
    for change in (Create(APPLIED_TOPIC), RETENTION, AddPartitions(name=APPLIED_TOPIC.name, now=1, wanted=12)):
        assert await outcomes(Admin(invisible=True), change) == [(ApplyOutcome.FAILED, "no answer in time")]


async def test_settings_of_one_topic_are_set_together() -> None:
    admin = Admin()
    assert await outcomes(admin, RETENTION, ELSEWHERE, CLEANUP) == [(ApplyOutcome.DONE, "")] * 3
    assert admin.changes == [
        ("config", APPLIED_TOPIC.name, {"retention.ms": "2", "cleanup.policy": "delete"}),
        ("seen", APPLIED_TOPIC.name),
        ("config", OTHER.name, {"retention.ms": "2"}),
        ("seen", OTHER.name),
    ]


async def test_refused_change_does_not_prevent_the_others() -> None:
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
    assert {name for _, name, *_ in admin.changes} == {OTHER.name}


async def test_manual_change_is_left_to_the_operator() -> None:
    admin = Admin()
    assert await outcomes(admin, REPLICAS) == [(ApplyOutcome.BY_HAND, "move them")]
    assert admin.changes == []


def test_plan_reports_without_changing() -> None:
    reports = topic_diff.planned([Create(APPLIED_TOPIC), REPLICAS])
    assert [each.outcome for each in reports] == [ApplyOutcome.WOULD_CHANGE, ApplyOutcome.BY_HAND]


(TOPIC,) = topics.wanted(only=[NOTIFICATION])
(STATE,) = topics.wanted(only=[ORDER_STATE])
AS_WANTED = Found(partitions=12, replicas=3, config={**TOPIC.config, "segment.ms": "604800000"})


def between(found: Found | None, wanted: TopicSpec = TOPIC) -> list[topic_diff.Difference]:
    return topic_diff.between([wanted], {} if found is None else {wanted.name: found})


def with_config(**config: str) -> Found:
    changes = {name.replace("_", "."): value for name, value in config.items()}
    return structs.replace(AS_WANTED, config={**AS_WANTED.config, **changes})


def test_topic_as_specified_has_no_difference() -> None:
    assert between(AS_WANTED) == []


def test_missing_topic_is_created() -> None:
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
def test_more_than_specified_is_kept(found: Found) -> None:
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
        ("message.timestamp.type", "CreateTime"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
    ],
)
def test_differing_setting_is_set(setting: str, now: str) -> None:
    found = structs.replace(AS_WANTED, config={**AS_WANTED.config, setting: now})
    assert between(found) == [SetConfig(name=TOPIC.name, setting=setting, now=now, wanted=TOPIC.config[setting])]


def test_settings_outside_the_specification_are_ignored() -> None:
    found = structs.replace(AS_WANTED, config={**STATE.config, "retention.ms": "1", "segment.bytes": "1"})
    assert between(found, STATE) == []


def test_order_of_cleanup_policies_does_not_matter() -> None:
    both = structs.replace(STATE, config={**STATE.config, "cleanup.policy": "compact,delete"})
    found = Found(partitions=12, replicas=3, config={**STATE.config, "cleanup.policy": "delete, compact"})
    assert between(found, both) == []


def test_missing_replicas_and_min_insync_above_them_are_left_to_the_operator() -> None:
    found = structs.replace(with_config(min_insync_replicas="1"), replicas=1)
    replicas, in_sync = between(found)
    assert isinstance(replicas, ByHand)
    assert (replicas.setting, replicas.now, replicas.wanted) == ("replicas", "1", "3")
    assert "kafka-reassign-partitions.sh" in replicas.how
    assert isinstance(in_sync, ByHand)
    assert (in_sync.setting, in_sync.now, in_sync.wanted) == ("min.insync.replicas", "1", "2")


def test_min_insync_is_set_if_there_are_enough_replicas_for_it() -> None:
    found = structs.replace(with_config(min_insync_replicas="1"), replicas=2)
    assert [type(difference) for difference in between(found)] == [ByHand, SetConfig]
