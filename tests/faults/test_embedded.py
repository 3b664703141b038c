"""Faults of the embedded engine's files that need no second process (F-E03, F-E04, F-E07, F-E13 … F-E18, F-E20)."""

import asyncio
import shutil
import sqlite3
import time as clock
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.directory_lock import AlreadyRunning
from deploy.embedded import directory as engine
from deploy.embedded import sqlite
from deploy.embedded.directory import JOURNAL, STORE, EngineFiles
from deploy.embedded.journal import Journal, JournalLimits
from deploy.embedded.migrations import FileNotUsable
from deploy.embedded.sqlite import Damaged
from deploy.embedded.store import SqliteOrderStore
from ingest.errors import Unavailable
from tests.faults import disks
from tests.support import log_records
from tests.support.fakes import PlanObserver
from tests.support.log_records import Time
from workers.errors import InfrastructureDown
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.settlement.plan import LoadRequest, StoreSnapshot, WritePlan

QUICK = JournalLimits(append_deadline_s=0.2)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[EngineFiles]:
    async with engine.open_files(directory, now_ms=Time(), limits=QUICK) as files:
        yield files


def work_on(files: EngineFiles) -> Processing:
    return log_records.processing(files.store, Time())


async def fill(files: EngineFiles, count: int, *, name: str = "N") -> None:
    """Append so many records and settle them."""
    before = files.journal.last
    for number in range(count):
        await files.journal.append(log_records.record(f"{name}{number}"))
    await work_on(files).process(await files.journal.read(before, count))


def trouble_of(files: EngineFiles) -> str | None:
    return files.store.trouble


async def status_of(files: EngineFiles, order: str) -> str | None:
    page = await files.store.order_page("shop-sg", order)
    return None if page is None or page.view is None else page.view.status.value


# F-E13: settings that make it durable


class Unheeding(sqlite3.Connection):
    """A planted fault: one setting does not keep its value."""

    pragma = ""
    instead = ""

    def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        if statement.startswith(f"PRAGMA {self.pragma} ="):
            statement = f"PRAGMA {self.pragma} = {self.instead}"
        return super().execute(statement, *parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pragma", "instead"),
    [
        ("journal_mode", "DELETE"),
        ("synchronous", "NORMAL"),
        ("synchronous", "OFF"),
        ("busy_timeout", "0"),
        ("foreign_keys", "OFF"),
        ("wal_autocheckpoint", "0"),
    ],
)
async def test_file_that_does_not_keep_its_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, instead: str
) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 1)
    connect = sqlite3.connect
    planted = type("Planted", (Unheeding,), {"pragma": pragma, "instead": instead})
    monkeypatch.setattr(
        sqlite3, "connect", lambda *arguments, **options: connect(*arguments, factory=planted, **options)
    )
    with pytest.raises(FileNotUsable, match=f"journal.sqlite3 has {pragma}"):
        async with opened(tmp_path):
            pass


# F-E14: files that are missing, or came without their log


async def test_missing_journal_beside_a_store_is_refused_and_not_created(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 3)
    (tmp_path / JOURNAL).unlink()
    with pytest.raises(FileNotUsable, match=r"journal\.sqlite3 is missing"):
        async with opened(tmp_path):
            pass
    assert not (tmp_path / JOURNAL).exists()


async def test_missing_store_beside_a_used_journal_is_refused_and_not_created(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 3)
    (tmp_path / STORE).unlink()
    with pytest.raises(FileNotUsable, match=r"orders\.sqlite3 is missing"):
        async with opened(tmp_path):
            pass
    assert not (tmp_path / STORE).exists()


async def test_emptied_store_beside_a_used_journal_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 3)
    (tmp_path / STORE).write_bytes(b"")
    with pytest.raises(FileNotUsable, match=r"orders\.sqlite3 is empty"):
        async with opened(tmp_path):
            pass


