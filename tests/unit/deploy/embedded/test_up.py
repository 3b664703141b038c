"""Readiness of the engine, and its event topics. A whole engine: tests/acceptance."""

from types import SimpleNamespace
from typing import Any

from deploy.embedded import up


def ready(*, journal: str | None = None, store: str | None = None, worker: str | None = None) -> Any:
    files: Any = SimpleNamespace(journal=SimpleNamespace(trouble=journal), store=SimpleNamespace(trouble=store))
    running: Any = SimpleNamespace(trouble=worker)
    return up._EngineHealth(files, running)


async def failed_checks(health: Any) -> list[tuple[str, bool]]:
    return [(check.name, check.is_needed) for check in await health.checks() if not check.ok]


async def test_journal_in_trouble_makes_the_engine_unready() -> None:
    assert ("journal", True) in await failed_checks(ready(journal="disk full"))


async def test_store_in_trouble_is_reported_but_the_engine_stays_ready() -> None:
    assert ("store", False) in await failed_checks(ready(store="locked"))


async def test_worker_that_stopped_itself_makes_the_engine_unready() -> None:
    assert ("worker", True) in await failed_checks(ready(worker="stopped"))


async def test_engine_is_not_ready_before_its_public_port_answers() -> None:
    assert [name for name, is_needed in await failed_checks(ready()) if is_needed] != []


async def test_published_events_need_no_further_work() -> None:
    await up.EmbeddedFeed().publish([])
