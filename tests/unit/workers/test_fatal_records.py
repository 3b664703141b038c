"""Records that end their process: who is set aside, after how many endings, and who never is."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from tests.support.begun import Ended, MemoryBegun, MemoryBegunNotes
from workers.errors import InfrastructureDown, RowsLocked, TooManyDeadLetters
from workers.fatal_records import CarefulRetry, FatalRecords, OneInHand
from workers.settlement.plan import HeldRow, LogRecord, Position

RECORD = Record(b"shop:A", b"", ())
LIVES_MAX = 5  # that end; the next one sets the record aside


def records(*offsets: int, partition: int = 0) -> list[LogRecord]:
    return [LogRecord(Position(partition, offset), RECORD) for offset in offsets]


def row(offset: int) -> HeldRow:
    return HeldRow(
        position=Position(0, offset),
        account="shop",
        order="A",
        notification_id=str(offset),
        disposition=Disposition.PARKED,
        reason=Reason.UNKNOWN_ORDER,
        detail="",
        record=RECORD,
        first_at_ms=0,
    )


class World:
    """A log that many lives of a worker read, one after the other, from what the last one has passed on."""

    def __init__(self, *fatal: Position) -> None:
        self.begun = MemoryBegun()
        self.fatal = set(fatal)
        self.handled: list[Position] = []
        self.set_aside: list[Position] = []
        self.committed: list[Position] = []
        self.meets_commit: Callable[[], None] = lambda: None
        self.endings = 0
        self._lives = 0

    def life(self) -> "Life":
        self._lives += 1
        return Life(self, f"life-{self._lives}")

    async def live_on(self, batches: Sequence[Sequence[LogRecord]], *, lives_max: int = 20) -> None:
        """Start lives until one has passed all batches, as a service manager does."""
        for _ in range(lives_max):
            life = self.life()
            try:
                for batch in batches:
                    if left := [each for each in batch if each.position not in self.done]:
                        await life.handle(left)
                return
            except Ended:
                self.endings += 1
        raise AssertionError("it ends for ever")

    @property
    def done(self) -> set[Position]:
        return {*self.handled, *self.set_aside}


class Life:
    """One process with one loop."""

    def __init__(self, world: World, name: str) -> None:
        self.notes = MemoryBegunNotes(world.begun, name)
        self.sizes: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self._world = world
        self.fatal: FatalRecords[LogRecord] = FatalRecords(self.notes, OneInHand(), self._set_aside)

    async def handle(self, batch: Sequence[LogRecord]) -> None:
        await self.fatal.handle(batch, lambda: self._process(batch), self._one)

    async def _one(self, each: LogRecord) -> None:
        await self.fatal.alone(each, lambda each: self._process([each]), self._commit)

    async def _commit(self, each: LogRecord) -> None:
        self._world.meets_commit()
        self._world.committed.append(each.position)

    async def _process(self, batch: Sequence[LogRecord]) -> None:
        self.sizes.append(len(batch))
        self.meanwhile()
        for each in batch:
            if each.position in self._world.fatal:
                self.notes.end_process()
        self._world.handled += [each.position for each in batch]

    async def _set_aside(self, each: LogRecord) -> None:
        self._world.set_aside.append(each.position)


async def test_only_the_first_batch_of_a_partition_is_noted() -> None:
    life = World().life()
    await life.handle(records(1, 2))
    await life.handle([*records(3, 4), *records(7, partition=1)])
    assert life.notes.calls == 4
    await life.handle([*records(5), *records(8, 9, partition=1)])
    assert life.notes.calls == 4
    await life.handle(records(9))
    assert life.notes.calls == 6, "what does not follow the last one has come back, or is read again"
    assert life.sizes == [2, 3, 3, 1]


async def test_nothing_is_left_of_a_batch_that_passed() -> None:
    world = World()
    await world.live_on([records(1, 2), records(3)])
    assert world.begun.notes == {}


@pytest.mark.parametrize("place", [1, 4, 9])
@pytest.mark.parametrize("size", [1, 3, 9])
async def test_fatal_record_is_set_aside_alone(place: int, size: int) -> None:
    world = World(Position(0, place))
    batches = [records(*range(first, first + size)) for first in range(1, 10, size)]
    await world.live_on(batches)
    assert world.set_aside == [Position(0, place)]
    assert sorted(world.handled) == [each.position for batch in batches for each in batch if each not in records(place)]
    assert world.endings <= LIVES_MAX
    assert {note.is_alone for note in world.begun.notes} <= {False}


@pytest.mark.parametrize("error", [TooManyDeadLetters("twenty in a row"), InfrastructureDown("stopped")])
async def test_fatal_record_that_comes_again_before_its_commit_is_not_read(error: Exception) -> None:
    world = World(Position(0, 1))

    def fail() -> None:
        raise error

    world.meets_commit = fail
    with pytest.raises(type(error)):
        await world.live_on([records(1)])
    endings, world.meets_commit = world.endings, lambda: None
    life = world.life()
    await life.handle(records(1))
    assert (world.endings, life.sizes) == (endings, [])
    assert (world.set_aside, world.committed) == ([Position(0, 1)] * 2, [Position(0, 1)])
    assert {note.is_alone for note in world.begun.notes} <= {False}


async def test_all_fatal_records_of_a_batch_are_set_aside() -> None:
    world = World(Position(0, 2), Position(0, 3), Position(1, 5))
    await world.live_on([[*records(1, 2, 3), *records(4, 5, partition=1)]], lives_max=20)
    assert sorted(world.set_aside) == sorted(world.fatal)
    assert sorted(world.handled) == [Position(0, 1), Position(1, 4)]


async def test_smaller_batch_after_the_restart_is_careful_up_to_the_fatal_record() -> None:
    world = World(Position(0, 8))
    whole = [records(*range(1, 10))]
    for _ in range(2):
        with pytest.raises(Ended):
            await world.life().handle(whole[0])
    await world.live_on([records(1, 2, 3), records(4, 5, 6), records(7, 8, 9)])
    assert (world.set_aside, world.endings) == ([Position(0, 8)], 2)


async def test_one_kill_at_a_healthy_record_is_not_enough() -> None:
    world = World(Position(0, 1))
    for _ in range(3):
        with pytest.raises(Ended):
            await world.life().handle(records(1, 2))
    world.fatal.clear()
    life = world.life()
    await life.handle(records(1, 2))
    assert (life.sizes, world.set_aside) == ([1, 1], [])


async def test_healthy_batches_are_whole_again_after_the_careful_ones() -> None:
    world = World(Position(0, 2))
    await world.live_on([records(1, 2, 3)])
    life = world.life()
    await life.handle(records(4, 5, 6))
    assert life.sizes == [3]


async def test_process_that_goes_on_withdraws_its_note() -> None:
    world = World(Position(0, 1))
    for _ in range(2):
        with pytest.raises(Ended):
            await world.life().handle(records(1))
    world.fatal.clear()

    def fail() -> None:
        raise InfrastructureDown("the store is away")

    for _ in range(5):
        life = world.life()
        life.meanwhile = fail
        with pytest.raises(InfrastructureDown):
            await life.handle(records(1))
    await world.life().handle(records(1))
    assert (world.handled, world.set_aside) == ([Position(0, 1)], [])


async def test_record_waits_while_others_may_have_it_in_hand() -> None:
    world = World(Position(0, 1))
    now_s = 0.0
    world.begun.now_s, world.begun.surely_s = (lambda: now_s), 90.0
    for _ in range(4):
        with pytest.raises(Ended):
            await world.life().handle(records(1))
    life = world.life()
    for _ in range(2):
        with pytest.raises(InfrastructureDown, match="other processes"):
            await life.handle(records(1))
    assert (life.sizes, world.set_aside) == ([], [])
    now_s = 91.0
    await life.handle(records(1))
    assert (life.sizes, world.set_aside) == ([], [Position(0, 1)])


async def test_batch_is_handled_although_the_store_takes_no_note() -> None:
    life = World().life()
    life.notes.is_away = True
    await life.handle(records(1, 2))
    assert life.sizes == [2]


async def test_no_record_is_handled_alone_without_its_note() -> None:
    life = World().life()
    life.notes.is_away = True
    with pytest.raises(InfrastructureDown):
        await life._one(*records(1))
    assert life.sizes == []


async def test_nothing_is_handled_beside_a_record_that_is_alone() -> None:
    one_in_hand, steps = OneInHand(), list[str]()

    async def together(name: str) -> None:
        async with one_in_hand.together():
            steps.append(f"{name} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            steps.append(f"{name} ends")

    async def alone() -> None:
        async with one_in_hand.alone():
            steps.append("alone begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            steps.append("alone ends")

    await asyncio.gather(together("a"), together("b"), alone(), together("c"), together("d"))
    assert steps == [
        "a begins", "b begins", "a ends", "b ends", "alone begins", "alone ends",
        "c begins", "d begins", "c ends", "d ends",
    ]  # fmt: skip


class Rows:
    """Held rows that are due until they are retried, in the lives of a sweeper."""

    def __init__(self, *offsets: int, fatal: int = 0) -> None:
        self.begun = MemoryBegun()
        self.due = [row(offset) for offset in offsets]
        self.fatal = fatal
        self.locked: set[int] = set()
        self.sizes: list[int] = []
        self.set_aside: list[int] = []
        self._lives = 0

    def life(self) -> CarefulRetry:
        self._lives += 1
        self.notes = MemoryBegunNotes(self.begun, f"life-{self._lives}")
        return CarefulRetry(FatalRecords(self.notes, OneInHand(), self._set_aside), self._retry)

    async def _retry(self, rows: Sequence[HeldRow]) -> None:
        self.sizes.append(len(rows))
        offsets = [row.position.offset for row in rows]
        if self.fatal in offsets:
            self.notes.end_process()
        self._take([offset for offset in offsets if offset not in self.locked])
        if self.locked.intersection(offsets):
            raise RowsLocked("locked")

    async def _set_aside(self, row: HeldRow) -> None:
        self.set_aside.append(row.position.offset)
        self._take([row.position.offset])

    def _take(self, offsets: Sequence[int]) -> None:
        self.due = [each for each in self.due if each.position.offset not in offsets]


async def test_fatal_held_row_is_set_aside_alone() -> None:
    rows, endings = Rows(9, 3, 5, 7, fatal=5), 0
    while rows.due:
        try:
            await rows.life()(rows.due)
        except Ended:
            endings += 1
    assert (rows.set_aside, endings) == ([5], 4)


async def test_rounds_have_no_notes_once_one_has_passed() -> None:
    rows = Rows(1, 2)
    retry = rows.life()
    await retry(rows.due)
    calls = rows.notes.calls
    await retry([row(3)])
    await retry([row(9)])
    assert (rows.notes.calls, rows.sizes, rows.begun.notes) == (calls, [2, 1, 1], {})


async def test_locked_row_stops_no_other_one_of_a_careful_round() -> None:
    rows = Rows(1, 2, 3, fatal=1)
    for _ in range(2):
        with pytest.raises(Ended):
            await rows.life()(rows.due)
    rows.fatal, rows.locked = 0, {2}
    retry = rows.life()
    with pytest.raises(RowsLocked):
        await retry(rows.due)
    assert [each.position.offset for each in rows.due] == [2]
    rows.locked.clear()
    await retry(rows.due)
    assert (rows.due, rows.set_aside) == ([], [])
