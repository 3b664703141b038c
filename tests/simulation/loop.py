"""An event loop whose time passes at once: whenever nothing is ready, it jumps to the next timer.

A history of minutes takes milliseconds, and the same seed gives the same history, because nothing waits for a machine.
"""

import asyncio
from typing import Any

TURNS_MAX = 200_000  # of one history; more of them are a busy loop


class Stuck(Exception):
    """Nothing is ready and no timer is set, or the loop turns without an end."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. Its time begins at 0 s."""

    def __init__(self, *, turns_max: int = TURNS_MAX) -> None:
        super().__init__()
        self.now_s = 0.0
        self.turns = 0
        self._turns_max = turns_max
        self._selector = self
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now_s

    def select(self, timeout_s: float | None) -> list[Any]:
        """Let the time pass until the next timer is due. The base class asks this of its selector."""
        self.turns += 1
        if timeout_s is None or self.turns > self._turns_max:
            raise Stuck("no task can go on" if timeout_s is None else f"more than {self._turns_max} turns")
        self.now_s += timeout_s
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no sockets."""

    def _write_to_self(self) -> None:
        """Do nothing: there are no threads."""
