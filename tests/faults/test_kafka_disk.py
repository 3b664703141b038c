"""A broker whose disk runs full: Kafka ends it, and it starts again once there is room."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import disks, publisher_kit
from tests.faults.publisher_kit import DEADLINE_S, Kit, Place, until

DISK_BYTES = 64 << 20
ENDED_S = 60.0
BACK_S = 30.0
REFUSED = 50
SENDERS = 10
Note = Callable[[str, float], None]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disks.small(tmp_path_factory.mktemp("broker") / "disk", size=DISK_BYTES) as disk:
        yield disk


@pytest.fixture(scope="module")
def place(disk: Path) -> Iterator[Place]:
    """A broker with all its files on the small disk."""
    yield from publisher_kit.of_a_module({"log.dirs": str(disk / "files")})


async def test_full_disk_of_the_broker_loses_no_acknowledged_record(kit: Kit, disk: Path, measured: Note) -> None:
    await kit.ready()
    broker = kit.place.broker.process

    async def full() -> None:
        await until(lambda: len(kit.acknowledged) > REFUSED, ENDED_S)
        ballast = disks.fill(disk)
        await until(lambda: not broker.runs, ENDED_S)
        await until(lambda: kit.publisher.trouble is not None, ENDED_S)
        await asyncio.sleep(DEADLINE_S)
        known, refused = len(kit.acknowledged), len(kit.refused)
        await until(lambda: len(kit.refused) > refused + REFUSED, ENDED_S)
        assert len(kit.acknowledged) == known
        ballast.unlink()
        await broker.start()
        measured("taken again after the broker's start", await kit.taken_again(BACK_S))

    await kit.append_while(full, senders=SENDERS)
    await kit.nothing_is_missing()
