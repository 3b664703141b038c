"""The five Kafka topics, and the partition of a key.

Names are `<domain>.<source>.<entity>.v<major>`. They contain dots but no underscores, because Kafka's metric names map
both to the same character. Records and events carry these logical names; a cluster may use another prefix (`named`).
The required configuration of each topic is in `topics.yaml`.
"""

import re
from struct import Struct

PREFIX = "payments"

NOTIFICATION = "payments.alipay.notification.v1"  # signed bytes and headers of each notification, keyed account:order
ORDER_EVENT = "payments.order.event.v1"  # one event for each visible change of an order
ORDER_STATE = "payments.order.state.v1"  # compacted: the latest state of each order
HELD = "payments.notification.held.v1"  # one notice for each held notification
NOTED = "payments.notification.noted.v1"  # one notice for each notification that moves no order

ALL = (NOTIFICATION, ORDER_EVENT, ORDER_STATE, HELD, NOTED)

PREFIX_CHARACTERS_MAX = 100  # Kafka allows 249 for the whole name
_PREFIX = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")


def named(topic: str, prefix: str) -> str:
    """Return the name of a logical topic in a cluster that uses this prefix.

    Raises:
        ValueError: the prefix is not allowed in a topic name, or the topic is not one of `ALL`.
    """
    if not _PREFIX.fullmatch(prefix) or len(prefix) > PREFIX_CHARACTERS_MAX:
        raise ValueError(f"a topic prefix is lowercase letters and digits, with dots between them: not {prefix!r}")
    if topic not in ALL:
        raise ValueError(f"{topic!r} is not one of the topics")
    return prefix + topic.removeprefix(PREFIX)


_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF

# The hash is computed for each notification, so all words of a key are unpacked in one call. Keys are short (an account
# and an order number); a format for a longer key is made at each call.
_UNPACK = tuple(Struct(f"<{words}I").unpack_from for words in range(64))


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of a key among `count` partitions, as Kafka's Java client does: murmur2 without the sign.

    The function must never change, because all records with one key belong in one partition. Other producers must use
    it too: clients built on librdkafka need `partitioner=murmur2_random`, because their default is CRC32.
    """
    return (murmur2(key) & _POSITIVE) % count


def murmur2(key: bytes) -> int:
    """Return `org.apache.kafka.common.utils.Utils.murmur2` as an unsigned 32-bit number."""
    length = len(key)
    words = length >> 2
    mixed = _SEED ^ length
    unpack = _UNPACK[words] if words < len(_UNPACK) else Struct(f"<{words}I").unpack_from
    for word in unpack(key):
        word = word * _MIX & _WORD
        mixed = (mixed * _MIX ^ (word ^ word >> 24) * _MIX) & _WORD
    if length & 3:
        mixed = (mixed ^ int.from_bytes(key[words << 2 :], "little")) * _MIX & _WORD
    mixed = (mixed ^ mixed >> 13) * _MIX & _WORD
    return mixed ^ mixed >> 15
