"""The database's clock, by which all processes of a cluster decide about times that they share.

The clocks of two machines differ, and each may jump. So no process compares its wall clock with a time that another one
has written. It asks the database for the time once a second, with the next query, and goes on from there by its own
monotonic clock, which never jumps. If its wall clock and its monotonic clock do not agree about the time since, the
machine was suspended or its clock was set: then the database is asked at once.

    database   ──── 12:00:00 ───────────────────────── 12:00:01 ────────
                        │ asked                            │ asked again
    this process   12:00:00 + monotonic seconds since      └─► a difference is a jump of the database's clock

The database's clock may jump too, after a failover to a machine whose clock differs. That is noticed, and nothing is
given up because of it: `workers.settlement.parking`.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

ASK_EVERY_S = 1.0
JUMP_MS = 2000  # more than the time of one query may pretend


class AskedConnection(Protocol):
    """The part of a connection that is used here."""

    async def fetchval(self, query: str, *args: Any) -> Any: ...


class DatabaseClock:
    """The time of one database. Until it was asked for the first time, the process's wall clock stands in.

    `skew_ms` is how far this machine's wall clock is ahead of the database's. `jumped` is called with the milliseconds
    by which the database's clock has jumped.
    """

    def __init__(
        self,
        *,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.jumped: Callable[[int], None] = lambda ms: None
        self._wall_ms = wall_ms
        self._now_s = now_s
        self._asked: tuple[float, int, int] | None = None  # our monotonic time, our wall clock, the database's

    @property
    def skew_ms(self) -> int:
        return 0 if self._asked is None else self._wall_ms() - self.epoch_ms()

    @property
    def is_due(self) -> bool:
        """Return whether the database is to be asked with the next query."""
        if self._asked is None:
            return True
        asked_s, wall_ms, _ = self._asked
        passed_s = self._now_s() - asked_s
        return passed_s >= ASK_EVERY_S or abs(self._wall_ms() - wall_ms - passed_s * 1000) >= ASK_EVERY_S * 1000

    def epoch_ms(self) -> int:
        """Return the database's time in milliseconds since 1970."""
        if self._asked is None:
            return self._wall_ms()
        asked_s, _, database_ms = self._asked
        return database_ms + int((self._now_s() - asked_s) * 1000)

    def monotonic_s(self) -> float:
        """Return the seconds of this process's monotonic clock."""
        return self._now_s()

    async def ask(self, connection: AskedConnection) -> None:
        """Ask the database for its time."""
        began_s = self._now_s()
        answered_ms: int = await connection.fetchval("SELECT clock_timestamp()")
        took_ms = (self._now_s() - began_s) * 1000
        database_ms = answered_ms + int(took_ms / 2)
        moved_ms = 0 if self._asked is None else database_ms - self.epoch_ms()
        self._asked = (self._now_s(), self._wall_ms(), database_ms)
        if abs(moved_ms) >= JUMP_MS + took_ms:
            self.jumped(moved_ms)
