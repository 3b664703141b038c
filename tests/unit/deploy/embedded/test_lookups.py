"""Queries of the SQLite store. What each returns: tests/contract/test_store_lookups.py and test_store_held.py."""

import pytest

from deploy.embedded import lookups
from deploy.embedded.directory import EngineFiles
from tests.support import log_records
from tests.support.log_records import Time
from tests.unit.deploy.embedded.engine_files import settled


async def test_timeline_keeps_the_latest_deliveries_and_events(
    files: EngineFiles, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "TIMELINE_MAX", 2)
    await settled(files, time, "WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
    page = await files.store.order_page("shop-sg", "N1")
    assert page is not None
    assert [each.position.offset for each in page.deliveries] == [2, 3]
    assert [each.event.id for each in page.events] == ["shop-sg:N1:2", "shop-sg:N1:3"]


async def test_unsent_events_come_oldest_first_up_to_the_limit(files: EngineFiles, time: Time) -> None:
    for order in ("N2", "N1", "N3"):
        await files.journal.append(log_records.record(order))
    await log_records.processing(files.store, time).process(await files.journal.read(0, 10))
    unsent = await files.store.database.read(lambda connection: lookups.unsent(connection, 2))
    assert [each.event.id for each in unsent] == ["shop-sg:N2:1", "shop-sg:N1:1"]
    await files.store.mark_sent([unsent[0].number])
    later = await files.store.database.read(lambda connection: lookups.unsent(connection, 10))
    assert [each.event.id for each in later] == ["shop-sg:N1:1", "shop-sg:N3:1"]
