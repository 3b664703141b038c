"""Files after a loss of power, made by hand (F-E12): write-ahead logs cut anywhere, or with a flipped byte.

Killing a process proves nothing here, because the kernel keeps written pages. So copies of real files are cut at each
frame and at random bytes, and the rest has to be a prefix of whole transactions.
"""

import asyncio
import random
import shutil
import sqlite3
import struct
from collections.abc import Iterable
from contextlib import closing
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import directory as engine
from deploy.embedded.directory import JOURNAL, STORE
from deploy.embedded.migrations import FileNotUsable
from tests.support import log_records

PAGE_BYTES = 4096
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
RANDOM_CUTS = 200
BATCHES = tuple(random.Random(12).choices((1, 2, 3, 7), k=40))  # records per transaction
ENDS = (0, *accumulate(BATCHES))  # how many records there are after so many transactions
RECORDS = ENDS[-1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a running engine's directory: everything since its start is in the logs alone."""
    place = tmp_path_factory.mktemp("torn")
    asyncio.run(_fill(place))
    return place / "whole"


async def _fill(place: Path) -> None:
    async with engine.open_files(place / "live", now_ms=log_records.Time()) as files:
        work = log_records.processing(files.store, log_records.Time())
        for first, end in pairwise(ENDS):
            records = [log_records.record(f"N{number}") for number in range(first, end)]
            await asyncio.gather(*(files.journal.append(record) for record in records))
            await work.process(await files.journal.read(first, end - first))
        shutil.copytree(place / "live", place / "whole", ignore=shutil.ignore_patterns("*-shm", "lock"))


def commits(log: bytes) -> list[int]:
    """Where in a write-ahead log each transaction ends: its last frame names the size of the file."""
    starts = range(WAL_HEADER_BYTES, len(log), FRAME_BYTES)
    return [start + FRAME_BYTES for start in starts if struct.unpack_from(">I", log, start + 4)[0]]


def with_log(whole: Path, place: Path, name: str, log: bytes) -> Path:
    """The engine's directory, with another write-ahead log in this one of its files."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    (place / f"{name}-wal").write_bytes(log)
    return place


def looked_at(place: Path, name: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / name)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        return connection.execute(statement).fetchall()


def cuts(log: bytes) -> Iterable[int]:
    """Every frame's beginning, the bytes beside it, and some anywhere."""
    chance = random.Random(2)
    edges = range(WAL_HEADER_BYTES, len(log) + 1, FRAME_BYTES)
    beside = (edge + step for edge in chance.sample(edges, 20) for step in (-1, 1, FRAME_HEADER_BYTES))
    anywhere = (chance.randrange(len(log)) for _ in range(RANDOM_CUTS))
    return sorted({0, *edges, *beside, *anywhere} & set(range(len(log) + 1)))


def test_journal_cut_anywhere_is_a_prefix_of_whole_transactions(whole: Path, tmp_path: Path) -> None:
    log = (whole / f"{JOURNAL}-wal").read_bytes()
    ends = commits(log)
    assert len(ends) == len(BATCHES), "each gathering was one transaction"
    for cut in cuts(log):
        place = with_log(whole, tmp_path / "cut", JOURNAL, log[:cut])
        left = [offset for (offset,) in looked_at(place, JOURNAL, "SELECT log_offset FROM records ORDER BY 1")]
        assert left == list(range(1, ENDS[sum(end <= cut for end in ends)] + 1)), f"cut at {cut}"


def test_store_cut_anywhere_has_a_true_cursor(whole: Path, tmp_path: Path) -> None:
    log = (whole / f"{STORE}-wal").read_bytes()
    seen = set()
    for cut in cuts(log):
        place = with_log(whole, tmp_path / "cut", STORE, log[:cut])
        ((cursor,),) = looked_at(place, STORE, "SELECT coalesce(max(log_offset), 0) FROM cursors")
        settled = looked_at(place, STORE, "SELECT log_offset FROM deliveries ORDER BY 1")
        assert settled == [(offset,) for offset in range(1, cursor + 1)], f"cut at {cut}"
        assert cursor in ENDS, f"cut at {cut}"
        seen.add(cursor)
    assert seen == set(ENDS)


def states(place: Path) -> list[tuple[Any, ...]]:
    return looked_at(place, STORE, "SELECT order_number, version, status, amount_minor FROM orders ORDER BY 1")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
async def test_store_behind_its_journal_catches_up_to_the_same_state(whole: Path, tmp_path: Path, share: float) -> None:
    log = (whole / f"{STORE}-wal").read_bytes()
    place = with_log(whole, tmp_path / "engine", STORE, log[: int(len(log) * share)])
    async with engine.open_files(place, now_ms=log_records.Time()) as files:
        assert files.cursor < RECORDS
        work = log_records.processing(files.store, log_records.Time())
        await work.process(await files.journal.read(files.cursor, RECORDS))
        assert await files.store.cursor() == RECORDS
    assert states(place) == states(with_log(whole, tmp_path / "same", STORE, log))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
async def test_journal_behind_its_store_is_refused_naming_the_lost_records(
    whole: Path, tmp_path: Path, share: float
) -> None:
    log = (whole / f"{JOURNAL}-wal").read_bytes()
    cut = int(len(log) * share)
    place = with_log(whole, tmp_path / "engine", JOURNAL, log[:cut])
    kept = ENDS[sum(end <= cut for end in commits(log))]
    with pytest.raises(FileNotUsable, match=rf"lost records {kept + 1} to {RECORDS}\."):
        async with engine.open_files(place, now_ms=log_records.Time()):
            pass


async def test_flipped_byte_drops_later_records_silently_and_the_store_reports_it(whole: Path, tmp_path: Path) -> None:
    """SQLite reports nothing: its log ends where a frame does not add up. Only the store knows better."""
    log = (whole / f"{JOURNAL}-wal").read_bytes()
    ends, chance = commits(log), random.Random(3)
    for at in (chance.randrange(WAL_HEADER_BYTES, ends[-1]) for _ in range(20)):
        turned = log[:at] + bytes([log[at] ^ 0x10]) + log[at + 1 :]
        place = with_log(whole, tmp_path / "engine", JOURNAL, turned)
        left = looked_at(with_log(whole, tmp_path / "look", JOURNAL, turned), JOURNAL, "SELECT count(*) FROM records")
        assert left == [(ENDS[sum(end <= at for end in ends)],)], f"turned over at {at}"
        with pytest.raises(FileNotUsable, match="the journal has lost records"):
            async with engine.open_files(place, now_ms=log_records.Time()):
                pass
