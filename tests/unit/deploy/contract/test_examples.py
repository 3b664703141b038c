"""The examples: every kind of event, valid by its schema, with the names of a deployment."""

import json

import jsonschema
import pytest

from deploy.contract import examples, json_schemas
from schemas import topics
from schemas.event_names import EventNames

NAMES = EventNames(type_prefix="com.example.pay", schema_base="https://example.com/")
DOCUMENTS = {name: json.loads(text) for name, text in examples.documents(NAMES, prefix="shop").items()}
SCHEMAS = {f"https://example.com/{file}": json.loads(text) for file, text in json_schemas.documents(NAMES).items()}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_value_is_valid_by_the_schema_that_its_header_names(name: str) -> None:
    record = DOCUMENTS[name]
    schema = SCHEMAS[record["headers"]["ce_dataschema"]]
    jsonschema.validate(record["value"], schema, format_checker=jsonschema.FormatChecker())


def test_every_topic_of_events_has_an_example_with_the_names_of_the_deployment() -> None:
    found = {record["topic"] for record in DOCUMENTS.values()}
    assert found == {topics.named(each, "shop") for each in (topics.ORDER_EVENT, topics.HELD, topics.NOTED)}
    assert all(record["headers"]["ce_type"].startswith("com.example.pay.") for record in DOCUMENTS.values())


def test_example_is_the_record_that_is_sent() -> None:
    record = examples.record(examples.RECORDS["order_event.refunded"], EventNames(), prefix="payments")
    assert (record["key"], record["value"]["order"]) == ("provider/2021000000000008:ORDER-1", "ORDER-1")
    assert (record["headers"]["ce_id"], record["value"]["id"]) == ("provider/2021000000000008:ORDER-1:3",) * 2
