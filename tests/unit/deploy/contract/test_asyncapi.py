"""The AsyncAPI document: what Kafka has to keep, which headers a record has, and that its examples are valid."""

from typing import Any

import jsonschema
import msgspec
import pytest

from deploy.cluster import topics as specified
from deploy.contract import asyncapi, examples
from schemas import topics
from schemas.accounts import Family
from schemas.event_names import EventNames
from schemas.record_format import RecordContents, encode

DOCUMENT: dict[str, Any] = msgspec.yaml.decode(asyncapi.document(EventNames(type_prefix="pay"), prefix="shop"))
CHANNELS: dict[str, Any] = {each["address"]: each for each in DOCUMENT["channels"].values()}


def message(topic: str) -> dict[str, Any]:
    (found,) = CHANNELS[topics.named(topic, "shop")]["messages"].values()
    return dict(found)


def test_every_topic_has_its_partitions_replicas_and_configuration() -> None:
    for topic in specified.wanted(prefix="shop"):
        binding = CHANNELS[topic.name]["bindings"]["kafka"]
        assert (binding["topic"], binding["partitions"], binding["replicas"]) == (topic.name, topic.partitions, 3)
        assert binding["topicConfiguration"].keys() == topic.config.keys()
    assert len(CHANNELS) == len(topics.ALL)
    state = CHANNELS["shop.order.state.v1"]["bindings"]["kafka"]["topicConfiguration"]
    assert (state["cleanup.policy"], state["min.insync.replicas"]) == (["compact"], 2)


@pytest.mark.parametrize("topic", sorted({*topics.ALL} - {topics.NOTIFICATION}))
def test_headers_of_every_example_are_valid_and_all_described(topic: str) -> None:
    described = message(topic)
    assert described["examples"]
    for example in described["examples"]:
        jsonschema.validate(example["headers"], described["headers"])
        assert example["headers"].keys() <= described["headers"]["properties"].keys()
        assert example["headers"]["ce_type"].startswith("pay.")
    assert "traceparent" not in described["headers"]["required"]


def test_record_without_the_url_of_its_schema_is_valid_too() -> None:
    headers = {name: text.decode() for name, text in examples.RECORDS["order_event.paid"].headers}
    jsonschema.validate(headers, message(topics.ORDER_EVENT)["headers"])


@pytest.mark.parametrize("signature", [b"", b"s"])
def test_record_of_the_log_has_the_described_headers(signature: bytes) -> None:
    contents = RecordContents(
        account="shop", family=Family.MAPI.value, received_at_ms=1, path=b"/", content_type=b"t", key_id="k",
        confirmed=True, body=b"b", signature=signature, key_digest=b"d",
    )  # fmt: skip
    headers = {name: text.decode() for name, text in encode(contents, "A", b"mac").headers}
    described = message(topics.NOTIFICATION)["headers"]
    jsonschema.validate(headers, described)
    assert headers.keys() <= described["properties"].keys()
