"""`listen` on a real topic of order events, as workers publish them."""

import asyncio
import json
import secrets

from aiokafka.admin import NewTopic

from schemas import topics
from tests.contract.test_load_topic import known
from tests.support import kafka_topics, log_records
from tests.support.log_records import Time
from tests.support.stores import MemoryStore
from tests.unit.deploy.cli.commands import run
from workers.kafka import clients
from workers.kafka.events import KafkaEvents

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")


async def test_topic_is_shown_from_its_start_with_filters(kafka: str) -> None:
    connection, prefix = {"bootstrap_servers": kafka}, f"t{secrets.token_hex(6)}"

    def named(topic: str) -> str:
        return topics.named(topic, prefix)

    async with kafka_topics.admin(connection) as admin:
        await admin.create_topics([NewTopic(named(each), 2, 1) for each in (topics.ORDER_EVENT, topics.ORDER_STATE)])
    await known(kafka, named(topics.ORDER_EVENT))
    await known(kafka, named(topics.ORDER_STATE))
    store = MemoryStore()
    records = [log_records.record("A1", status) for status in STATUSES]
    await log_records.processing(store, Time()).process(log_records.logged(records))
    publisher = KafkaEvents(lambda: clients.producer(connection), named=named)
    try:
        async with asyncio.timeout(60):
            left = [event for _, event in await store.unsent(10)]
            while left:
                arrived = {*(await publisher.publish(left)).acknowledged}
                left = [event for index, event in enumerate(left) if index not in arrived]
    finally:
        await publisher.stop()
    environment = {"ALIPAY_NOTIFY_KAFKA": kafka, "ALIPAY_NOTIFY_TOPIC_PREFIX": prefix}
    command = ("listen", "--from-start", "--output", "event")
    every = await asyncio.to_thread(run, environment, *command, "--limit", "3")
    assert every.exit_code == 0, every.output
    found = [json.loads(line) for line in every.stdout.splitlines()]
    assert [event["id"] for event in found] == [f"shop-sg:A1:{version}" for version in (1, 2, 3)]
    assert [event["data"]["status"] for event in found] == ["WAITING", "PAID", "FINISHED"]
    one = await asyncio.to_thread(run, environment, *command, "--limit", "1", "--type", "finished")
    assert json.loads(one.stdout) == found[2]
    absent = await asyncio.to_thread(run, environment | {"ALIPAY_NOTIFY_TOPIC_PREFIX": "none"}, *command)
    assert (absent.exit_code, "there is no topic none.order.event.v1" in absent.stderr) == (1, True)
