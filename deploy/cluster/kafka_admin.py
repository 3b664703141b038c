"""Kafka's IncrementalAlterConfigs, which aiokafka does not speak: it changes the settings that are named and no other.

Its older sister, AlterConfigs, which aiokafka does speak, replaces all of a topic's own settings by those it is given:
whoever sets one thing with it resets everything that was set before. Version 0 is understood by all brokers since 2.3.

The topics of a Kafka cluster: how they are, and the few changes that we make to them.

It stands on aiokafka's client and not on its admin client, whose calls do too much or too little for us: its
`describe_topics` lets a broker that makes topics by itself make the very topic that is asked for, with the broker's own
weak settings; its `alter_configs` resets what it is not told (see `incremental`); its `create_topics` returns refusals
as if nothing had happened.

Reading asks one broker after another, since any of them knows. A change is sent once: where its answer is lost, what
became of it is unknown, and reading tells.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, RequestTimedOutError, for_code
from aiokafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from deploy.cluster.topic_check import NotSeen
from deploy.cluster.topics import Found, TopicSpec

TOPIC = 2
SET = 0


class IncrementalAlterConfigsResponse_v0(Response):  # type: ignore[misc]  # noqa: N801  the library's way of naming versions
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class IncrementalAlterConfigsRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = IncrementalAlterConfigsResponse_v0
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("config_name", String("utf-8")), ("config_operation", Int8), ("config_value", String("utf-8"))
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class SetTopicConfig(Request[IncrementalAlterConfigsRequest_v0]):  # type: ignore[misc]
    """Set these of one topic's settings."""

    API_KEY = 44

    def __init__(self, topic: str, config: Mapping[str, str]) -> None:
        self._resources = [(TOPIC, topic, [(name, SET, value) for name, value in config.items()])]

    def build(self, request_struct_class: type[IncrementalAlterConfigsRequest_v0]) -> IncrementalAlterConfigsRequest_v0:
        return request_struct_class(self._resources, False)


CLIENT_ID = "alipay-notify-topics"
CLIENTS_LOGGER = "aiokafka"
REASONS_MAX = 3
WITHIN_S = 10.0
TRIES = 3  # how many silent brokers one look can afford
CLOSE_S = 2.0
POLL_S = 0.05

NO_ERROR = 0
NO_SUCH_TOPIC = 3
EXISTS_ALREADY = 36

# What the client raises for its own: brokers, sockets, parameters and answers that it does not understand.
_CLIENTS = (KafkaError, OSError, TimeoutError, ValueError, NotImplementedError)
_PASSES_BY = (NodeNotReadyError, RequestTimedOutError, KafkaConnectionError)


class BrokerRefused(Exception):
    """The brokers did not make a change, or did not say that they did; the text is their word."""


