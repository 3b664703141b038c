"""The same partition as every other client of Kafka's says, for every key."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from schemas import envelope, partitions

# What Kafka's own tests expect of its Java client (`UtilsTest.testMurmur2`), where words have a sign.
OF_JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", OF_JAVA)
def test_the_hash_is_that_of_the_java_client(key: bytes) -> None:
    assert partitions.murmur2(key) == OF_JAVA[key] % 2**32


@given(st.binary(max_size=600))
def test_the_hash_is_that_of_aiokafka(key: bytes) -> None:
    assert partitions.murmur2(key) == murmur2_of_aiokafka(key)


@given(st.binary(max_size=80), st.integers(min_value=1, max_value=1000))
def test_the_partition_is_that_of_the_default_partitioner(key: bytes, count: int) -> None:
    everything = list(range(count))
    assert partitions.partition_of(key, count) == DefaultPartitioner()(key, everything, everything)


def test_an_order_keeps_its_partition() -> None:
    key = envelope.key_of("shop-sg", "20261124-000017")
    assert [partitions.partition_of(key, count) for count in (1, 3, 12, 24)] == [0, 2, 2, 14]
