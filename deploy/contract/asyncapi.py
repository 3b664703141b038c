"""The AsyncAPI document: every topic with its key, headers, schema and examples, and how Kafka has to keep it.

Names, keys, partitions, replicas and configuration are those of `schemas/topics.yaml`; headers and values are those of
the examples' records, which the code makes that sends events.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from deploy.cluster import topics as specified
from deploy.cluster.topics import CLEANUP, TopicSpec
from deploy.contract import examples
from schemas import topics
from schemas.accounts import Family
from schemas.event_names import DATASCHEMA, SCHEMA_FILES, EventNames
from schemas.events import Outgoing
from schemas.record_format import Header

FILE = "asyncapi.yaml"
VERSION = "3.1.0"
BINDING = "0.5.0"  # of Kafka

_NAMES = {
    topics.NOTIFICATION: "notification",
    topics.ORDER_EVENT: "orderEvent",
    topics.ORDER_STATE: "orderState",
    topics.HELD: "heldNotice",
    topics.NOTED: "notedNotice",
}
_EXAMPLES = {
    topics.ORDER_EVENT: "order_event.",
    topics.ORDER_STATE: "order_event.",
    topics.HELD: "held_notice.",
    topics.NOTED: "noted_notice.",
}
_ABOUT = (
    "Events are CloudEvents 1.0 in Kafka's binary mode: attributes in ce_… headers, the value is JSON. Each arrives at "
    "least once, and those of one order in the order of its versions; drop copies by ce_id, or by version. Properties "
    "and headers may be added; ignore those that you do not know. Keys are partitioned by murmur2, as by Kafka's Java "
    "client."
)
# Not in records of older releases, so consumers cannot rely on them.
_HELD_HEADERS = {
    "held-topic": "Of held notices: the topic of the notification's record.",
    "held-partition": "Of held notices: the partition of the record.",
    "held-offset": "Of held notices: the offset of the record.",
    "held-timestamp": "Of held notices: when the notification was received.",
    "held-group": "Of held notices: the consumer group of the workers.",
    "held-step": "Of held notices: where it was held, read or decide; empty if the process ended there.",
    "held-error-class": "Of held notices: name of the exception that ended it; empty if there was none.",
    "held-error-message": "Of held notices: the detail of the value, at most 1,024 bytes.",
    "held-attempts": "Of held notices: retries until now.",
    "held-first-at": "Of held notices: when the notification was first held.",
    "held-replays": "Of held notices: retries by an operator until now.",
}
_HEADERS = {
    "content-type": "Media type of the value.",
    "ce_specversion": "Version of CloudEvents.",
    "ce_id": "The same for all copies of an event. Of an order event: account:order:version.",
    "ce_type": "What has happened.",
    "ce_source": "The account, and after a slash its merchant, that the event is about.",
    "ce_subject": "The order number; of a noted notice the first number that it names.",
    "ce_time": "When the order changed, or the notice was written.",
    DATASCHEMA: "URL of the value's JSON Schema.",
    "held-disposition": "Of held notices: parked, quarantined or dead.",
    "held-reason": "Of held notices: why.",
    **_HELD_HEADERS,
    "noted-kind": "Of noted notices: the subject of the notification.",
}
_TRACEPARENT = "W3C trace context of the notification that caused it, if the sender's traces are on."
_ANSWER = "1 if the value is no notification, but the answer of Alipay to a question about an order; format 2."
_OPTIONAL_OF_A_RECORD = {
    Header.CLIENT_ID, Header.REQUEST_TIME, Header.SIGNATURE, Header.RECEIPT, Header.KEY_DIGEST, Header.TRACEPARENT,
    Header.ANSWER,
}  # fmt: skip
_BODIES = "The signed bytes as received: a form, or Antom's JSON. Verify them with the account's key before use."


def document(names: EventNames, *, prefix: str) -> str:
    """Return the document as YAML, with the names and topics of a deployment.

    Raises:
        ValueError: the prefix is not valid.
    """
    wanted = specified.wanted(prefix=prefix)
    channels = {_NAMES[topic.logical]: _channel(topic, names, prefix) for topic in wanted}
    operations = {f"send{_capital(name)}": _operation(name, "send") for name in channels}
    return msgspec.yaml.encode(
        {
            "asyncapi": VERSION,
            "info": {"title": "alipay-notify", "version": "1", "description": _ABOUT},
            "defaultContentType": "application/json",
            "channels": channels,
            "operations": operations,
        }
    ).decode()


def _channel(topic: TopicSpec, names: EventNames, prefix: str) -> dict[str, Any]:
    name = _NAMES[topic.logical]
    is_log = topic.logical == topics.NOTIFICATION
    return {
        "address": topic.name,
        "description": topic.about,
        "messages": {name: _log_record(topic) if is_log else _event(topic, names, prefix)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "topicConfiguration": _configuration(topic.config),
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(channel: str, action: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{channel}"}],
    }


def _event(topic: TopicSpec, names: EventNames, prefix: str) -> dict[str, Any]:
    kind = _EXAMPLES[topic.logical]
    records = {name: outgoing for name, outgoing in examples.RECORDS.items() if name.startswith(kind)}
    return {
        "name": _NAMES[topic.logical],
        "contentType": "application/json",
        "headers": _event_headers(next(iter(records.values())), names),
        "payload": {"$ref": f"./{SCHEMA_FILES[topic.logical]}"},
        "bindings": _key_binding(topic),
        "examples": [_example(name, outgoing, names, prefix) for name, outgoing in records.items()],
    }


def _event_headers(outgoing: Outgoing, names: EventNames) -> dict[str, Any]:
    """Return the schema of the headers: all those that the record has, and the one that traces add.

    Records of older releases have no URL of their schema, and of the headers of held notices only two.
    """
    sent = [name for name, _ in names.of(outgoing).headers]
    properties: dict[str, Any] = {name: {"type": "string", "description": _HEADERS[name]} for name in sent}
    properties["ce_type"]["examples"] = [names.type_of(dict(outgoing.headers)["ce_type"].decode())]
    optional = {Header.TRACEPARENT.value: {"type": "string", "description": _TRACEPARENT}}
    required = [name for name in sent if name not in {DATASCHEMA, *_HELD_HEADERS}]
    return {"type": "object", "required": required, "properties": properties | optional}


def _example(name: str, outgoing: Outgoing, names: EventNames, prefix: str) -> dict[str, Any]:
    record = examples.record(outgoing, names, prefix=prefix)
    return {"name": name, "headers": record["headers"], "payload": record["value"]}


def _log_record(topic: TopicSpec) -> dict[str, Any]:
    """Return the message of the notification log, which only workers and tools that verify signatures should read."""
    required = [header.value for header in Header if header not in _OPTIONAL_OF_A_RECORD]
    properties: dict[str, Any] = {header.value: {"type": "string"} for header in Header}
    properties[Header.FAMILY.value]["enum"] = [family.value for family in Family]
    properties[Header.TRACEPARENT.value]["description"] = _TRACEPARENT
    properties[Header.ANSWER.value]["description"] = _ANSWER
    return {
        "name": _NAMES[topic.logical],
        "contentType": "application/x-www-form-urlencoded",
        "headers": {"type": "object", "required": required, "properties": properties},
        "payload": {"type": "string", "description": _BODIES},
        "bindings": _key_binding(topic),
    }


def _key_binding(topic: TopicSpec) -> dict[str, Any]:
    key = {"type": "string", "description": topic.key}
    return {"kafka": {"key": key, "bindingVersion": BINDING}}


def _configuration(config: Mapping[str, str]) -> dict[str, Any]:
    """Return the topic's configuration with the types that the binding's schema wants."""
    return {name: value.split(",") if name == CLEANUP else _typed(value) for name, value in config.items()}


def _typed(value: str) -> str | int | bool:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.removeprefix("-").isdigit() else value


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]
