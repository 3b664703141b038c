"""The specification of the topics, read from `schemas/topics.yaml`."""

import pytest

from deploy.cluster import topics
from schemas.topics import ALL, NOTIFICATION, ORDER_STATE


def test_every_named_topic_is_specified_with_a_description() -> None:
    wanted = topics.wanted()
    assert [topic.logical for topic in wanted] == list(ALL)
    assert all(topic.about.endswith(".") for topic in wanted)


def test_settings_are_texts_as_kafka_writes_them() -> None:
    for topic in topics.wanted():
        assert all(isinstance(value, str) for value in topic.config.values())
        assert topic.config[topics.UNCLEAN_ELECTION] == "false"


def test_prefix_and_selection_apply_to_the_names() -> None:
    (topic,) = topics.wanted(prefix="shop.pay", only=[ORDER_STATE])
    assert (topic.logical, topic.name.startswith("shop.pay.")) == (ORDER_STATE, True)
    with pytest.raises(ValueError, match="a topic prefix is"):
        topics.wanted(prefix="A_b")


def test_one_broker_is_enough_for_development() -> None:
    (topic,) = topics.wanted(only=[NOTIFICATION], development=True)
    (production,) = topics.wanted(only=[NOTIFICATION])
    assert (topic.replicas, topic.config[topics.MIN_IN_SYNC]) == (1, "1")
    assert {**topic.config, topics.MIN_IN_SYNC: "2"} == production.config