async def test_journal_copied_without_its_wal_is_refused_naming_the_loss(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    async with opened(tmp_path / "engine") as files:
        await fill(files, 3)
        shutil.copy(tmp_path / "engine" / JOURNAL, copy)
        shutil.copy(tmp_path / "engine" / STORE, copy)
        shutil.copy(tmp_path / "engine" / f"{STORE}-wal", copy)
    with pytest.raises(FileNotUsable, match="lost records 1 to 3"):
        async with opened(copy):
            pass


async def test_deleted_shm_is_created_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "engine") as files:
        await fill(files, 3)
        shutil.copytree(tmp_path / "engine", tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm", "lock"))
    async with opened(tmp_path / "copy") as files:
        assert (files.journal.last, files.cursor) == (3, 3)


@pytest.mark.parametrize("name", [JOURNAL, f"{JOURNAL}-wal"])
async def test_file_deleted_while_open_takes_no_more_records(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as files:
        await files.journal.append(log_records.record("N1"))
        (tmp_path / name).unlink()
        with pytest.raises(Unavailable, match="deleted"):
            await files.journal.append(log_records.record("N2"))
        assert files.journal.trouble is not None
        assert name in files.journal.trouble
        assert not (tmp_path / name).exists()


# F-E15: damage


@pytest.mark.parametrize("name", [JOURNAL, STORE])
async def test_foreign_file_is_named_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 3)
    spoilt = b"\x00" * 100 + (tmp_path / name).read_bytes()[100:]
    (tmp_path / name).write_bytes(spoilt)
    with pytest.raises((Damaged, FileNotUsable), match=name):
        async with opened(tmp_path):
            pass
    assert (tmp_path / name).read_bytes() == spoilt


async def test_damaged_page_stops_the_work_and_is_not_changed(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 200)
    pages = bytearray((tmp_path / STORE).read_bytes())
    for page in range(1, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    (tmp_path / STORE).write_bytes(bytes(pages))
    with pytest.raises(Damaged, match=STORE):
        async with opened(tmp_path) as files:
            await work_on(files).process(log_records.logged([log_records.record("N1", "TRADE_FINISHED")], first=201))
    assert (tmp_path / STORE).read_bytes() == bytes(pages)


async def test_damaged_file_stays_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        with pytest.raises(Damaged):
            await files.store.database.write(_found_damage)
        with pytest.raises(Damaged, match=STORE):
            await files.store.cursor()
        assert trouble_of(files) is not None


def _found_damage(connection: sqlite3.Connection) -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


# F-E16: two engines


async def test_second_engine_in_one_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(AlreadyRunning, match="in use by process"):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path):
        pass


# F-E20: files of different age


@asynccontextmanager
async def with_an_older(file: str, directory: Path) -> AsyncIterator[EngineFiles]:
    """An engine of seven records; behind the block one of its files is again as it was after the third."""
    async with opened(directory) as files:
        await fill(files, 3)
    older = (directory / file).read_bytes()
    async with opened(directory) as files:
        await fill(files, 4, name="M")
        yield files
    (directory / file).write_bytes(older)


async def test_older_journal_is_refused_naming_the_lost_records(tmp_path: Path) -> None:
    async with with_an_older(JOURNAL, tmp_path):
        pass
    with pytest.raises(FileNotUsable, match=r"ends at record 3, .* lost records 4 to 7"):
        async with opened(tmp_path):
            pass


async def test_older_store_catches_up_from_the_journal(tmp_path: Path) -> None:
    async with with_an_older(STORE, tmp_path):
        pass
    async with opened(tmp_path) as files:
        assert (files.cursor, files.journal.last) == (3, 7)
        await work_on(files).process(await files.journal.read(files.cursor, 100))
        assert [await status_of(files, f"M{number}") for number in range(4)] == ["PAID"] * 4
        assert await files.store.cursor() == 7


async def test_crash_with_a_record_locked_elsewhere_does_not_skip_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        for number in range(4):
            await files.journal.append(log_records.record(f"N{number}"))
        batch = await files.journal.read(0, 4)
        await work_on(files).process([batch[0], batch[3]])
        assert await files.store.cursor() == 1
    async with opened(tmp_path) as files:
        assert files.cursor == 1
        await work_on(files).process(await files.journal.read(files.cursor, 100))
        assert await files.store.cursor() == 4
        assert [await status_of(files, f"N{number}") for number in range(4)] == ["PAID"] * 4


async def test_cursor_advances_once_a_gap_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        for number in range(5):
            await files.journal.append(log_records.record(f"N{number}"))
        batch = await files.journal.read(0, 5)
        await work_on(files).process([batch[1], batch[2]])
        assert await files.store.cursor() == 0
        await work_on(files).process([batch[0]])
        assert await files.store.cursor() == 3
        await work_on(files).process(batch[3:])
        assert await files.store.cursor() == 5


async def test_store_older_than_the_pruned_journal_is_refused(tmp_path: Path) -> None:
    async with with_an_older(STORE, tmp_path) as files:
        files.journal.settled(6)
        assert await files.journal.prune(older_than_ms=log_records.NOW_MS + 1) == 6
    with pytest.raises(FileNotUsable, match="records 4 to 6 were pruned"):
        async with opened(tmp_path):
            pass


# F-E04: no room


async def _pages_max(files: EngineFiles, pages: int) -> None:
    for database in (files.journal.database, files.store.database):
        await database.read(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())


async def test_full_file_pauses_the_work_until_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 1)
        await _pages_max(files, 1)  # its present pages
        acknowledged = await _append_until_refused(files)
        batch = log_records.logged([log_records.record(f"M{number}") for number in range(200)], first=2)
        with pytest.raises(InfrastructureDown, match="full"):
            await work_on(files).process(batch)
        await files.store.mark_sent([number for number, _ in await files.store.unsent(10)])  # needs no new page
        assert trouble_of(files) is not None
        assert await files.store.held_list(HeldQuery()) == []
        assert await files.store.cursor() == 1

        await _pages_max(files, 1_000_000)
        await files.journal.append(log_records.record("after"))
        await work_on(files).process(batch)
        assert await status_of(files, "M199") == "PAID"
        assert trouble_of(files) is None
        logged = [each.record for each in await files.journal.read(1, 1000)]
        assert logged == [*acknowledged, log_records.record("after")]
        assert await files.journal.database.check() == "ok"


