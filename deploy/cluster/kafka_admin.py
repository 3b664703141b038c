"""Read the topics of a Kafka cluster, and make the few changes to them that `topics apply` needs.

It uses aiokafka's client instead of its admin client, whose calls do too much or too little here. `describe_topics`
lets a broker with automatic topic creation create the missing topic, with the broker's own weak settings.
`alter_configs` sends AlterConfigs, which resets all settings of a topic that are not given. `create_topics` returns
errors as if nothing had happened. Instead of AlterConfigs, this module sends IncrementalAlterConfigs, which aiokafka
does not implement: it changes the given settings only. All brokers since 2.3 understand its version 0.

A read asks one broker after another, because every broker knows the answer. A change is sent once: if its answer is
lost, the result is unknown, and only the next read shows it.
"""

import asyncio
import contextlib
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

from deploy.cluster.client_log import ClientLog
from deploy.cluster.topic_check import NotSeen
from deploy.cluster.topics import Found, TopicSpec

TOPIC = 2
SET = 0


class IncrementalAlterConfigsResponse_v0(Response):  # type: ignore[misc]  # noqa: N801  as the library names versions
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
    """Sets the given settings of one topic."""

    API_KEY = 44

    def __init__(self, topic: str, config: Mapping[str, str]) -> None:
        self._resources = [(TOPIC, topic, [(name, SET, value) for name, value in config.items()])]

    def build(self, request_struct_class: type[IncrementalAlterConfigsRequest_v0]) -> IncrementalAlterConfigsRequest_v0:
        return request_struct_class(self._resources, False)


CLIENT_ID = "alipay-notify-topics"
WITHIN_S = 10.0
TRIES = 3  # brokers that may stay silent within one deadline
CLOSE_S = 2.0
POLL_S = 0.05

NO_ERROR = 0
NO_SUCH_TOPIC = 3
EXISTS_ALREADY = 36

# Exceptions of the client: from brokers and sockets, and for parameters and answers that it does not understand.
_CLIENT_ERRORS = (KafkaError, OSError, TimeoutError, ValueError, NotImplementedError)
_TRY_NEXT_BROKER = (NodeNotReadyError, RequestTimedOutError, KafkaConnectionError)


class BrokerRefused(Exception):
    """The brokers did not make a change, or did not confirm it; the text is their reason."""


