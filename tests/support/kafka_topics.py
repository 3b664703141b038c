"""Topics on a real Kafka, each with a name and a consumer group of its own, and fakes for the parts around a source."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from schemas.record_format import Record
from tests.support.fakes import GroupObserver
from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.kafka import clients as kafka_clients
from workers.kafka.ports import GroupClient, MemberLimits
from workers.kafka.source import KafkaSource
from workers.settlement.plan import LogRecord, Position

QUICK = MemberLimits(backoff_s=0.1, keep_alive_every_s=0.5)


class Settled:
    """Fake of the store's queries: the last offset with a disposition of each partition, without those in `lost`."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.lost: set[tuple[int, int]] = set()  # partition and offset

    async def __call__(self, partition: int, *, below: int | None = None) -> int | None:
        last = self.last.get(partition, -1)
        offset = last if below is None else min(last, below - 1)
        while (partition, offset) in self.lost:
            offset -= 1
        return offset if offset >= 0 else None

    async def all_settled(self, positions: Sequence[Position]) -> bool:
        return all([await self(each.partition, below=each.offset + 1) == each.offset for each in positions])


class Settling:
    """A source that records dispositions in the fake store before it commits, as a worker does."""

    def __init__(self, source: KafkaSource, settled: Settled) -> None:
        self._source = source
        self._settled = settled

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        return await self._source.poll(max_records)

    async def commit(self, upto: Sequence[Position]) -> None:
        self._settled.last.update({position.partition: position.offset for position in upto})
        await self._source.commit(upto)


class Appending:
    """A log for a receiver, over a plain producer: `append` returns when all replicas have the record."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def append(self, record: Record, *, partition: int | None = None) -> int:
        """Append a record and return its offset."""
        headers = [*record.headers]
        sent = await self._producer.send_and_wait(
            self._topic, record.value, record.key, headers=headers, partition=partition
        )
        offset: int = sent.offset
        return offset

    async def append_with_header_name(self, name: str, by: bytes, *, partition: int) -> None:
        """Append a record whose header name may be bytes that aiokafka would not write."""
        batch = self._producer.create_batch()
        batch.append(timestamp=None, key=b"key", value=b"value", headers=[(name, b"")])
        batch.close()
        renaming = _Renaming(batch, name.encode(), by)
        await (await self._producer.send_batch(renaming, self._topic, partition=partition))


class _Renaming:
    """A batch builder that replaces one header name by another of the same length."""

    def __init__(self, builder: Any, name: bytes, by: bytes) -> None:
        self._builder = builder
        self._name = name
        self._by = by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def _build(self) -> bytes:
        built = bytearray(self._builder._build())
        at = built.index(self._name)
        built[at : at + len(self._name)] = self._by
        built[17:21] = calc_crc32c(built[21:]).to_bytes(4, "big")  # of all bytes after the checksum
        return bytes(built)


class Topic:
    """A topic with a random name, and its consumer group."""

    def __init__(self, bootstrap: str, *, partitions: int = 4) -> None:
        self.name = f"t{secrets.token_hex(6)}.v1"
        self.group = f"g-{self.name}"
        self.connection = {"bootstrap_servers": bootstrap}
        self.settled = Settled()
        self._partitions = partitions

    async def make(self) -> None:
        async with admin(self.connection) as client:
            await client.create_topics([NewTopic(self.name, self._partitions, 1)])

    async def remove(self) -> None:
        async with admin(self.connection) as client:
            await client.delete_topics([self.name])

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Appending]:
        producer = AIOKafkaProducer(**self.connection, acks="all")
        await producer.start()
        try:
            yield Appending(producer, self.name)
        finally:
            await producer.stop()

    def source(
        self,
        *,
        observer: GroupObserver | None = None,
        limits: MemberLimits = QUICK,
        made: list[Any] | None = None,
        wrap: Callable[[int, Any], Any] = lambda number, client: client,
        **more: Any,
    ) -> KafkaSource:
        """Return a worker's source. `more`: settings of its clients. `made` collects them, `wrap` may replace them."""
        clients = [] if made is None else made

        def build() -> GroupClient:
            client = kafka_clients.consumer(self.connection, group=self.group, **more)
            clients.append(client)
            wrapped: GroupClient = wrap(len(clients) - 1, client)
            return wrapped

        return KafkaSource(
            build,
            topic=self.name,
            last_settled=self.settled,
            observer=observer or GroupObserver(),
            limits=limits,
        )

    async def trim(self, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        async with admin(self.connection) as client:
            await client.delete_records({TopicPartition(self.name, partition): RecordsToDelete(before)})

    async def committed(self, partition: int = 0) -> int | None:
        """Return the committed offset of the group, read by a client outside of the group."""
        async with self._outside_client() as client:
            offset: int | None = await client.committed(TopicPartition(self.name, partition))
            return offset

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Set the committed offsets of a group without members, as an operator's tool does."""
        async with self._outside_client() as client:
            await client.commit({TopicPartition(self.name, each): offset for each, offset in offsets.items()})

    @asynccontextmanager
    async def _outside_client(self) -> AsyncIterator[AIOKafkaConsumer]:
        client = AIOKafkaConsumer(**self.connection, group_id=self.group, enable_auto_commit=False)
        client.assign([TopicPartition(self.name, each) for each in range(self._partitions)])
        await client.start()
        try:
            yield client
        finally:
            await client.stop()


@asynccontextmanager
async def admin(connection: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**connection)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def read(source: KafkaSource, count: int, *, within_s: float = 20.0) -> list[LogRecord]:
    """Poll until `count` records have come. While infrastructure is down, poll again, as a worker does."""
    found: list[LogRecord] = []
    async with asyncio.timeout(within_s):
        while len(found) < count:
            try:
                found += await source.poll(500)
            except InfrastructureDamaged:
                raise
            except InfrastructureDown:
                await asyncio.sleep(0.1)
    return found
