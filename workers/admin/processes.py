"""The processes of the engine, as the console's first page lists them, and the sum of their counts."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from workers.admin.process_state import OwnProcess, ProcessCounts, ProcessState


class SeenProcess(Struct, frozen=True, kw_only=True):
    """One process, as it was seen last. `state` is `None` if it has never answered.

    `is_gone`: it has not answered for some time and did not stop in good order. `trouble` is the last failure.
    """

    address: str
    state: ProcessState | None
    seen_at_ms: int | None
    is_gone: bool = False
    trouble: str = ""

    @property
    def lag_s(self) -> float | None:
        """The largest lag of its partitions; `None` if it reads none."""
        partitions = () if self.state is None else self.state.partitions
        return max((each.seconds for each in partitions), default=None)


class Processes(Protocol):
    """The processes that this console knows. `counts` are summed since the console's start, over their restarts."""

    @property
    def are_known(self) -> bool:
        """Whether there is a list of them at all."""

    async def seen(self) -> Sequence[SeenProcess]: ...

    def counts(self) -> ProcessCounts: ...


class OnlyThisProcess:
    """The embedded engine: receiver, worker and console in one process."""

    are_known = True

    def __init__(self, own: OwnProcess, *, now_ms: Callable[[], int]) -> None:
        self._own = own
        self._now_ms = now_ms

    async def seen(self) -> Sequence[SeenProcess]:
        return [SeenProcess(address="", state=await self._own.state(), seen_at_ms=self._now_ms())]

    def counts(self) -> ProcessCounts:
        return self._own.counts()
