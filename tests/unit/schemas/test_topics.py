"""The topics' names and required configuration, and the same partitions as Kafka's other clients."""

import re

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from deploy.cluster import topic_check
from deploy.cluster import topics as described
from deploy.cluster.topics import Found
from schemas import record_format, topics

NAMES = {
    value for name, value in vars(topics).items() if name.isupper() and isinstance(value, str) and name != "PREFIX"
}


def test_topics_file_describes_exactly_the_named_topics() -> None:
    assert [topic.logical for topic in described.wanted()] == list(topics.ALL)
    assert {*topics.ALL} == NAMES


@pytest.mark.parametrize("topic", topics.ALL)
def test_topic_name_has_dots_and_a_version(topic: str) -> None:
    assert re.fullmatch(r"payments(\.[a-z]+){2}\.v[0-9]+", topic)


def test_topics_can_have_another_prefix() -> None:
    assert topics.named(topics.NOTIFICATION, "payments") == topics.NOTIFICATION
    assert topics.named(topics.NOTIFICATION, "shop.eu1") == "shop.eu1.alipay.notification.v1"
    assert [topic.name for topic in described.wanted(prefix="shop")] == [
        topics.named(topic, "shop") for topic in topics.ALL
    ]


@pytest.mark.parametrize("prefix", ["", ".", "a.", ".a", "a..b", "A", "a_b", "a-b", "a b", "a/b", "ä", "a" * 101])
def test_invalid_topic_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="a topic prefix is"):
        topics.named(topics.NOTIFICATION, prefix)


def test_unknown_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="is not one of the topics"):
        topics.named("payments.else.v1", "shop")


def test_topics_file_is_strong_enough_for_durability() -> None:
    wanted = described.wanted()
    found = {
        topic.name: Found(partitions=topic.partitions, replicas=topic.replicas, config=topic.config) for topic in wanted
    }
    assert topic_check.weaknesses(wanted, found) == []


@pytest.mark.parametrize("topic", described.wanted(), ids=lambda topic: topic.logical)
def test_topics_file_sets_every_option_that_durability_needs(topic: described.TopicSpec) -> None:
    assert topic.config["min.insync.replicas"] == "2"
    assert topic.config["unclean.leader.election.enable"] == "false"
    assert topic.config["message.timestamp.type"] == "LogAppendTime"
    assert topic.replicas == 3
    assert topic.about.endswith(".")
    assert topic.config["cleanup.policy"] == ("compact" if topic.logical == topics.ORDER_STATE else "delete")
    assert ("retention.ms" in topic.config) == (topic.logical != topics.ORDER_STATE)


def test_development_mode_lowers_only_the_replicas() -> None:
    for strict, lenient in zip(described.wanted(), described.wanted(development=True), strict=True):
        assert (lenient.replicas, lenient.config["min.insync.replicas"]) == (1, "1")
        config = {**lenient.config, "min.insync.replicas": "2"}
        assert structs.replace(lenient, replicas=3, config=config) == strict


def test_process_can_select_the_topics_it_needs() -> None:
    assert [topic.logical for topic in described.wanted(only=[topics.NOTIFICATION])] == [topics.NOTIFICATION]


# From the tests of Kafka's Java client (`UtilsTest.testMurmur2`), which has signed numbers.
OF_JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", OF_JAVA)
def test_murmur2_equals_the_java_client_s(key: bytes) -> None:
    assert topics.murmur2(key) == OF_JAVA[key] % 2**32


@given(st.binary(max_size=600))
def test_murmur2_equals_aiokafka_s(key: bytes) -> None:
    assert topics.murmur2(key) == murmur2_of_aiokafka(key)


@given(st.binary(max_size=80), st.integers(min_value=1, max_value=1000))
def test_partition_equals_aiokafka_s_default_partitioner(key: bytes, count: int) -> None:
    everything = list(range(count))
    assert topics.partition_of(key, count) == DefaultPartitioner()(key, everything, everything)


def test_known_keys_keep_their_partition() -> None:
    key = record_format.key_of("shop-sg", "20261124-000017")
    assert [topics.partition_of(key, count) for count in (1, 3, 12, 24)] == [0, 2, 2, 14]
