"""The life of a process: configuration, signals, the admin port's address, and chores that fail."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy import exits, process, settings
from deploy.logs import LogWriter
from schemas.accounts import BadAccounts
from tests.support import alipay
from tests.support.fakes import MemoryLogger
from workers.admin.guard import OpenAdmin
from workers.admin.probes import Check
from workers.admin.process_state import ProcessRole


async def test_failed_chore_is_logged_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "RESTART_AFTER_S", 0.0)
    log = MemoryLogger()
    begun = 0
    goes_on = asyncio.Event()

    async def chore() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise KeyError("a fault of ours")
        goes_on.set()
        await asyncio.Event().wait()

    async def nothing() -> list[Check]:
        return []

    async with asyncio.timeout(5), process.background_tasks(CollectorRegistry(), nothing, log, chore):
        await goes_on.wait()
    assert [event for event, _ in log.lines].count("a housekeeping loop failed") == 2


async def test_health_checks_are_exported_as_gauges() -> None:
    registry = CollectorRegistry()
    checked = asyncio.Event()

    async def health() -> list[Check]:
        checked.set()
        return [process.check("kafka", None), process.check("store", "gone"), process.check("topics", "weak")]

    async with asyncio.timeout(5), process.background_tasks(registry, health, MemoryLogger()):
        await checked.wait()
        while registry.get_sample_value("alipay_notify_ready") is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert registry.get_sample_value("alipay_notify_ready") == 0
    up = [registry.get_sample_value("alipay_notify_dependency_up", {"dependency": name}) for name in ("kafka", "store")]
    assert up == [1, 0]


async def test_every_process_exports_its_memory_its_files_and_no_creation_times() -> None:
    @asynccontextmanager
    async def running(registry: CollectorRegistry) -> AsyncIterator[CollectorRegistry]:
        yield registry

    async def look(registry: CollectorRegistry) -> None:
        found.update(sample.name for family in registry.collect() for sample in family.samples)
        os.kill(os.getpid(), signal.SIGTERM)

    found: set[str] = set()
    await asyncio.wait_for(process.run_until_signal(running, LogWriter(io.StringIO()), look), 30)
    expected = {"process_resident_memory_bytes", "process_open_fds", "python_gc_collections_total"}
    assert found >= expected | {"alipay_notify_log_lines_dropped_total", "alipay_notify_build_info"}
    assert [name for name in found if name.endswith("_created")] == []


async def test_tasks_of_the_event_loop_are_counted_when_they_are_scraped() -> None:
    async def nothing() -> list[Check]:
        return []

    def count() -> float:
        return registry.get_sample_value("alipay_notify_async_tasks") or 0.0

    registry = CollectorRegistry()
    async with asyncio.timeout(5), process.background_tasks(registry, nothing, MemoryLogger()):
        while not count():  # noqa: ASYNC110
            await asyncio.sleep(0)
        before = count()
        more = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
        assert await asyncio.to_thread(count) == before + 3
        for each in more:
            each.cancel()


async def test_signal_leaves_the_process_in_good_order(tmp_path: Path) -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def running(_: CollectorRegistry) -> AsyncIterator[str]:
        yield "it"
        happened.append("left")

    async def started(what: str) -> None:
        happened.append(f"started {what}")
        os.kill(os.getpid(), signal.SIGTERM)

    with (tmp_path / "log").open("w") as stream:
        async with asyncio.timeout(10):
            await process.run_until_signal(running, LogWriter(stream), started)
    assert happened == ["started it", "left"]


class Part:
    """A process with a part that stops when `stopped` is set; keeps the order in which its other parts end."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.happened: list[str] = []
        self.ends = asyncio.Event()
        self.ends.set()

    @asynccontextmanager
    async def running(self, _: CollectorRegistry) -> AsyncIterator[str]:
        try:
            async with process.ending_when(self.stopped, lambda: "20 dead letters"):
                yield "it"
        finally:
            await self.ends.wait()
            self.happened.append("left")

    async def started(self, what: str) -> None:
        self.stopped.set()


async def test_part_that_stops_itself_ends_the_process_in_good_order(tmp_path: Path) -> None:
    part = Part()
    with (tmp_path / "log").open("w") as stream, pytest.raises(process.StoppedItself, match="20 dead letters"):
        async with asyncio.timeout(10):
            await process.run_until_signal(part.running, LogWriter(stream), part.started)
    assert part.happened == ["left"]


async def test_process_that_stopped_itself_and_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    part = Part()
    part.ends.clear()
    loop = asyncio.get_running_loop()

    def end(code: int) -> None:
        codes.append(code)
        loop.call_soon_threadsafe(part.ends.set)

    monkeypatch.setattr(process, "END_MAX_S", 0.05)
    monkeypatch.setattr(os, "_exit", end)
    with (tmp_path / "log").open("w") as stream, pytest.raises(process.StoppedItself):
        async with asyncio.timeout(10):
            await process.run_until_signal(part.running, LogWriter(stream), part.started)
    assert codes == [exits.STOPPED_ITSELF]


async def test_block_that_ends_or_is_cancelled_by_others_is_left_alone() -> None:
    stopped = asyncio.Event()
    async with process.ending_when(stopped, lambda: "never"):
        pass
    stopped.set()
    await asyncio.sleep(0.01)

    async def block() -> None:
        async with process.ending_when(asyncio.Event(), lambda: "never"):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.0.0.1", "10.0.0.1"), ("localhost", "localhost")],
)
def test_url_names_an_address_that_this_machine_reaches(host: str, shown: str) -> None:
    assert process.url(host, 80) == f"http://{shown}:80"


def test_config_is_refused_without_accounts_or_with_an_open_admin_port(tmp_path: Path) -> None:
    with pytest.raises(BadAccounts, match="cannot be read"):
        process.read_config(settings.load({}, accounts=tmp_path / "none.toml"))
    key = alipay.written(tmp_path, "alipay.pem", alipay.pem(alipay.rsa_key()))
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(f'[accounts.a]\nfamily = "mapi"\nsign_type = "RSA"\nkeys = ["{key}"]\nseller_id = "1"\n')
    config = process.read_config(settings.load({}, accounts=accounts))
    assert config.admin_access.first_token is None
    identity = process.identity(ProcessRole.WORKER, config)
    assert identity.instance.endswith(f"-{os.getpid()}")
    assert (identity.version, identity.started_at_ms > 0) == (process.version_text(), True)
    with pytest.raises(OpenAdmin):
        process.read_config(settings.load({}, accounts=accounts, admin_host="0.0.0.0"))
