"""Dumps of a cluster after a run: the whole log, all topics from their first record, the group's offsets, the store.

Read by plain clients that know nothing of the product. A consumer without a group leaves no trace, and one that starts
at the first offset cannot overlook records that a group has skipped.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition
from msgspec import Struct

from tests.acceptance.dumps import EVENTS, HELD, NOTED, STATEMENTS, STATES, Copy, Dumps

NOTIFICATIONS = "payments.alipay.notification.v1"
UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
REPEATED = "SELECT count(*) FROM outbox WHERE again_at IS NOT NULL"
WAITING = "SELECT count(*) FROM held WHERE resolved_at IS NULL AND due_at IS NOT NULL"
RECORDS_MAX = 5000
_UNREST = {UNSENT: "events are not sent", REPEATED: "states are to be repeated", WAITING: "notifications wait"}


class Stores(Struct, frozen=True, kw_only=True):
    """Addresses of a cluster's stores. `prefix` is the first part of its topics' names."""

    kafka: str
    postgres: str
    prefix: str
    group: str

    def topic(self, logical: str) -> str:
        return self.prefix + logical.removeprefix("payments")


async def of_stores(stores: Stores) -> Dumps:
    """Everything as it is now; the engine must have stopped."""
    log = await whole(stores, NOTIFICATIONS)
    published = {topic: [_copy(each) for each in await whole(stores, topic)] for topic in (EVENTS, STATES, HELD, NOTED)}
    async with opened(stores) as connection:
        rows = {name: [dict(row) for row in await connection.fetch(text)] for name, text in STATEMENTS.items()}
        unsent = await connection.fetchval(UNSENT)
    return Dumps(
        bodies={(each.partition, each.offset): each.value for each in log},
        deliveries=rows["deliveries"],
        ledger=rows["ledger"],
        orders=rows["orders"],
        held=rows["held"],
        outbox=rows["outbox"],
        unsent=unsent,
        committed=await committed(stores),
        published=published,
    )


async def unrest(stores: Stores) -> list[str]:
    """Open work: records not processed or committed, events not sent, rows waiting for a retry."""
    there = {partition: end for partition, end in (await ends(stores)).items() if end}
    found = [] if await committed(stores) == there else ["the log is not committed to its end"]
    async with opened(stores) as connection:
        for text, said in _UNREST.items():
            if count := await connection.fetchval(text):
                found.append(f"{count} {said}")
    return found


async def whole(stores: Stores, logical: str) -> Sequence[Any]:
    """Every record of the topic, each partition's in order."""
    found: list[Any] = []
    async with _reading(stores, logical) as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
        for each, first in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(each, first)
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=500, max_records=RECORDS_MAX)
            found += [record for records in batches.values() for record in records]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def ends(stores: Stores) -> Mapping[int, int]:
    """The next offset of each partition of the log."""
    async with _reading(stores, NOTIFICATIONS) as (consumer, partitions):
        return {each.partition: end for each, end in (await consumer.end_offsets(partitions)).items()}


async def committed(stores: Stores) -> Mapping[int, int]:
    """The offsets of the log that the workers' group has committed."""
    async with asked(stores) as admin:
        offsets = await admin.list_consumer_group_offsets(stores.group)
    topic = stores.topic(NOTIFICATIONS)
    return {each.partition: told.offset for each, told in offsets.items() if each.topic == topic and told.offset >= 0}


async def partitions(stores: Stores, logical: str) -> Sequence[Mapping[str, Any]]:
    """Each partition of the topic with its `leader` and the `isr` that are in sync with it."""
    async with asked(stores) as admin:
        (topic,) = await admin.describe_topics([stores.topic(logical)])
    found: Sequence[Mapping[str, Any]] = topic["partitions"]
    return found


@asynccontextmanager
async def opened(stores: Stores) -> AsyncIterator[Any]:
    """A connection to the order store."""
    connection = await asyncpg.connect(stores.postgres, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def asked(stores: Stores) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for questions about topics and groups."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def _reading(stores: Stores, logical: str) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    there = [TopicPartition(stores.topic(logical), each["partition"]) for each in await partitions(stores, logical)]
    consumer = AIOKafkaConsumer(bootstrap_servers=stores.kafka, enable_auto_commit=False, auto_offset_reset="none")
    await consumer.start()
    try:
        consumer.assign(there)
        yield consumer, there
    finally:
        await consumer.stop()


def _copy(record: Any) -> Copy:
    headers = tuple(record.headers)
    return Copy(
        place=(record.partition, record.offset),
        id=dict(headers)["ce_id"].decode(),
        key=record.key,
        value=record.value,
        headers=headers,
    )
