"""Which partition a key belongs to: what Kafka's own clients say, so that whoever else writes or looks agrees.

The function is murmur2 as Java's client has it, the sign bit cleared, modulo the number of partitions. It may never
change: all that concerns one order lies in one partition. Clients built on librdkafka use CRC32 unless they are told
`partitioner=murmur2_random`.

It is computed for each notification, which is why words are unpacked at once and not put together byte by byte.
"""

from struct import Struct

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
