"""The names that a deployment gives its events: the first part of their types, and the place of their schemas.

Stores keep the logical names, as they do for topics. An event gets a deployment's names when it leaves for consumers,
to a topic or in an answer of the admin API. So a new prefix holds for all events from then on, also for stored ones.
"""

import re
from functools import lru_cache

import msgspec
from msgspec import Struct, structs

from schemas import topics
from schemas.events import TYPE_PREFIX, Outgoing

# The folder of the schemas, unless a merchant publishes them at a place of its own. The names of its files are those in
# `schemas/` of the source tree. Its top-level domain, `invalid`, can never be registered (RFC 2606).
SCHEMA_BASE = "https://alipay-notify.invalid/schemas/"
SCHEMA_FILES = {
    topics.ORDER_EVENT: "order_event.v1.json",
    topics.ORDER_STATE: "order_event.v1.json",
    topics.HELD: "held_notice.v1.json",
    topics.NOTED: "noted_notice.v1.json",
}
TYPE = "ce_type"
DATASCHEMA = "ce_dataschema"

TYPE_PREFIX_CHARACTERS_MAX = 100
RESERVED_PREFIX = "com.alipay"  # Alipay's own domain: an event of ours must not look like one of theirs
_TYPE_PREFIX = re.compile(r"[a-z0-9_]+(?:[.-][a-z0-9_]+)*", re.ASCII)
_SCHEMA_BASE = re.compile(r"https?://[!-.0-~][!-~]{0,300}/", re.ASCII)

_LOGICAL = f"{TYPE_PREFIX}."
_ORDER_TOPICS = frozenset({topics.ORDER_EVENT, topics.ORDER_STATE})  # their values have the type, as the headers
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


class EventNames(Struct, frozen=True, kw_only=True):
    """The first part of event types, and the URL of the folder with the schemas, which ends with a slash.

    `topic_prefix` and `group` name the log and its group of workers in held notices; the embedded engine has the
    defaults.
    """

    type_prefix: str = TYPE_PREFIX
    schema_base: str = SCHEMA_BASE
    topic_prefix: str = topics.PREFIX
    group: str = "alipay-notify"

    def type_of(self, logical: str) -> str:
        """Return the name of a logical event type in this deployment."""
        return f"{self.type_prefix}.{logical.removeprefix(_LOGICAL)}" if logical.startswith(_LOGICAL) else logical

    def schema_of(self, topic: str) -> str:
        """Return the URL of the schema of a topic's events."""
        return self.schema_base + SCHEMA_FILES[topic]

    def of(self, event: Outgoing) -> Outgoing:
        """Return the event as consumers get it: with this deployment's type, and the URL of its schema."""
        added = _added(self, event.topic)
        if self.type_prefix == TYPE_PREFIX:  # nearly always, and done for each event
            return Outgoing(
                id=event.id, topic=event.topic, key=event.key, value=event.value, headers=(*event.headers, *added)
            )
        headers = (
            (name, self.type_of(text.decode("utf-8", "replace")).encode() if name == TYPE else text)
            for name, text in event.headers
        )
        value = self._renamed(event.value) if event.topic in _ORDER_TOPICS else event.value
        return structs.replace(event, value=value, headers=(*headers, *added))

    def _renamed(self, value: bytes) -> bytes:
        """Return the value of an order event with this deployment's type; members that we do not know stay.

        A value that is no such object stays as it is, because one event must not stop all others.
        """
        try:
            members = _decode(value)
        except msgspec.DecodeError:
            return value
        match members:
            case {"type": str(logical)}:
                return _encode(members | {"type": self.type_of(logical)})
        return value


LOGICAL = EventNames()


@lru_cache
def _added(names: EventNames, topic: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that a deployment decides; cached, because each event has them."""
    schema = (DATASCHEMA, names.schema_of(topic).encode())
    if topic != topics.HELD:
        return (schema,)
    log = topics.named(topics.NOTIFICATION, names.topic_prefix)
    return (("held-topic", log.encode()), ("held-group", names.group.encode()), schema)


def faults(type_prefix: str, schema_base: str) -> list[str]:
    """Return one text for each of the two names that cannot be used."""
    found = []
    if not _TYPE_PREFIX.fullmatch(type_prefix) or len(type_prefix) > TYPE_PREFIX_CHARACTERS_MAX:
        found.append("EVENT_TYPE_PREFIX is lowercase letters, digits and _, with dots or hyphens between them")
    elif type_prefix.startswith(RESERVED_PREFIX):
        found.append(f"EVENT_TYPE_PREFIX must not begin with {RESERVED_PREFIX}: these events are yours, not Alipay's")
    if not _SCHEMA_BASE.fullmatch(schema_base):
        found.append("SCHEMA_BASE is the URL of a folder: https://…/, without blanks and with a slash at the end")
    return found
