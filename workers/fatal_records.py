"""Set aside alone a record that ends its process: by a C call that nothing interrupts, a fault or a lack of memory.

Nothing is raised then, so nothing can be caught. The record is redelivered after the restart, or its held row is due
again, and ends the next process too: one record would stop its partition, and on one machine the whole engine.

    begin    before the first batch of each partition after a start, and before the first round of held rows, a process
             notes durably where it begins. The note is removed when the batch has its dispositions. Later batches go on
             where one has passed, and have no note
    suspect  two other processes have begun here and left their notes: handle the next records one at a time
    alone    each of them is noted before it is read. If two processes have ended with this one alone in hand, it
             becomes a dead letter (`ended_process`) without being read

Two, because an operator may kill a process at any record. A process that lives withdraws its note whatever happens,
also when it is stopped. While one loop handles a record alone, the other loops of the process handle nothing
(`OneInHand`), so that no record is blamed for another one.

A partition may move while its old owner still works. So on the cluster a note counts as that of an ended process only
after a time in which a living one has withdrawn it; until then the record waits.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from workers.errors import InfrastructureDown, RowsLocked
from workers.settlement.plan import HeldRow, LogRecord, Position

ENDED_MAX = 2
CAREFUL_SPAN = 500  # offsets: the batch that ended the other processes may have had so many

Each = TypeVar("Each", LogRecord, HeldRow)


class Begun(Struct, frozen=True, kw_only=True):
    """The notes that other processes have left at a position. `ended`: how many of the processes have surely ended.

    `is_alone`: they had this record alone in hand; otherwise a batch that begins with it.
    """

    position: Position
    is_alone: bool
    processes: int
    ended: int


class BegunNotes(Protocol):
    """The notes of all processes, in the order store, for one process."""

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[Begun]:
        """Note durably that this process begins at these positions. Return the notes of others in their partitions.

        Raises:
            InfrastructureDown: our notes may be missing.
        """

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None:
        """Remove the notes at these positions: those of all processes, or only our own.

        Raises:
            InfrastructureDown: they may still be there.
        """


class OneInHand:
    """Lets the loops of a process handle batches beside each other, but a single record alone."""

    def __init__(self) -> None:
        self._alone = asyncio.Lock()
        self._together = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        while self._alone.locked():
            async with self._alone:
                pass
        self._together += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._together -= 1
            if not self._together:
                self._is_idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._alone:
            await self._is_idle.wait()
            yield


class FatalRecords(Generic[Each]):
    """The rule for one loop of a process. `set_aside` makes a record a dead letter without reading it."""

    def __init__(self, notes: BegunNotes, one_in_hand: OneInHand, set_aside: Callable[[Each], Awaitable[None]]) -> None:
        self._notes = notes
        self._one_in_hand = one_in_hand
        self._set_aside: Callable[[Each], Awaitable[None]] = set_aside
        self._next: dict[int, int] = {}  # by partition, the offset after the last one that has passed
        self._careful_upto: dict[int, int] = {}  # by partition, the offset from which on batches are whole again
        self._suspects: set[Position] = set()

    async def handle(
        self,
        batch: Sequence[Each],
        whole: Callable[[], Awaitable[None]],
        one: Callable[[Each], Awaitable[None]],
    ) -> None:
        """Have the batch handled as a whole or, if it may be fatal, one by one: `one` calls `alone` then.

        A batch that goes on where the last one has passed needs no note. A note that the store does not take now is
        done without, since the batch needs the same store.
        """
        first = {each.position.partition: each.position for each in reversed(batch)}
        begun = [position for partition, position in first.items() if self._next.get(partition) != position.offset]
        if begun:
            with suppress(InfrastructureDown):
                self._suspect(begun, await self._notes.begin(begun, is_alone=False))
        if self._is_suspect(batch, first.values()):
            for each in batch:
                await one(each)
        else:
            await self.together(whole)
        last = {each.position.partition: each.position for each in batch}
        self._next.update((partition, position.offset + 1) for partition, position in last.items())
        if begun:
            with suppress(InfrastructureDown):  # a note that stays is met again only if the log is read again
                await self._notes.end(begun)

    async def together(self, whole: Callable[[], Awaitable[None]]) -> None:
        """Handle a batch, without a note, when no other loop has a record alone in hand."""
        async with self._one_in_hand.together():
            await whole()

    def _suspect(self, begun: Sequence[Position], found: Sequence[Begun]) -> None:
        for each in found:
            if each.is_alone:
                self._suspects.add(each.position)
            elif each.position in begun and each.processes >= ENDED_MAX:
                self._careful_upto[each.position.partition] = each.position.offset + CAREFUL_SPAN

    def _is_suspect(self, batch: Sequence[Each], first: Iterable[Position]) -> bool:
        if any(position.offset < self._careful_upto.get(position.partition, 0) for position in first):
            return True
        return bool(self._suspects) and any(each.position in self._suspects for each in batch)

    async def alone(
        self,
        each: Each,
        handle: Callable[[Each], Awaitable[None]],
        commit: Callable[[Each], Awaitable[None]] | None = None,
    ) -> None:
        """Handle this one and nothing beside it, or set it aside if it has ended other processes; then commit.

        The notes of others stay until it is committed. If it comes again before, it is set aside again without being
        read.

        Raises:
            InfrastructureDown: do it again later. The store is away, or others may just have this one in hand.
            TooManyDeadLetters: it is held, and not committed.
        """
        async with self._one_in_hand.alone():
            found = await self._notes.begin([each.position], is_alone=True)
            try:
                await self._handle_alone(each, handle, found)
                if commit is not None:
                    await commit(each)
            except BaseException:
                with suppress(InfrastructureDown):
                    await self._notes.end([each.position], only_own=True)
                raise
            await self._notes.end([each.position])
            self._suspects.discard(each.position)

    async def _handle_alone(
        self, each: Each, handle: Callable[[Each], Awaitable[None]], found: Sequence[Begun]
    ) -> None:
        here = [begun for begun in found if begun.is_alone and begun.position == each.position]
        if any(begun.ended >= ENDED_MAX for begun in here):
            await self._set_aside(each)
        elif any(begun.processes >= ENDED_MAX for begun in here):
            raise InfrastructureDown(f"other processes have begun with {each.position} lately, and may still have it")
        else:
            await handle(each)


class CarefulRetry:
    """Retries rounds of held rows for one loop. When a round has passed, the next ones are not noted any more."""

    def __init__(self, fatal: FatalRecords[HeldRow], retry: Callable[[Sequence[HeldRow]], Awaitable[None]]) -> None:
        self._fatal = fatal
        self._retry = retry
        self._has_passed = False
        self._locked: RowsLocked | None = None

    async def __call__(self, rows: Sequence[HeldRow]) -> None:
        """Retry these rows.

        Raises:
            RowsLocked: another session has locked one of them; the others are retried.
        """
        if self._has_passed:
            await self._fatal.together(lambda: self._retry(rows))
            return
        self._locked = None
        await self._fatal.handle(rows, lambda: self._retry(rows), self._retry_alone)
        self._has_passed = True
        if self._locked is not None:
            raise self._locked

    async def _retry_alone(self, row: HeldRow) -> None:
        try:
            await self._fatal.alone(row, lambda row: self._retry([row]))
        except RowsLocked as error:
            self._locked = error
