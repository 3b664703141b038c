"""The trouble of an order store, for the readiness check of each engine. Pure, but for the monotonic clock.

A full disk refuses a batch and lets a lease's small update pass, and a read notices nothing at all. So each kind of
work has its own trouble, and work that asks less of the disk cannot end the trouble of work that asks more.
"""

import time
from collections.abc import Callable
from enum import IntEnum

from workers.settlement.plan import LoadRequest

AGED_S = 60.0  # a worker repeats its batch every few seconds; a console's one failed decision is not repeated


class WorkKind(IntEnum):
    """The kinds of work, by how much a success proves."""

    READ = 1
    WRITE = 2
    SETTLE = 3  # give records of the log their dispositions


def kind(needs: LoadRequest) -> WorkKind:
    """Return the kind of a settlement. One without records, which only wakes parked rows, may have nothing to write."""
    return WorkKind.SETTLE if needs.positions else WorkKind.WRITE


class StoreTrouble:
    """The last failure of each kind of work. A success ends the trouble of its own kind and of lesser kinds.

    A failure that is not repeated for `AGED_S` seconds no longer counts, if it was of a batch: no other batch may come
    that could end it.
    """

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._failures: dict[WorkKind, tuple[str, float]] = {}

    def failed(self, work: WorkKind, why: str) -> None:
        """Note that this kind of work failed."""
        self._failures[work] = why, self._now_s()

    def succeeded(self, work: WorkKind) -> None:
        """Note that this kind of work succeeded."""
        for each in tuple(self._failures):
            if each <= work:
                self._failures.pop(each, None)

    @property
    def text(self) -> str | None:
        """The failure of the work that asks most; `None` if all is well."""
        for work in sorted(self._failures.copy(), reverse=True):
            why, at_s = self._failures.get(work, ("", 0.0))
            if why and not (work is WorkKind.SETTLE and self._now_s() - at_s > AGED_S):
                return why
        return None
