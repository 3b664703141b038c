"""Holding in every order store: one that is refused, one with a long reason, and one far away beside many due now."""

import asyncio
from collections.abc import Sequence

import pytest

from deploy.embedded.locks import LocalLocks
from deploy.embedded.store import SqliteOrderStore
from schemas import interpret
from schemas.dispositions import Disposition, Reason
from schemas.notification import Unreadable
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import dispositions, parked
from tests.contract.test_store_held import retry_when_due
from tests.support import begun, log_records
from tests.support.log_records import Time
from tests.support.waiting import until
from workers.consumer import Consumer
from workers.errors import InfrastructureDown
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.settlement.plan import LogRecord, Position
from workers.sweeper import Sweeper

HOUR_MS = 3_600_000
DETAIL_MAX = 1000
ROUND = 100


async def refuse_held_rows(store: AnyStore) -> None:
    """Plant a constraint that no held row satisfies."""
    if isinstance(store, SqliteOrderStore):
        trigger = "CREATE TRIGGER planted BEFORE INSERT ON held BEGIN SELECT RAISE(ABORT, 'planted'); END"
        await store.database.write(lambda connection: connection.execute(trigger))
    else:
        assert isinstance(store, PostgresOrderStore)
        constraint = "ALTER TABLE held ADD CONSTRAINT planted CHECK (false) NOT VALID"
        await store.database.write(lambda connection: connection.execute(constraint))


async def take_held_rows(store: AnyStore) -> None:
    if isinstance(store, SqliteOrderStore):
        await store.database.write(lambda connection: connection.execute("DROP TRIGGER planted"))
    else:
        assert isinstance(store, PostgresOrderStore)
        await store.database.write(lambda connection: connection.execute("ALTER TABLE held DROP CONSTRAINT planted"))


class OneBatch:
    """A log of one batch, which is polled once."""

    def __init__(self, batch: Sequence[LogRecord]) -> None:
        self._batch = batch
        self.committed: list[Position] = []

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        batch, self._batch = self._batch, []
        if not batch:
            await asyncio.sleep(0.01)
        return batch

    async def commit(self, upto: Sequence[Position]) -> None:
        self.committed += upto


class Pauses:
    """The waits of a consumer, as its log has them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        self.texts.append(str(error))

    def lock_outcome(self, outcome: str, count: int) -> None: ...

    def lock_span(self, span: str, seconds: float) -> None: ...

    def step(self, name: str, seconds: float) -> None: ...


async def test_record_that_cannot_be_held_waits_and_is_held_when_the_store_takes_it(
    work: Processing, store: AnyStore
) -> None:
    bad = log_records.sealed(b"no form of Alipay's", "B", account=log_records.SHOP)
    batch = log_records.logged([log_records.record("A"), bad, log_records.record("C")])
    source, pauses = OneBatch(batch), Pauses()
    consumer = Consumer(
        source=source,
        locks=LocalLocks(),
        process=work.process,
        wake_relay=lambda: None,
        observer=pauses,
        token=b"tests",
        fatal=begun.without_notes(),
    )
    await refuse_held_rows(store)
    running = asyncio.create_task(consumer.run())
    await until(lambda: pauses.texts, within_s=60)
    assert "refused to hold a dead letter" in pauses.texts[0]
    assert source.committed == []
    assert await store.held_page("0-2") is None
    await take_held_rows(store)
    await until(lambda: source.committed, within_s=60)
    consumer.stop()
    await running
    page = await store.held_page("0-2")
    assert page is not None
    assert page.row.record == bad
    assert [await dispositions(store, order) for order in "AC"] == [["applied"]] * 2


async def test_long_reason_is_cut_and_the_bytes_are_whole(
    work: Processing, store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object, **options: object) -> object:
        raise Unreadable(Reason.MALFORMED, "\0é" * (1 << 19))

    record = log_records.record("A")
    monkeypatch.setattr(interpret, "read", read)
    await work.process(log_records.logged([record]))
    page = await store.held_page("0-1")
    assert page is not None
    assert page.row.reason is Reason.MALFORMED
    assert 0 < len(page.row.detail) <= DETAIL_MAX
    assert page.row.record == record


async def test_notifications_due_now_do_not_wait_behind_a_far_one(
    work: Processing, store: AnyStore, time: Time
) -> None:
    await work.process(log_records.logged([parked("FAR")]))
    far_ms = time.now_ms
    while far_ms - time.now_ms < HOUR_MS:
        await retry_when_due(work, store, time, 1)
        far_ms = await store.next_due_ms() or 0
    near = log_records.logged([parked(f"N{number}") for number in range(5 * ROUND)], first=2)
    await work.process(near)
    due_ms = await store.next_due_ms()
    assert due_ms is not None
    assert due_ms < far_ms
    time.now_ms = due_ms + 1000  # their waits differ by a little chance
    sweeper = Sweeper(
        parked=store,
        retry=work.retry,
        wake_relay=lambda: None,
        woken=asyncio.Event(),
        observer=Pauses(),
        now_ms=time,
        rows_max=ROUND,
    )
    rounds = [await sweeper.run_once() for _ in range(6)]
    assert rounds == [ROUND] * 5 + [0]
    for id_ in ("0-2", f"0-{1 + 5 * ROUND}"):
        near_page = await store.held_page(id_)
        assert near_page is not None
        assert near_page.row.attempts == 1
    far_page = await store.held_page("0-1")
    assert far_page is not None
    assert (far_page.row.due_at_ms, far_page.row.disposition) == (far_ms, Disposition.PARKED)
