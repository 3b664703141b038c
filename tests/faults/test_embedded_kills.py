"""Kills, failing disks and their traces: the embedded engine's files in processes that end badly (F-E01, F-E02, F-E11,
F-E13, F-E16)."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from deploy.directory_lock import AlreadyRunning
from deploy.embedded.directory import EngineFiles, open_files
from deploy.embedded.journal import Journal
from deploy.embedded.locks import LocalLocks
from deploy.embedded.source import JournalSource
from tests.faults.under_load import Silent
from tests.support import begun, log_records
from tests.support.paths import ROOT
from workers.consumer import Consumer
from workers.outbox_relay import Relay

ROUNDS = 20
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here to make the disk fail")


@contextlib.contextmanager
def loaded(directory: Path, acks: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process under load, killed at the end without a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.under_load", str(directory), str(acks), name],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    try:
        _until_grown(acks, process)
        yield process
    finally:
        process.kill()
        process.communicate()


def _until_grown(acks: Path, process: subprocess.Popen[bytes]) -> None:
    size = acks.stat().st_size if acks.exists() else 0
    deadline = time.monotonic() + 30
    while not acks.exists() or acks.stat().st_size == size:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "it acknowledges nothing"
        time.sleep(0.01)


def acknowledged(acks: Path) -> list[str]:
    lines = acks.read_text().splitlines(keepends=True)
    return [line.strip() for line in lines if line.endswith("\n")]


async def logged_ids(journal: Journal) -> list[str]:
    found, after = [], 0
    while batch := await journal.read(after, 1000):
        found += [parse_qs(each.record.value.decode())["notify_id"][0] for each in batch]
        after = batch[-1].position.offset
    return found


async def drained(files: EngineFiles) -> None:
    """Bring everything that was acknowledged to its disposition, as the next start would."""
    work = log_records.processing(files.store, log_records.Time())
    consumer = Consumer(
        source=JournalSource(files.journal, cursor=files.cursor, poll_wait_s=0.01, linger_s=0),
        locks=LocalLocks(),
        process=work.process,
        wake_relay=lambda: None,
        observer=Silent(),
        token=b"w",
        fatal=begun.without_notes(),
    )
    while await consumer.run_once():
        pass
    await Relay(work.emit, observer=Silent()).run_once()


async def test_random_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    chance = random.Random(20251009)
    acks = tmp_path / "acks"
    for number in range(ROUNDS):
        with loaded(tmp_path / "engine", acks, f"r{number}"):
            await asyncio.sleep(chance.uniform(0.02, 0.5))
        async with open_files(tmp_path / "engine", now_ms=log_records.Time()) as files:
            assert await files.journal.database.check() == "ok"
            assert await files.store.database.check() == "ok"
            promised, logged = acknowledged(acks), await logged_ids(files.journal)
            assert len(logged) == len(set(logged)) == files.journal.last
            assert set(promised) <= set(logged)
            if number in (ROUNDS // 2, ROUNDS - 1):
                await drained(files)
                await _is_settled_once(files, logged)
    assert len(acknowledged(acks)) > 100 * ROUNDS, "hardly any load"


async def _is_settled_once(files: EngineFiles, logged: list[str]) -> None:
    """Each record has one disposition, each order its versions 1..n with one event each, each fact one effect."""

    def look(connection: "object") -> tuple[int, int, int, list[tuple[str, int, int]]]:
        execute = connection.execute  # type: ignore[attr-defined]
        applied = execute("SELECT count(DISTINCT notification_id) FROM deliveries").fetchone()[0]
        deliveries = execute("SELECT count(*) FROM deliveries").fetchone()[0]
        unsent = execute("SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL").fetchone()[0]
        orders = execute(
            "SELECT o.order_number, o.version, count(*) FROM orders AS o "
            "JOIN outbox ON outbox.key = CAST(o.account || ':' || o.order_number AS BLOB) GROUP BY 1, 2"
        ).fetchall()
        return applied, deliveries, unsent, orders

    ids, deliveries, unsent, orders = await files.store.database.read(look)
    assert ids == deliveries == len(logged) == await files.store.cursor()
    assert unsent == 0
    assert [(number, version) for number, version, events in orders if version != events] == []


async def test_second_engine_is_refused_until_the_first_has_died(tmp_path: Path) -> None:
    with loaded(tmp_path / "engine", tmp_path / "acks", "r") as first:
        with pytest.raises(AlreadyRunning, match=f"process {first.pid}$"):
            async with open_files(tmp_path / "engine", now_ms=log_records.Time()):
                pass
        first.kill()
        first.wait()
        async with open_files(tmp_path / "engine", now_ms=log_records.Time()) as files:
            assert files.journal.last > 0


def strace(*options: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """The thirty appends, with what strace does to their system calls."""
    return subprocess.run(
        ["strace", "-f", *options, sys.executable, "-m", "tests.faults.appending", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


async def ids_after_reopening(directory: Path) -> list[str]:
    journal = await Journal.open(directory / "journal.sqlite3", now_ms=log_records.Time(), create=False)
    try:
        assert await journal.database.check() == "ok"
        return await logged_ids(journal)
    finally:
        await journal.close()


@needs_strace
def test_every_acknowledgement_follows_a_disk_sync(tmp_path: Path) -> None:
    traced = strace("-e", "trace=fdatasync,write", "-s", "16", "-o", str(tmp_path / "trace"), directory=tmp_path)
    assert traced.stdout.count("ack ") == 30, traced.stderr
    calls = [
        "sync" if "fdatasync(" in line else "ack"
        for line in (tmp_path / "trace").read_text().splitlines()
        if re.search(r'fdatasync\(\d+\) += 0|fdatasync resumed.*= 0|write\(1, "ack ', line)
    ]
    acks = [number for number, call in enumerate(calls) if call == "ack"]
    assert len(acks) == 30
    assert all(calls[number - 1] == "sync" for number in acks)


@needs_strace
async def test_failed_sync_leaves_its_append_unknown_and_the_file_usable(tmp_path: Path) -> None:
    """The record of the failing commit may be there or not: it was not acknowledged. Later records are durable."""
    run = strace("-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=20", directory=tmp_path)
    acks, refused = _outcomes(run.stdout)
    assert refused, run.stderr
    assert len(refused) < 3
    assert acks[-1] == "n29"
    logged = await ids_after_reopening(tmp_path)
    assert [id_ for id_ in logged if id_ in acks] == acks
    assert len(logged) == len(set(logged))


@needs_strace
async def test_disk_that_stops_syncing_gives_no_more_acknowledgements(tmp_path: Path) -> None:
    run = strace("-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=20+", directory=tmp_path)
    acks, refused = _outcomes(run.stdout)
    assert len(acks) + len(refused) == 30, run.stderr
    assert refused[-1] == "n29"
    assert max(int(id_[1:]) for id_ in acks) < min(int(id_[1:]) for id_ in refused)
    assert set(acks) <= set(await ids_after_reopening(tmp_path))


@needs_strace
async def test_kill_between_write_and_sync_loses_no_acknowledged_record(tmp_path: Path) -> None:
    """R5: between the write and the sync. The record may be there or not: it was not acknowledged."""
    run = strace("-e", "trace=fdatasync", "-e", "inject=fdatasync:signal=SIGKILL:when=20", directory=tmp_path)
    acks, refused = _outcomes(run.stdout)
    assert acks, run.stderr
    assert refused == []
    logged = await ids_after_reopening(tmp_path)
    assert logged[: len(acks)] == acks
    assert len(acks) <= len(logged) <= len(acks) + 1 < 30


def _outcomes(output: str) -> tuple[list[str], list[str]]:
    words = [line.split() for line in output.splitlines() if " " in line]
    return [id_ for word, id_ in words if word == "ack"], [id_ for word, id_ in words if word == "refused"]
