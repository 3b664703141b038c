"""Records that a newer release wrote wait in every order store, and are applied once after the upgrade."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from msgspec import structs

from schemas import record_format
from schemas.dispositions import Disposition, Reason
from schemas.record_format import Header, Record
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import dispositions
from tests.support import log_records
from tests.support.log_records import Time
from workers.processing import Processing
from workers.queries import HeldQuery

NEXT = record_format.VERSION + 1
DAY_MS = 86_400_000


def by_next_release(record: Record) -> Record:
    headers = [(name, value) for name, value in record.headers if name != Header.VERSION.value]
    return structs.replace(record, headers=((Header.VERSION.value, b"%d" % NEXT), *headers))


@contextmanager
def upgraded() -> Iterator[None]:
    """The release that reads the next format too."""
    with (
        mock.patch.object(record_format, "VERSION", NEXT),
        mock.patch.object(record_format, "VERSIONS_READ", range(1, NEXT + 1)),
    ):
        yield


async def test_records_of_a_newer_receiver_wait_for_the_upgrade_and_are_applied_once(
    work: Processing, store: AnyStore, time: Time
) -> None:
    batch = log_records.logged(
        [log_records.record("N1"), by_next_release(log_records.record("N2")), log_records.record("N3")]
    )
    await work.process(batch)
    assert [await dispositions(store, order) for order in ("N1", "N3")] == [["applied"]] * 2
    for _ in range(60):  # the old leader sweeps for days, longer than an unregistered order is waited for
        due_ms = await store.next_due_ms()
        assert due_ms is not None
        time.now_ms = max(due_ms, time.now_ms + DAY_MS // 10)
        await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.disposition, page.row.reason) == (Disposition.PARKED, Reason.NEWER_ENVELOPE)
    assert page.row.record == batch[1].record
    with upgraded():  # a worker of the new release gets the partition, and the batch again
        await work.process(batch)
    assert len(await store.held_list(HeldQuery())) == 1, "a redelivered record has its disposition"
    await work.process(batch)  # and the old one again
    due_ms = await store.next_due_ms()
    assert due_ms is not None
    time.now_ms = max(due_ms, time.now_ms)
    with upgraded():
        await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    assert await store.held_list(HeldQuery()) == []
    assert await dispositions(store, "N2") == ["applied"]
    page_of_order = await store.order_page("shop-sg", "N2")
    assert page_of_order is not None
    assert [each.event.id for each in page_of_order.events] == ["shop-sg:N2:1"]


async def test_only_records_of_a_newer_receiver_stop_no_worker(work: Processing, store: AnyStore) -> None:
    """A whole fleet of receivers is upgraded first, so that all records of many batches are unknown."""
    for first in range(1, 201, 50):
        records = [by_next_release(log_records.record(f"N{number}")) for number in range(first, first + 50)]
        await work.process(log_records.logged(records, first=first))
    (group,) = await store.held_groups(HeldQuery())
    assert (group.count, group.disposition) == (200, Disposition.PARKED)