class KafkaAdmin:
    """A connection to a cluster. Every call ends within the deadline of the connection."""

    def __init__(self, client: AIOKafkaClient, *, within_s: float) -> None:
        self._client = client
        self._within_s = within_s

    async def found(self, names: Sequence[str]) -> dict[str, Found]:
        """Return those of the topics that exist, with the settings in force.

        Raises:
            NotSeen: no broker answers, or none authorizes the request.
        """
        with _not_seen():
            async with asyncio.timeout(self._within_s):
                return await self._found(names)

    async def until(self, name: str, holds: Callable[[Found], bool]) -> None:
        """Return when `holds` is true of the topic. Each broker shows a change a moment after it was made.

        Raises:
            NotSeen: it does not become true before the deadline.
        """
        with _not_seen():
            async with asyncio.timeout(self._within_s):
                while (there := (await self._found([name])).get(name)) is None or not holds(there):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)

    async def create(self, topic: TopicSpec) -> None:
        """Create the topic; do nothing if it has just been created elsewhere.

        Raises:
            BrokerRefused: it was not created, or the result is unknown.
        """
        assigned: list[Any] = []  # empty: the brokers assign the replicas
        entry = (topic.name, topic.partitions, topic.replicas, assigned, [*topic.config.items()])
        request = CreateTopicsRequest([entry], self._timeout_ms, False)
        (code, message), *_ = [(each[1], each[2]) for each in (await self._change(request)).topic_errors]
        if code != EXISTS_ALREADY:
            _check(topic.name, code, message)

    async def add_partitions(self, name: str, *, up_to: int) -> None:
        """Add partitions, up to this number.

        Raises:
            BrokerRefused: they were not added, or the result is unknown.
        """
        request = CreatePartitionsRequest([(name, (up_to, None))], self._timeout_ms, False)
        for topic, code, message in (await self._change(request)).topic_errors:
            _check(topic, code, message)

    async def set_config(self, name: str, config: Mapping[str, str]) -> None:
        """Set these settings of the topic, all or none, and keep its other settings.

        Raises:
            BrokerRefused: they were not set, or the result is unknown.
        """
        for code, message, _, topic in (await self._change(SetTopicConfig(name, config))).resources:
            _check(topic, code, message)

    @property
    def _timeout_ms(self) -> int:
        return int(self._within_s * 1000)

    async def _found(self, names: Sequence[str]) -> dict[str, Found]:
        # Settings first: a topic that is deleted between the two requests is then reported as missing.
        config = await self._config(names)
        metadata = await self._ask(MetadataRequest([*names], allow_auto_topic_creation=False))
        found = {}
        for code, name, _, partitions in metadata.topics:
            if code == NO_SUCH_TOPIC or name not in config:
                continue
            if code != NO_ERROR and not partitions:
                raise for_code(code)(name)
            found[name] = _found(partitions, config[name])
        return found

    async def _config(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the settings in force of each topic that exists, including broker defaults."""
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
        """Return the first answer that a broker gives; ask the brokers in random order."""
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        random.shuffle(nodes)
        failure: Exception = KafkaConnectionError("the cluster names no broker")
        for node in nodes:
            try:
                return await self._client.send(node, request)
            except _TRY_NEXT_BROKER as error:
                failure = error
        raise failure

    async def _change(self, request: Any) -> Any:
        """Return the answer of one reachable broker. With KRaft, every broker forwards changes to the controller."""
        try:
            async with asyncio.timeout(self._within_s):
                return await self._client.send(await self._reachable(), request)
        except Exception as error:
            raise BrokerRefused(
                f"no answer to the change ({_reason(error)}); `alipay-notify topics plan` shows whether it was made"
            ) from None

    async def _reachable(self) -> int:
        controller = self._client.cluster.controller
        nodes = sorted(
            (broker.nodeId for broker in self._client.cluster.brokers()),
            key=lambda node: controller is None or node != controller.nodeId,
        )
        for node in nodes:
            if await self._client.ready(node):
                return int(node)
        raise KafkaConnectionError("no broker accepts a connection")


@asynccontextmanager
async def connected(connection: Mapping[str, Any], *, within_s: float = WITHIN_S) -> AsyncIterator[KafkaAdmin]:
    """Connect to a cluster; `connection` holds bootstrap servers and credentials, as aiokafka names them.

    Raises:
        NotSeen: no broker answers within the deadline.
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
    with ClientLog() as client_log:
        try:
            await client.bootstrap()
        except KafkaConnectionError:
            raise NotSeen(f"no broker accepts a connection: {client_log.reasons()}".rstrip(": ")) from None


async def look(connection: Mapping[str, Any], names: Sequence[str], *, within_s: float = WITHIN_S) -> dict[str, Found]:
    """Return those of the topics that exist, over a new connection that is closed again.

    Raises:
        NotSeen: no broker answers, or none authorizes the request.
    """
    async with connected(connection, within_s=within_s) as admin:
        return await admin.found(names)


def _found(partitions: Sequence[Any], config: Mapping[str, str]) -> Found:
    """Return a topic from the fields of its partitions: the fourth has the replicas, the fifth those in sync."""
    behind = [{*each[3]} - {*each[4]} for each in partitions]
    return Found(
        partitions=len(partitions),
        replicas=min(len(each[3]) for each in partitions),
        config=config,
        under_replicated=sum(map(bool, behind)),
        behind=tuple(sorted(set().union(*behind))),
    )


@contextlib.contextmanager
def _not_seen() -> Iterator[None]:
    """Raise `NotSeen` for any error of the client."""
    try:
        yield
    except _CLIENT_ERRORS as error:
        raise NotSeen(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, KafkaError):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _check(topic: str, code: int, message: str | None) -> None:
    if code != NO_ERROR:
        raise BrokerRefused(f"{topic}: {message or for_code(code).__name__}")
