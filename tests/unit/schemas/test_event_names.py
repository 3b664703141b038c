"""The names of events in a deployment: types, schemas, and which prefixes are refused."""

import json

import msgspec
import pytest

from schemas import event_names, topics
from schemas.event_names import SCHEMA_BASE, EventNames
from schemas.events import Outgoing
from tests.support.paths import ROOT

MINE = EventNames(type_prefix="com.example.pay", schema_base="https://example.com/schemas/")
TYPE = "alipay_notify.order.paid.v1"


def outgoing(
    topic: str = topics.ORDER_EVENT, value: bytes = b'{"id":"shop:A:1","type":"%s"}' % TYPE.encode()
) -> Outgoing:
    headers = (("ce_id", b"shop:A:1"), ("ce_type", TYPE.encode()))
    return Outgoing(id="shop:A:1", topic=topic, key=b"shop:A", value=value, headers=headers)


def test_event_gets_the_url_of_its_schema_and_keeps_all_else() -> None:
    event = outgoing()
    named = EventNames().of(event)
    assert named.headers == (*event.headers, ("ce_dataschema", f"{SCHEMA_BASE}order_event.v1.json".encode()))
    assert msgspec.structs.replace(named, headers=event.headers) == event


def test_held_notice_names_the_log_and_the_group_of_the_deployment() -> None:
    mine = EventNames(topic_prefix="shop", group="shop-workers").of(outgoing(topics.HELD))
    held = {name: text for name, text in mine.headers if name.startswith("held-")}
    assert held == {"held-topic": b"shop.alipay.notification.v1", "held-group": b"shop-workers"}
    renamed = dict(EventNames(type_prefix="pay").of(outgoing(topics.HELD)).headers)
    assert renamed["held-topic"] == topics.NOTIFICATION.encode()


@pytest.mark.parametrize("topic", sorted({*topics.ALL} - {topics.NOTIFICATION}))
def test_schema_of_every_topic_is_a_file_in_the_tree(topic: str) -> None:
    url = EventNames().schema_of(topic)
    assert json.loads((ROOT / "schemas" / url.removeprefix(SCHEMA_BASE)).read_text())["$id"] == url


def test_header_and_value_of_an_order_event_get_the_prefix() -> None:
    named = MINE.of(outgoing(value=b'{"id":"i","type":"%s","later":{"n":12345678901234567890}}' % TYPE.encode()))
    assert dict(named.headers)["ce_type"] == b"com.example.pay.order.paid.v1"
    assert named.value == b'{"id":"i","type":"com.example.pay.order.paid.v1","later":{"n":12345678901234567890}}'
    assert dict(named.headers)["ce_dataschema"] == b"https://example.com/schemas/order_event.v1.json"


def test_type_in_a_notice_is_that_of_alipay_and_stays() -> None:
    value = b'{"type":"alipay_notify.like"}'
    assert MINE.of(outgoing(topics.NOTED, value)).value == value


@pytest.mark.parametrize("value", [b"no JSON", b"[]", b"{}", b'{"type":1}', b'{"type":"other"}'])
def test_value_without_a_type_of_ours_stays_as_it_is(value: bytes) -> None:
    assert MINE.of(outgoing(value=value)).value == value


@pytest.mark.parametrize("prefix", ["alipay_notify", "com.my-shop.pay", "pay2"])
def test_reverse_domain_of_a_merchant_is_accepted(prefix: str) -> None:
    assert event_names.faults(prefix, SCHEMA_BASE) == []


@pytest.mark.parametrize(
    "prefix",
    ["", "Com.Shop", "com..shop", ".com", "com.", "a b", "a" * 101, "com.alipay", "com.alipay.x", "com.alipayplus"],
)
def test_other_prefixes_and_those_of_alipay_are_refused(prefix: str) -> None:
    (fault,) = event_names.faults(prefix, SCHEMA_BASE)
    assert fault.startswith("EVENT_TYPE_PREFIX")


@pytest.mark.parametrize("base", ["", "schemas/", "https://example.com", "https:///", "https://a b/", "ftp://a/"])
def test_base_that_is_no_folder_on_the_web_is_refused(base: str) -> None:
    (fault,) = event_names.faults("pay", base)
    assert fault.startswith("SCHEMA_BASE")
