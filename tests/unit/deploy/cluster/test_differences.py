"""What is proposed makes a topic as it should be, and never weaker, smaller or emptier than it is."""

import pytest
from msgspec import structs

from deploy.cluster import differences, topics
from deploy.cluster.differences import AddPartitions, ByHand, Create, SetConfig
from deploy.cluster.topics import Found, Wanted
from schemas.topics import NOTIFICATION, ORDER_STATE

(TOPIC,) = topics.wanted(only=[NOTIFICATION])
(STATE,) = topics.wanted(only=[ORDER_STATE])
AS_WANTED = Found(partitions=12, replicas=3, config={**TOPIC.config, "segment.ms": "604800000"})


def between(found: Found | None, wanted: Wanted = TOPIC) -> list[differences.Difference]:
    return differences.between([wanted], {} if found is None else {wanted.name: found})


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
