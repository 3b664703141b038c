"""The example consumers, in Python and for Node, on a real broker: they end with the orders of the store.

The topic of events begins after the first changes, as after its retention; one event in twenty comes again, and a
member of each group is killed in between. CloudEvents' own library reads the same records.
"""

import asyncio
import json
import os
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from schemas import event_names, events, topics
from schemas.events import Outgoing
from schemas.orders import PAID_STATUSES
from schemas.record_format import Record
from tests.support import kafka_topics, log_records
from tests.support.fakes import PlanObserver
from tests.support.log_records import Time
from tests.support.node import environment
from tests.support.paths import ROOT
from tests.support.stores import MemoryStore
from workers.emission import Published
from workers.errors import InfrastructureDown
from workers.kafka import clients
from workers.kafka.events import KafkaEvents

Kept = tuple[int, str, int]
CONSUMERS = ROOT / "deploy/examples/consumers"
ORDERS = 60
PARTITIONS = 4
REDELIVERED = 0.05
SESSION_MS = 6000  # the broker allows no shorter one
WITHIN_S = 120.0
JOINING = b"joining the group"
LIVES = (
    ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED"),
    ("WAIT_BUYER_PAY", "TRADE_SUCCESS"),
    ("WAIT_BUYER_PAY", "TRADE_CLOSED"),
    ("TRADE_SUCCESS", "WAIT_BUYER_PAY", "TRADE_FINISHED"),
    ("TRADE_SUCCESS", "TRADE_CLOSED"),  # refunded
)
REFUNDED = LIVES[-1]
REFUND = {
    "gmt_payment": "2025-10-09 16:53:18",
    "gmt_refund": "2025-10-09 17:53:18",
    "refund_status": "REFUND_SUCCESS",
}


class Topics:
    """The topics of events under a prefix of the test's own. It sends some events again, as after a crash."""

    def __init__(self, bootstrap: str) -> None:
        self.connection = {"bootstrap_servers": bootstrap}
        self.prefix = f"t{secrets.token_hex(6)}"
        self.sent: list[Outgoing] = []
        self.sent_again = 0
        self.events = KafkaEvents(lambda: clients.producer(self.connection), named=self.named)
        self.away = self.events.away
        self._chance = random.Random(20251009)

    def named(self, topic: str) -> str:
        return topics.named(topic, self.prefix)

    async def make(self) -> None:
        async with kafka_topics.admin(self.connection) as admin:
            policies = {topics.ORDER_EVENT: "delete", topics.ORDER_STATE: "compact"}
            await admin.create_topics(
                [
                    NewTopic(self.named(topic), PARTITIONS, 1, topic_configs={"cleanup.policy": policy})
                    for topic, policy in policies.items()
                ]
            )

    async def publish(self, outgoing: Sequence[Outgoing]) -> Published:
        """As `KafkaEvents`; afterwards one in twenty of all events so far comes again."""
        published = await self.events.publish(outgoing)
        self.sent += [outgoing[index] for index in published.acknowledged]
        await self.send_again([event for event in self.sent if self._chance.random() < REDELIVERED])
        return published

    async def send_again(self, outgoing: Sequence[Outgoing]) -> None:
        """Send events again, also to the states, which then end with an older one."""
        left = [*outgoing]
        async with asyncio.timeout(WITHIN_S):
            while left:
                with suppress(InfrastructureDown):
                    arrived = {*(await self.events.publish(left)).acknowledged}
                    left = [event for index, event in enumerate(left) if index not in arrived]
                    self.sent_again += len(arrived)

    async def forget_events(self) -> None:
        """Delete all that the topic of events has, as its retention does after a month."""
        places = [TopicPartition(self.named(topics.ORDER_EVENT), each) for each in range(PARTITIONS)]
        reader = AIOKafkaConsumer(**self.connection)
        async with reader:
            ends = await reader.end_offsets(places)
        async with kafka_topics.admin(self.connection) as admin:
            await admin.delete_records({place: RecordsToDelete(end) for place, end in ends.items()})

    async def read(self, topic: str) -> list[Any]:
        reader = AIOKafkaConsumer(**self.connection, auto_offset_reset="earliest")
        async with reader:
            places = [TopicPartition(self.named(topic), each) for each in range(PARTITIONS)]
            reader.assign(places)
            ends = await reader.end_offsets(places)
            found: list[Any] = []
            while [each for each in places if await reader.position(each) < ends[each]]:
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += records
        return found


