"""Erasure of personal data: which dispositions are old enough, and the loop that erases them step by step."""

import asyncio
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry, Counter

from schemas import record_format
from schemas.times import DAY_MS
from tests.support import log_records
from tests.support.erasure import MemoryErasure
from tests.support.stores import MemoryStore
from tests.support.waiting import until
from workers import erasure, row_codec
from workers.erasure import ErasedSome, Row, Walked
from workers.errors import InfrastructureDown

NOW_MS = log_records.NOW_MS


def row(offset: int, decided_at_ms: int, *, was_held: bool = False, value: bytes | None = b"v") -> Row:
    return (offset, decided_at_ms, was_held, f"n{offset}", "shop", None if value is None else b"k", value, b"h")


def test_walk_ends_before_the_first_that_was_settled_lately() -> None:
    found = [row(1, 10), row(2, 10, value=None), row(5, 99, was_held=True), row(6, 19), row(7, 20), row(8, 10)]
    assert erasure.walked(found, 20) == Walked((found[0][3:], found[3][3:]), 6, 4)
    assert erasure.walked(found[4:], 20) is None
    assert erasure.walked([], 20) is None
    assert erasure.walked([row(3, 99, was_held=True)], 20) == Walked((), 3, 1), "held ones are found by another way"


def test_erased_columns_are_still_a_record() -> None:
    record = log_records.sealed(urlencode(log_records.payment("A1", buyer_id="2088")).encode(), "A1")
    value, headers = erasure.erased(record.key, record.value, row_codec.headers(record))
    contents = record_format.decode(row_codec.record(record.key, value, headers))
    assert b"buyer_id=erased" in contents.body
    assert b"out_trade_no=A1" in contents.body


def running(port: MemoryErasure, counter: Counter, *, days: int = 30, trusts: bool = True) -> "asyncio.Task[None]":
    async def leads() -> bool:
        return True

    return asyncio.create_task(
        erasure.erase_for_ever(
            port,
            days=days,
            now_ms=lambda: NOW_MS,
            is_clock_trusted=lambda: trusts,
            leads=leads,
            counter=counter,
            every_s=0.001,
        )
    )


async def test_loop_erases_until_nothing_is_left_and_goes_on_after_an_outage() -> None:
    port, counter = MemoryErasure(MemoryStore()), Counter("erased", "", registry=CollectorRegistry())
    port.steps = [ErasedSome(count=200, is_more=True), InfrastructureDown("away"), ErasedSome(count=3, is_more=False)]
    task = running(port, counter)
    await until(lambda: len(port.asked) > 4, within_s=30)
    task.cancel()
    assert set(port.asked) == {NOW_MS - 30 * DAY_MS}
    assert next(sample.value for metric in counter.collect() for sample in metric.samples) == 203


async def test_nothing_is_erased_without_a_retention_or_while_the_clock_is_not_trusted() -> None:
    for days, trusts in ((0, True), (30, False)):
        port, counter = MemoryErasure(MemoryStore()), Counter("erased", "", registry=CollectorRegistry())
        task = running(port, counter, days=days, trusts=trusts)
        await asyncio.sleep(0.05)
        task.cancel()
        assert port.asked == []
