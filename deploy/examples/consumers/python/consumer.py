"""Follow the orders: a consumer to start from. It needs `alipay-notify` (for `alipay_notify.events`) and `aiokafka`.

    python consumer.py --brokers host:9092 --group fulfilment --database orders.db

An event may come twice, and after a crash an older one may come again. So the store decides, in one transaction:

    dedupe by ce_id       an event that was applied before changes nothing
    order by version      an order is replaced only by a newer version of itself
    ship once             the shipment has the order's key, of which there can be one

The offset is committed after that transaction: a crash between the two brings the events again, and they change
nothing. The first start reads the newest state of every order from the compacted topic, because the topic of events is
shorter. That topic may have older states too, so orders are shipped when all are read: also those that you have shipped
by other means, unless `shipments` has them before. SQLite stands for your database, which any number of these processes
may share.
"""

import argparse
import asyncio
import logging
import signal
import sqlite3
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError
from alipay_notify import events

TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    key BLOB PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL, refunded_minor INTEGER NOT NULL,
    flags TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS applied (event_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS shipments (key BLOB PRIMARY KEY, event_id TEXT NOT NULL);
"""
NEWER = """
INSERT INTO orders VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET version = excluded.version, status = excluded.status,
    refunded_minor = excluded.refunded_minor, flags = excluded.flags
WHERE excluded.version > orders.version
"""
SHIP_ALL = """
INSERT OR IGNORE INTO shipments SELECT key, '' FROM orders WHERE status IN ('PAID', 'FINISHED') AND flags = ''
"""
IS_COMPLETE = 1  # of PRAGMA user_version: the states have been read to their end
BUSY_S = 60.0

log = logging.getLogger("consumer")


class OrderTable:
    """The orders and their shipments, in a database."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        self._database.executescript(TABLES)

    @property
    def is_complete(self) -> bool:
        """Whether the states have been read once."""
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        return bool(version == IS_COMPLETE)

    def complete(self) -> None:
        """Ship the orders that are paid by their states, and remember that these have been read."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._database.execute(SHIP_ALL)
            self._database.execute(f"PRAGMA user_version = {IS_COMPLETE}")

    def apply(self, records: Iterable[Any], *, may_ship: bool = True) -> None:
        """Apply the records of one fetch in one transaction: all of them, or none."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            for record in records:
                event = events.parse(record.headers, record.value)
                if isinstance(event.data, events.OrderState):
                    self._apply(record.key, event, event.data, may_ship=may_ship)

    def _apply(self, key: bytes, event: events.ReceivedEvent, order: events.OrderState, *, may_ship: bool) -> None:
        # A state has the id of its event, so the event is not applied again.
        if not self._database.execute("INSERT OR IGNORE INTO applied VALUES (?)", (event.id,)).rowcount:
            return
        row = (key, order.version, order.status, order.refunded_minor, ",".join(order.flags))
        is_newest = self._database.execute(NEWER, row).rowcount == 1
        if is_newest and may_ship and order.is_safe_to_ship:
            self._database.execute("INSERT OR IGNORE INTO shipments VALUES (?, ?)", (key, event.id))


async def read_states(orders: OrderTable, brokers: str, topic: str) -> None:
    """Read the newest state of every order, from the beginning of the compacted topic to its present end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest", enable_auto_commit=False)
    async with consumer:
        partitions = [TopicPartition(topic, number) for number in await partitions_of(consumer, topic)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        while [each for each in partitions if await consumer.position(each) < ends[each]]:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                orders.apply(records, may_ship=False)
    orders.complete()


async def partitions_of(consumer: Any, topic: str) -> list[int]:
    """Return the topic's partitions, as soon as the brokers tell them."""
    consumer.subscribe([topic])
    while not (found := consumer.partitions_for_topic(topic)):  # noqa: ASYNC110 - the client tells no event
        await asyncio.sleep(0.2)
    consumer.unsubscribe()
    return sorted(found)


async def follow(orders: OrderTable, brokers: str, topic: str, group: str, *, session_s: float) -> None:
    """Apply the events of the partitions that this member of the group gets, until it is cancelled."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=brokers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=int(session_s * 1000),
        heartbeat_interval_ms=int(session_s * 1000 / 6),
    )
    log.info("joining the group")
    async with consumer:
        log.info("following")
        while True:
            fetched = await consumer.getmany(timeout_ms=500, max_records=500)
            for records in fetched.values():
                orders.apply(records)
            if fetched:
                with suppress(CommitFailedError):  # the partitions have moved: their new member gets the events again
                    await consumer.commit()


async def main(arguments: argparse.Namespace) -> None:
    """Read the states once, then follow the events until it is cancelled."""
    orders = OrderTable(arguments.database)
    if not orders.is_complete:
        await read_states(orders, arguments.brokers, f"{arguments.prefix}.order.state.v1")
        log.info("all states are read")
    events_topic = f"{arguments.prefix}.order.event.v1"
    await follow(orders, arguments.brokers, events_topic, arguments.group, session_s=arguments.session_s)


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Do the work until SIGTERM or Ctrl-C, and cancel it then, wherever it is: what is not committed comes again."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Follow the orders into a database.")
    parser.add_argument("--brokers", required=True, help="host:port,host:port")
    parser.add_argument("--group", required=True, help="consumer group; its members share the partitions")
    parser.add_argument("--database", required=True, help="SQLite file, which the members share")
    parser.add_argument("--prefix", default="payments", help="first part of the topics' names")
    parser.add_argument("--session-s", type=float, default=30.0, help="how long after a crash partitions move")
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    asyncio.run(until_signal(main(parser.parse_args())))