async def _append_until_refused(files: EngineFiles) -> list[object]:
    acknowledged: list[object] = []
    for number in range(1000):
        record = log_records.record(f"L{number}")
        try:
            await files.journal.append(record)
        except Unavailable:
            return acknowledged
        acknowledged.append(record)
    raise AssertionError("it never ran full")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Two megabytes that can really run full."""
    with disks.small(tmp_path / "small", size=2 << 20) as place:
        yield place


async def test_full_disk_loses_no_acknowledged_record(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 1_000_000)
    async with opened(small_disk) as files:
        acknowledged = await _append_until_refused(files)
        ballast.unlink()
        await files.journal.append(log_records.record("after"))
        logged = [each.record for each in await files.journal.read(0, 5000)]
        assert [record for record in logged if record in acknowledged] == acknowledged
        assert logged[-1] == log_records.record("after")
        assert await files.journal.database.check() == "ok"


# F-E07: another process holds the write lock


@asynccontextmanager
async def loop_lag() -> AsyncIterator[list[float]]:
    """How late the loop runs its timers while the block lasts; the worst is first."""
    worst = [0.0]

    async def watch() -> None:
        while True:
            started = clock.perf_counter()
            await asyncio.sleep(0.01)
            worst[0] = max(worst[0], clock.perf_counter() - started - 0.01)

    task = asyncio.create_task(watch())
    try:
        yield worst
    finally:
        task.cancel()


async def test_brief_lock_is_waited_for_outside_the_event_loop(tmp_path: Path) -> None:
    async with opened(tmp_path) as files, loop_lag() as worst:
        other = sqlite3.connect(tmp_path / STORE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        settling = asyncio.create_task(work_on(files).process(log_records.logged([log_records.record("N1")])))
        await asyncio.sleep(0.7)
        assert not settling.done()
        other.execute("ROLLBACK")
        other.close()
        await settling
        assert await status_of(files, "N1") == "PAID"
    assert worst[0] < 0.6


async def test_kept_lock_pauses_the_work_and_refuses_appends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sqlite.SETTINGS, "busy_timeout", 1000)
    async with opened(tmp_path) as files, loop_lag() as worst:
        others = [sqlite3.connect(tmp_path / name, isolation_level=None) for name in (JOURNAL, STORE)]
        for other in others:
            other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InfrastructureDown, match="locked"):
            await work_on(files).process(log_records.logged([log_records.record("N1")]))
        with pytest.raises(Unavailable):
            await files.journal.append(log_records.record("N1"))
        assert trouble_of(files) is not None
        for other in others:
            other.execute("ROLLBACK")
            other.close()
        await asyncio.sleep(1.2)  # the append that was given up may still be waiting for its lock
        await files.journal.append(log_records.record("N2"))
        await work_on(files).process(log_records.logged([log_records.record("N1")]))
        assert await files.store.held_list(HeldQuery()) == []
        assert trouble_of(files) is None
    assert worst[0] < 0.8


# F-E18: a task that is cancelled while the thread works


async def test_cancelled_settlement_still_commits_and_is_recognised(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        started, loop = asyncio.Event(), asyncio.get_running_loop()
        batch = log_records.logged([log_records.record("N1")])
        observer = PlanObserver()

        class Slow:
            """A store whose decisions take a moment."""

            unsent = files.store.unsent
            mark_sent, set_aside = files.store.mark_sent, files.store.set_aside

            async def settle(self, needs: LoadRequest, decide: object) -> WritePlan:
                def slowly(known: StoreSnapshot) -> WritePlan:
                    loop.call_soon_threadsafe(started.set)
                    clock.sleep(0.2)
                    return decide(known)  # type: ignore[operator, no-any-return]

                return await files.store.settle(needs, slowly)

        task = asyncio.create_task(log_records.processing(Slow(), Time()).process(batch))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await log_records.processing(files.store, Time(), observer=observer).process(batch)
        assert observer.plans[0].deliveries == []
        page = await files.store.order_page("shop-sg", "N1")
        assert page is not None
        assert page.order is not None
        assert (page.order.version, len(page.deliveries), len(page.events)) == (1, 1, 1)


async def test_cancelled_append_may_be_there_and_does_no_harm(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        task = asyncio.create_task(log_records.appended(files.journal, log_records.record("N1")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await files.journal.append(log_records.record("N2"))
        logged = [each.record for each in await files.journal.read(0, 10)]
        assert logged[-1] == log_records.record("N2")
        assert len(logged) <= 2


# F-E17: read-only


async def test_file_that_became_read_only_pauses_the_work(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await files.store.database.read(lambda connection: connection.execute("PRAGMA query_only = ON").fetchone())
        with pytest.raises(InfrastructureDown, match="readonly"):
            await work_on(files).process(log_records.logged([log_records.record("N1")]))
        await files.store.database.read(lambda connection: connection.execute("PRAGMA query_only = OFF").fetchone())
        await work_on(files).process(log_records.logged([log_records.record("N1")]))
        assert await status_of(files, "N1") == "PAID"


# F-E06, F-E09, F-E10: the write-ahead log


async def test_long_read_delays_neither_commits_nor_the_thread(tmp_path: Path) -> None:
    async with opened(tmp_path) as files:
        await fill(files, 50)
        reader = sqlite3.connect(tmp_path / JOURNAL, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        await fill(files, 50, name="M")
        started = clock.perf_counter()
        assert not await files.journal.database.truncate_log()
        assert clock.perf_counter() - started < 1
        reader.close()
        assert await files.journal.database.truncate_log()
        assert files.journal.database.log_bytes() == 0


async def test_journal_and_store_can_be_used_independently(tmp_path: Path) -> None:
    """A backup tool or a diagnosis opens one file alone; identity is checked even so."""
    journal = await Journal.open(tmp_path / "x.sqlite3", now_ms=Time())
    await journal.close()
    with pytest.raises(FileNotUsable, match="file of another kind"):
        await SqliteOrderStore.open(tmp_path / "x.sqlite3", now_ms=Time())