def notification(order: int, number: int) -> Record | None:
    """The notification of an order's life with this number; `None` after its end."""
    life = LIVES[order % len(LIVES)]
    more: dict[str, Any] = REFUND if life == REFUNDED and number else {}
    return log_records.record(f"N{order}", life[number], **more) if number < len(life) else None


class Shop:
    """An order store, and the workers' processing over it."""

    def __init__(self, topics_: Topics) -> None:
        self.store = MemoryStore()
        self._offset = 1
        self._work = log_records.processing(self.store, Time(), topics_, PlanObserver())  # type: ignore[arg-type]

    async def hear(self, orders: range, *numbers: int) -> None:
        """Process these notifications of each order, one after the other, and send what follows."""
        for number in numbers:
            told = [record for order in orders if (record := notification(order, number)) is not None]
            await self._work.process(log_records.logged(told, first=self._offset))
            self._offset += len(told)
        async with asyncio.timeout(WITHIN_S):
            while await self._emit():
                pass

    async def _emit(self) -> bool:
        """As the relay does: if the topics take no events now, again."""
        try:
            return bool(await self._work.emit())
        except InfrastructureDown:
            await asyncio.sleep(0.2)
            return True

    def orders(self) -> dict[str, Kept]:
        """What a consumer has to end with: the version, status and refunds of each order, by its key."""
        return {
            ":".join(key): (order.version, self.store.views[key].status.value, self.store.views[key].refunded_minor)
            for key, order in self.store.orders.items()
        }


