"""The topics and what they hold. Names are `<domain>.<source>.<entity>.v<major>`; dots only, since Kafka's metrics fold
dots and underscores into one.

The names here are the logical ones, which events and records carry. A cluster that several shops share has them under
another first part, and `named` is the one place that knows how. What each topic has to be like stands in `topics.yaml`.

Which partition a key belongs to: what Kafka's own clients say, so that whoever else writes or looks agrees.

The function is murmur2 as Java's client has it, the sign bit cleared, modulo the number of partitions. It may never
change: all that concerns one order lies in one partition. Clients built on librdkafka use CRC32 unless they are told
`partitioner=murmur2_random`.

It is computed for each notification, which is why words are unpacked at once and not put together byte by byte.
"""

import re
from struct import Struct

PREFIX = "payments"

NOTIFICATION = "payments.alipay.notification.v1"  # the signed bytes and their headers, keyed by account:order
ORDER_EVENT = "payments.order.event.v1"  # one event per visible change of an order: the product
ORDER_STATE = "payments.order.state.v1"  # compacted: the latest state of each order
HELD = "payments.notification.held.v1"  # a notice of each notification that was not simply applied

ALL = (NOTIFICATION, ORDER_EVENT, ORDER_STATE, HELD)

PREFIX_CHARACTERS_MAX = 100  # Kafka's names end at 249
_PREFIX = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")


def named(topic: str, prefix: str) -> str:
    """What the logical topic is called in a cluster that has ours under this prefix.

    Raises:
        ValueError: the prefix is none that a topic's name may begin with, or the topic is not one of ours.
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

# Keys are an account and an order number; one that is longer than these words pays for its format each time.
_UNPACK = tuple(Struct(f"<{words}I").unpack_from for words in range(64))


def partition_of(key: bytes, count: int) -> int:
    """The partition of this key among `count`."""
    return (murmur2(key) & _POSITIVE) % count


def murmur2(key: bytes) -> int:
    """`org.apache.kafka.common.utils.Utils.murmur2`, as an unsigned word."""
    length = len(key)
    words = length >> 2
    mixed = _SEED ^ length
    unpack = _UNPACK[words] if words < len(_UNPACK) else Struct(f"<{words}I").unpack_from
    for word in unpack(key):
        word = word * _MIX & _WORD
        mixed = (mixed * _MIX & _WORD) ^ ((word ^ word >> 24) * _MIX & _WORD)
    if length & 3:
        mixed = (mixed ^ int.from_bytes(key[words << 2 :], "little")) * _MIX & _WORD
    mixed = (mixed ^ mixed >> 13) * _MIX & _WORD
    return mixed ^ mixed >> 15
