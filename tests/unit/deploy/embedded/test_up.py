"""Readiness of the engine, and its event topics. A whole engine: tests/acceptance."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from deploy.embedded import housekeeping, up
from workers.restarts import LoopName


def ready(
    *,
    journal: str | None = None,
    store: str | None = None,
    worker: str | None = None,
    loops: str = "",
    log_bytes: int = 0,
) -> Any:
    database = SimpleNamespace(log_bytes=lambda: log_bytes, path=Path("orders.sqlite3"))
    files: Any = SimpleNamespace(
        journal=SimpleNamespace(trouble=journal, database=database),
        store=SimpleNamespace(trouble=store, database=database),
    )
    running: Any = SimpleNamespace(trouble=worker, loops_trouble=loops)
    return up._EngineHealth(files, running, None)


async def failed_checks(health: Any) -> list[tuple[str, bool]]:
    return [(check.name, check.is_needed) for check in await health.checks() if not check.ok]


async def test_journal_in_trouble_makes_the_engine_unready() -> None:
    assert ("journal", True) in await failed_checks(ready(journal="disk full"))


async def test_store_in_trouble_is_reported_but_the_engine_stays_ready() -> None:
    assert ("store", False) in await failed_checks(ready(store="locked"))


async def test_worker_that_stands_is_reported_but_the_engine_stays_ready() -> None:
    assert ("worker", False) in await failed_checks(ready(worker="20 dead letters in a row"))
    assert ("loops", False) in await failed_checks(ready(loops="sweeper failed: KeyError"))


async def test_long_write_ahead_log_is_reported_but_the_engine_stays_ready() -> None:
    assert ("write-ahead logs", False) in await failed_checks(ready(log_bytes=housekeeping.LOG_BYTES_MAX))
    assert "write-ahead logs" not in [name for name, _ in await failed_checks(ready())]


async def test_failed_consumer_gives_its_records_back_to_the_journal() -> None:
    rewound = []
    source: Any = SimpleNamespace(rewind=lambda: rewound.append(True))
    for loop in LoopName:
        await up._let_go(source, loop)
    assert rewound == [True]


async def test_engine_is_not_ready_before_its_public_port_answers() -> None:
    assert [name for name, is_needed in await failed_checks(ready()) if is_needed] != []


async def test_published_events_need_no_further_work() -> None:
    await up.EmbeddedFeed().publish([])
