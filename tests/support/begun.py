"""The notes on records that may be fatal, in memory, and processes that end."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import Struct

from workers.errors import InfrastructureDown
from workers.fatal_records import Begun, FatalRecords, OneInHand
from workers.settlement.plan import LogRecord, Position


class Note(Struct, frozen=True):
    """One note."""

    position: Position
    is_alone: bool
    holder: str


class MemoryBegun:
    """The notes of all processes, with the moment of each. A note is of an ended process for sure after `surely_s`."""

    def __init__(self, *, surely_s: float = 0.0, now_s: Callable[[], float] = time.monotonic) -> None:
        self.notes: dict[Note, float] = {}
        self.surely_s = surely_s
        self.now_s = now_s

    def begin(self, positions: Sequence[Position], holder: str, *, is_alone: bool) -> list[Begun]:
        for position in positions:
            self.notes.setdefault(Note(position, is_alone, holder), self.now_s())
        partitions = {position.partition for position in positions}
        others = [each for each in self.notes if each.holder != holder and each.position.partition in partitions]
        ended = Counter(
            (each.position, each.is_alone) for each in others if self.now_s() - self.notes[each] >= self.surely_s
        )
        return [
            Begun(position=position, is_alone=alone, processes=count, ended=ended[position, alone])
            for (position, alone), count in Counter((each.position, each.is_alone) for each in others).items()
        ]

    def end(self, positions: Sequence[Position], holder: str | None) -> None:
        gone = [each for each in self.notes if each.position in positions and holder in (None, each.holder)]
        for each in gone:
            del self.notes[each]


class Ended(BaseException):
    """The process has ended: none of its code runs any more."""


class MemoryBegunNotes:
    """The notes of one process. `calls` counts them; while `is_away` the store does not answer."""

    def __init__(self, begun: MemoryBegun, holder: str) -> None:
        self.calls = 0
        self.is_away = False
        self.has_ended = False
        self._begun = begun
        self._holder = holder

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[Begun]:
        self._check()
        return self._begun.begin(positions, self._holder, is_alone=is_alone)

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None:
        self._check()
        self._begun.end(positions, self._holder if only_own else None)

    def end_process(self) -> None:
        """End the process, as a fault of memory does."""
        self.has_ended = True
        raise Ended

    def _check(self) -> None:
        self.calls += 1
        if self.has_ended:
            raise Ended
        if self.is_away:
            raise InfrastructureDown("the store is away")


class NoNotes:
    """Stands in where the processes of a test leave no notes."""

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[Begun]:
        return ()

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None: ...


async def _none_is_set_aside(each: LogRecord) -> None: ...


def without_notes() -> FatalRecords[LogRecord]:
    """Return the rule for a process that leaves no notes."""
    return FatalRecords(NoNotes(), OneInHand(), _none_is_set_aside)