class KafkaAdmin:
    """A connected cluster. Every call ends within the deadline of the connection."""

    def __init__(self, client: AIOKafkaClient, *, within_s: float) -> None:
        self._client = client
        self._within_s = within_s

    async def found(self, names: Sequence[str]) -> dict[str, Found]:
        """Those of the topics that exist, with the settings in force.

        Raises:
            NotSeen: no broker answers, or none may tell us.
        """
        with _not_seen():
            async with asyncio.timeout(self._within_s):
                return await self._found(names)

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None:
        """Returns when a broker shows the topic so: each learns of a change a moment after it was made.

        Raises:
            NotSeen: it does not come about in time.
        """
        with _not_seen():
            async with asyncio.timeout(self._within_s):
                while (there := (await self._found([name])).get(name)) is None or not holds(there):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)

    async def create(self, topic: TopicSpec) -> None:
        """Make the topic; nothing where somebody else has just made it.

        Raises:
            BrokerRefused: it was not made, or nobody knows.
        """
        assigned: list[Any] = []  # the brokers choose
        entry = (topic.name, topic.partitions, topic.replicas, assigned, [*topic.config.items()])
        request = CreateTopicsRequest([entry], self._timeout_ms, False)
        (code, message), *_ = [(each[1], each[2]) for each in (await self._change(request)).topic_errors]
        if code != EXISTS_ALREADY:
            _check(topic.name, code, message)

    async def add_partitions(self, name: str, *, up_to: int) -> None:
        """Have that many partitions.

        Raises:
            BrokerRefused: they were not made, or nobody knows.
        """
        request = CreatePartitionsRequest([(name, (up_to, None))], self._timeout_ms, False)
        for topic, code, message in (await self._change(request)).topic_errors:
            _check(topic, code, message)

    async def set_config(self, name: str, config: Mapping[str, str]) -> None:
        """Set these of its settings, all or none, and leave the others.

        Raises:
            BrokerRefused: they were not set, or nobody knows.
        """
        for code, message, _, topic in (await self._change(SetTopicConfig(name, config))).resources:
            _check(topic, code, message)

    @property
    def _timeout_ms(self) -> int:
        return int(self._within_s * 1000)

    async def _found(self, names: Sequence[str]) -> dict[str, Found]:
        """Settings first: a topic whose settings are known and that is not there is missing all the same."""
        config = await self._config(names)
        metadata = await self._ask(MetadataRequest([*names], allow_auto_topic_creation=False))
        found = {}
        for code, name, _, partitions in metadata.topics:
            if code == NO_SUCH_TOPIC or name not in config:
                continue
            if code != NO_ERROR and not partitions:
                raise for_code(code)(name)
            replicas = min(len(each[3]) for each in partitions)
            found[name] = Found(partitions=len(partitions), replicas=replicas, config=config[name])
        return found

    async def _config(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """What is in force for each topic that exists, the brokers' defaults among it."""
        answer = await self._ask(DescribeConfigsRequest([(TOPIC, name, None) for name in names]))
        found = {}
        for code, message, _, name, entries in answer.resources:
            if code == NO_SUCH_TOPIC:
                continue
            if code != NO_ERROR:
                raise for_code(code)(message or name)
            found[name] = {entry[0]: entry[1] or "" for entry in entries}
        return found

    async def _ask(self, request: Any) -> Any:
        """The first answer that any broker gives."""
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        random.shuffle(nodes)
        said: Exception = KafkaConnectionError("the cluster names no broker")
        for node in nodes:
            try:
                return await self._client.send(node, request)
            except _PASSES_BY as error:
                said = error
        raise said

    async def _change(self, request: Any) -> Any:
        """The answer of a broker that was there; with KRaft each of them passes it on to the controller."""
        try:
            async with asyncio.timeout(self._within_s):
                return await self._client.send(await self._present(), request)
        except Exception as error:
            raise BrokerRefused(
                f"no answer to the change ({_said(error)}); whether it was made, the next look tells"
            ) from None

    async def _present(self) -> int:
        controller = self._client.cluster.controller
        nodes = sorted(
            (broker.nodeId for broker in self._client.cluster.brokers()),
            key=lambda node: controller is None or node != controller.nodeId,
        )
        for node in nodes:
            if await self._client.ready(node):
                return int(node)
        raise KafkaConnectionError("no broker takes a connection")


@asynccontextmanager
async def connected(connection: Mapping[str, Any], *, within_s: float = WITHIN_S) -> AsyncIterator[KafkaAdmin]:
    """The cluster at this `connection`: bootstrap servers and what they want to know of us, as aiokafka names it.

    Raises:
        NotSeen: nobody answers there within the time.
    """
    request_ms = int(within_s * 1000 / TRIES)
    with _not_seen():
        client = AIOKafkaClient(client_id=CLIENT_ID, request_timeout_ms=request_ms, **connection)
    try:
        with _not_seen():
            async with asyncio.timeout(within_s):
                await _bootstrap(client)
        yield KafkaAdmin(client, within_s=within_s)
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await client.close()


async def _bootstrap(client: AIOKafkaClient) -> None:
    with _Overheard() as reasons:
        try:
            await client.bootstrap()
        except KafkaConnectionError:
            raise NotSeen(f"no broker takes a connection there: {reasons.told()}".rstrip(": ")) from None


class _Overheard(logging.Handler):
    """What the client logs while it looks for a broker: why none is one, which it tells nobody else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._said: dict[str, None] = {}

    def __enter__(self) -> "_Overheard":
        logging.getLogger(CLIENTS_LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(CLIENTS_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._said[record.getMessage().removeprefix("Unable connect to ")] = None

    def told(self) -> str:
        """The reasons; of many brokers, a few."""
        return "; ".join([*self._said][:REASONS_MAX])


async def look(connection: Mapping[str, Any], names: Sequence[str], *, within_s: float = WITHIN_S) -> dict[str, Found]:
    """Those of the topics that exist, seen over a connection of its own, which is closed again.

    Raises:
        NotSeen: no broker answers, or none may tell us.
    """
    async with connected(connection, within_s=within_s) as admin:
        return await admin.found(names)


@contextlib.contextmanager
def _not_seen() -> Iterator[None]:
    """Whatever the client raises says only that we do not know."""
    try:
        yield
    except _CLIENTS as error:
        raise NotSeen(_said(error)) from error


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, KafkaError):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _check(topic: str, code: int, message: str | None) -> None:
    if code != NO_ERROR:
        raise BrokerRefused(f"{topic}: {message or for_code(code).__name__}")
