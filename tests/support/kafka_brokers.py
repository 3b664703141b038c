"""Changes to running brokers that aiokafka's admin client cannot make: limits of clients, a renewed certificate."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from deploy.cluster.kafka_admin import SET, IncrementalAlterConfigsRequest_v0

PRODUCED_PER_S = "producer_byte_rate"
CLIENT_ID, ANY = "client-id", None
BROKER = 4  # a kind of resource
_ENTITY = ("entity", Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8"))))


class AlterClientQuotasResponse_v0(Response):  # type: ignore[misc]  # noqa: N801  as the library names versions
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("error_code", Int16), ("error_message", String("utf-8")), _ENTITY)),
    )


class AlterClientQuotasRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = AlterClientQuotasResponse_v0
    SCHEMA = Schema(
        ("entries", Array(_ENTITY, ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))))),
        ("validate_only", Boolean),
    )


class LimitEachClient(Request[AlterClientQuotasRequest_v0]):  # type: ignore[misc]
    """Lets every client send so many bytes a second; `None` takes the limit away."""

    API_KEY = 49

    def __init__(self, bytes_per_s: float | None) -> None:
        self._op = (PRODUCED_PER_S, bytes_per_s or 0.0, bytes_per_s is None)

    def build(self, request_struct_class: type[AlterClientQuotasRequest_v0]) -> AlterClientQuotasRequest_v0:
        return request_struct_class([([(CLIENT_ID, ANY)], [self._op])], False)


@asynccontextmanager
async def limited(bootstrap: str, *, bytes_per_s: float) -> AsyncIterator[None]:
    """The brokers throttle what each of their clients sends, while the block lasts."""
    await _limit(bootstrap, bytes_per_s)
    try:
        yield
    finally:
        await _limit(bootstrap, None)


class SetBrokerConfig(Request[IncrementalAlterConfigsRequest_v0]):  # type: ignore[misc]
    """Sets the given settings of one broker."""

    API_KEY = 44

    def __init__(self, broker: int, config: Mapping[str, str]) -> None:
        self._resources = [(BROKER, str(broker), [(name, SET, value) for name, value in config.items()])]

    def build(self, request_struct_class: type[IncrementalAlterConfigsRequest_v0]) -> IncrementalAlterConfigsRequest_v0:
        return request_struct_class(self._resources, False)


async def read_certificate_again(bootstrap: str, *, listener: str, file: Path) -> None:
    """Let the only broker read the certificate of this listener again; its file has changed."""
    setting = f"listener.name.{listener.lower()}.ssl.keystore.location"
    async with _asking(bootstrap) as (client, broker):
        answer = await client.send(broker, SetBrokerConfig(broker, {setting: str(file)}))
        assert [code for code, _, _, _ in answer.resources] == [0], answer


async def _limit(bootstrap: str, bytes_per_s: float | None) -> None:
    async with _asking(bootstrap) as (client, broker):
        answer = await client.send(broker, LimitEachClient(bytes_per_s))
        assert [code for code, _, _ in answer.entries] == [0], answer


@asynccontextmanager
async def _asking(bootstrap: str) -> AsyncIterator[tuple[AIOKafkaClient, int]]:
    """A client, and the number of a broker."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        (broker, *_) = client.cluster.brokers()
        yield client, broker.nodeId
    finally:
        await client.close()
