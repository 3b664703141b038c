"""Whether a Kafka is there: real requests, as a client would send them.

A port that accepts says little about a broker: it may still read its logs, or be alone in its quorum. So it is asked
for the brokers it knows, and for a group's coordinator, which for some seconds after the start is not to be had.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from deploy.local import ports

ASK_WITHIN_S = 5.0
PROBE_GROUP = "alipay-notify-probe"  # asked for, never joined


async def brokers(addresses: str) -> Sequence[int]:
    """The brokers that the first of the addresses to answer knows to be up; none where nobody answers."""
    try:
        async with _asked(addresses) as client:
            return tuple(sorted(broker.nodeId for broker in client.cluster.brokers()))
    except (KafkaError, OSError):
        return ()


async def coordinates_groups(addresses: str) -> bool:
    """Whether consumers could join a group now. Asking makes the topic of the groups' offsets where there is none."""
    try:
        async with _asked(addresses) as client:
            await client.coordinator_lookup(CoordinationType.GROUP, PROBE_GROUP)
    except (KafkaError, OSError):
        return False
    return True


@asynccontextmanager
async def _asked(addresses: str) -> AsyncIterator[AIOKafkaClient]:
    """A client that has read the cluster's metadata."""
    there = [address for address in addresses.split(",") if await ports.answers(*ports.parts(address))]
    if not there:  # aiokafka would log an error for each refused connection; while a server starts, that is no error
        raise ConnectionRefusedError(addresses)
    client = AIOKafkaClient(bootstrap_servers=there, request_timeout_ms=int(ASK_WITHIN_S * 1_000))
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()
