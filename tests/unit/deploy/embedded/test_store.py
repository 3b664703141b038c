"""The SQLite order store: pruned events, early wakes, audit rows. Its ports: tests/contract/test_store.py."""

import sqlite3

import pytest

from deploy.embedded import store
from deploy.embedded.directory import EngineFiles
from schemas import topics
from tests.contract.shortcuts import register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from tests.unit.deploy.embedded.engine_files import DAY_MS, outbox, settled
from workers.settlement.verdicts import DecisionRefused


async def test_newest_event_of_an_order_is_kept_and_its_successor_fits(files: EngineFiles, time: Time) -> None:
    await settled(files, time, "WAIT_BUYER_PAY", "TRADE_SUCCESS")
    time.now_ms = NOW_MS + 400 * DAY_MS
    assert await files.store.prune_sent(older_than_ms=time.now_ms) == 1
    assert await outbox(files) == ["shop-sg:N1:2"]
    await settled(files, time, "TRADE_FINISHED")
    page = await files.store.order_page("shop-sg", "N1")
    assert page is not None
    assert [each.event.id for each in page.events] == ["shop-sg:N1:2", "shop-sg:N1:3"]


async def test_unsent_events_are_not_pruned(files: EngineFiles, time: Time) -> None:
    await files.journal.append(log_records.record("N1", "WAIT_BUYER_PAY"))
    await files.journal.append(log_records.record("N1"))
    await log_records.processing(files.store, time).process(await files.journal.read(0, 10))
    assert await files.store.prune_sent(older_than_ms=NOW_MS + 400 * DAY_MS) == 0


async def test_old_notices_are_pruned(files: EngineFiles, time: Time) -> None:
    await files.journal.append(log_records.sealed(b"no form at all", "X"))
    work = log_records.processing(files.store, time)
    await work.process(await files.journal.read(0, 10))
    (waiting,) = await files.store.unsent(10)
    assert waiting[1].topic == topics.HELD
    await work.emit()
    assert await files.store.prune_sent(older_than_ms=NOW_MS + 1) == 1


async def test_registration_sets_woken_only_if_it_wakes_a_parked_row(files: EngineFiles, time: Time) -> None:
    await register(files.store, "P2")
    assert not files.store.woken.is_set()
    await files.journal.append(log_records.record("P1", account=REGISTERED))
    await log_records.processing(files.store, time).process(await files.journal.read(0, 10))
    assert not files.store.woken.is_set()
    await register(files.store, "P1")
    assert files.store.woken.is_set()


async def test_operator_actions_leave_audit_rows(files: EngineFiles, time: Time) -> None:
    await files.journal.append(log_records.record("P1", account=REGISTERED))
    await log_records.processing(files.store, time).process(await files.journal.read(0, 10))
    await files.store.note_replay(["0-1", "nonsense"], by="ana", why="fixed", now_ms=NOW_MS)
    operator = log_records.Operator(files.store, time)
    await operator.discard("0-1", by="bo")
    with pytest.raises(DecisionRefused):
        await operator.discard("0-1", by="bo", why="again")
    await register(files.store, "P1")

    def rows(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
        return connection.execute("SELECT action, subject, by_whom, why FROM audit ORDER BY entry").fetchall()

    assert await files.store.database.read(rows) == [
        ("replay", "0-1", "ana", "fixed"),
        ("discard", "0-1", "bo", "a test order"),
        ("register", f"{REGISTERED.name}:P1", "tests", "so that it is known"),
    ]


async def test_pruning_deletes_a_limited_number_of_events(files: EngineFiles, time: Time) -> None:
    await settled(files, time, "WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
    assert store.PRUNE_ROWS_MAX > 2
    assert await files.store.prune_sent(older_than_ms=NOW_MS + 1) == 2
    assert await outbox(files) == ["shop-sg:N1:3"]