class Group:
    """The members of a consumer group, which share a place for their orders."""

    def __init__(self, command: list[str], place: Path, environ: dict[str, str]) -> None:
        self._command = command
        self._environ = environ
        self.place = place
        self.log = place.with_suffix(".log")
        self.members: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.members.append(
                subprocess.Popen(self._command, env=self._environ, stdout=log, stderr=log, cwd=self.place.parent)
            )

    def kill(self) -> None:
        """Kill the oldest member."""
        victim = self.members.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    def check(self) -> None:
        assert all(member.poll() is None for member in self.members), self.told()

    def told(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    async def stop_one_that_joins(self) -> int:
        """Start a member while the others are frozen, so that the group cannot take it in, and stop it by SIGTERM."""
        others, before = [*self.members], self.log.stat().st_size
        for member in others:
            member.send_signal(signal.SIGSTOP)
        self.start()
        joining = self.members[-1]
        async with asyncio.timeout(WITHIN_S):
            while JOINING not in self.log.read_bytes()[before:]:
                await asyncio.sleep(0.1)
        joining.terminate()
        code = await asyncio.to_thread(joining.wait, WITHIN_S)
        self.members.remove(joining)
        for member in others:
            member.send_signal(signal.SIGCONT)
        return code

    def stop(self) -> set[int]:
        """Stop all members by SIGTERM; return their exit codes."""
        for member in self.members:
            member.terminate()
        return {member.wait(WITHIN_S) for member in self.members}

    def end(self) -> None:
        """Kill the members that are left."""
        for member in self.members:
            member.kill()
            member.wait()


def of_python(group: Group) -> tuple[dict[str, Kept], set[str]]:
    """The orders that the group has in its database, and those that it has shipped."""
    database = sqlite3.connect(group.place, timeout=60)
    try:
        rows = database.execute("SELECT key, version, status, refunded_minor FROM orders").fetchall()
        shipped = {key.decode() for (key,) in database.execute("SELECT key FROM shipments")}
    except sqlite3.OperationalError:  # no tables yet
        return {}, set()
    finally:
        database.close()
    return {key.decode(): (version, status, refunded) for key, version, status, refunded in rows}, shipped


def of_node(group: Group) -> tuple[dict[str, Kept], set[str]]:
    """The same, of its folder."""
    orders, shipped = {}, set()
    for folder in filter(Path.is_dir, group.place.glob("orders/*")):
        newest = max(folder.glob("[0-9]*.json"), key=lambda path: int(path.stem), default=None)
        if newest is not None:
            event = json.loads(newest.read_text())
            orders[event["key"]] = (event["version"], event["status"], event["refunded_minor"])
            shipped |= {event["key"]} if (folder / "shipped.json").exists() else set()
    return orders, shipped


READ: dict[str, Callable[[Group], tuple[dict[str, Kept], set[str]]]] = {"python": of_python, "node": of_node}


@pytest.fixture
async def sending(kafka: str) -> AsyncIterator[Topics]:
    sending = Topics(kafka)
    await sending.make()
    yield sending
    await sending.events.stop()


@pytest.fixture
def groups(kafka: str, node: Path, sending: Topics, tmp_path: Path) -> Iterator[dict[str, Group]]:
    """A group of each kind. That in Python has only the module of the wheel that consumers may import."""
    shutil.copytree(ROOT / "schemas/consumer", tmp_path / "wheel/alipay_notify")  # as `pyproject.toml` has it
    common = ["--brokers", kafka, "--prefix", sending.prefix]
    in_python = [sys.executable, "-P", str(CONSUMERS / "python/consumer.py"), *common, "--group", "in-python",
                 "--database", str(tmp_path / "orders.db"), "--session-s", str(SESSION_MS / 1000)]  # fmt: skip
    for_node = [str(node), str(CONSUMERS / "node/consumer.js"), *common, "--group", "for-node",
                "--folder", str(tmp_path / "orders"), "--session-ms", str(SESSION_MS)]  # fmt: skip
    started = {
        "python": Group(in_python, tmp_path / "orders.db", os.environ | {"PYTHONPATH": str(tmp_path / "wheel")}),
        "node": Group(for_node, tmp_path / "orders", environment()),
    }
    yield started
    for group in started.values():
        group.end()


async def test_consumers_end_with_the_orders_of_the_store(sending: Topics, groups: dict[str, Group]) -> None:
    shop = Shop(sending)
    await shop.hear(range(ORDERS // 4), 0, 1)  # of these the states have the second version alone
    await shop.hear(range(ORDERS // 4, ORDERS // 2), 0)
    await sending.forget_events()  # only the states have these now
    refunded_before = {key for key, (_, _, refunded) in shop.orders().items() if refunded}
    assert refunded_before

    for group in groups.values():
        group.start()
        group.start()
    await have(groups, shop.orders())
    await shop.hear(range(ORDERS // 2, ORDERS), 0)
    for group in groups.values():
        group.kill()
        group.start()
    for number in (1, 2):
        await shop.hear(range(ORDERS), number)
    assert sending.sent_again > 10
    await sending.send_again(sending.sent[:ORDERS])  # the oldest, some of which only the states had
    await shop.hear(range(ORDERS, ORDERS + 5 * PARTITIONS), 0)  # behind them in every partition

    await have(groups, shop.orders())
    paid = {key for key, (_, status, refunded) in shop.orders().items() if status in PAID_STATUSES or refunded}
    shipped = paid - refunded_before
    assert {kind: READ[kind](group)[1] for kind, group in groups.items()} == {"python": shipped, "node": shipped}
    assert {kind: await group.stop_one_that_joins() for kind, group in groups.items()} == {"python": 0, "node": 0}
    assert {kind: group.stop() for kind, group in groups.items()} == {"python": {0}, "node": {0}}
    await check_cloudevents(sending)


async def have(groups: dict[str, Group], wanted: dict[str, Kept]) -> None:
    """Wait until every group has these orders."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while [kind for kind, group in groups.items() if READ[kind](group)[0] != wanted]:
                for group in groups.values():
                    group.check()
                await asyncio.sleep(0.2)
    except TimeoutError:
        for kind, group in groups.items():
            assert READ[kind](group)[0] == wanted, group.told()


async def check_cloudevents(sending: Topics) -> None:
    """Read the events by the library of CloudEvents: attributes and data are those that were sent."""
    sent = {event.id: event for event in sending.sent}
    found = await sending.read(topics.ORDER_EVENT)
    assert {dict(record.headers)["ce_id"].decode() for record in found} <= sent.keys()
    for record in found:
        read = from_binary(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())
        event = sent[read.get_id()]
        data = events.decoded(event.value)
        assert read.get_data() == data
        assert (read.get_specversion(), read.get_type(), read.get_datacontenttype()) == (
            "1.0",
            data["type"],
            "application/json",
        )
        assert (read.get_source(), read.get_subject()) == ("/alipay-notify/shop-sg", data["order"])
        assert read.get_time() == datetime.fromisoformat(data["occurred_at"])
        assert read.get_dataschema() == event_names.LOGICAL.schema_of(topics.ORDER_EVENT)
        assert read.get_extension("partitionkey") == event.key.decode()
    assert len(found) > ORDERS
