"""Finds the events that another worker has left unsent. The leader of the role `sending` walks over them.

No time in the table decides, because it is of another machine's clock. The leader goes by its own first sight: at each
look it notes the highest number of an unsent event. An event that is still unsent `ORPHANED_AFTER_S` after its number
was noted, by the leader's monotonic clock, was left behind: a living worker sends right after its commit.

                 walked up to                   noted 2 s ago          noted now
    numbers ──────────┤  the next events of the walk  ├───  too young  ────┤  not yet written
                      └── skipped: away, refused, or after an event that another worker may be about to send

The walk goes on where it ended. So events that cannot be sent now are met once in a walk, and those behind them get
their turn. It begins anew after `WALK_AGAIN_S`, and at once when a topic is back or when events were left for lack of
memory: so all that was skipped comes back, and so does an event whose number was drawn early and committed late.
"""

import time
from collections import deque
from collections.abc import Callable, Container

from msgspec import Struct

from workers import row_codec
from workers.emission import REFUSED_AGAIN_S, Away
from workers.postgres import columns
from workers.postgres.database import SqlConnection
from workers.queries import Emitted

ORPHANED_AFTER_S = 2.0
LOOK_EVERY_S = 1.0
LOOK_LATEST_S = 2.0  # even if there are always events of our own, which a look delays
WALK_AGAIN_S = REFUSED_AGAIN_S
NUMBERS_MAX = 50_000  # per query: rows of topics that are away are read in vain
QUERIES_MAX = 10  # per look


class WalkStep(Struct, frozen=True):
    """Orphans, oldest first; how far the walk came to find them; and whether there may be more."""

    orphans: list[Emitted]
    walked: int
    is_end: bool


class OrphanWalk:
    """A leader's walk over the unsent events of some topics, by the monotonic clock."""

    def __init__(self, only: frozenset[str], now_s: Callable[[], float] = time.monotonic) -> None:
        self._only = only
        self._now_s = now_s
        self._looked_s = float("-inf")
        self._noted: deque[tuple[float, int]] = deque()  # (when, the highest unsent number)
        self._walked = 0
        self._is_end = True
        self._began_s = now_s()
        self._away: frozenset[str] = frozenset()

    def begins_look(self, *, is_hungry: bool) -> bool:
        """Return whether it is time for a look, and begin it: once in a while, and while there are more orphans and
        nothing else to send (`is_hungry`). Events of our own go first, unless the last look was long ago."""
        now_s = self._now_s()
        has_more = is_hungry and not self._is_end
        if not has_more and now_s - self._looked_s < (LOOK_EVERY_S if is_hungry else LOOK_LATEST_S):
            return False
        self._looked_s = now_s
        return True

    def forget_sight(self) -> None:
        """Take every event as seen for the first time, because another worker leads."""
        self._noted.clear()
        self._walked = 0

    def walk_again(self) -> None:
        """Walk from the oldest event on: some that were met may have been left since."""
        self._walked, self._began_s = 0, self._now_s()

    def heed(self, away: Away) -> None:
        """Walk again if it is time, or if a topic is back."""
        if self._now_s() - self._began_s >= WALK_AGAIN_S or self._away - away.topics:
            self.walk_again()
        self._away = away.topics

    async def find(self, connection: SqlConnection, limit: int, *, own: Container[int], away: Away) -> WalkStep:
        """Return the next orphans that can be sent now; call `moved` when they are adopted.

        `own` are the numbers of the events that this worker is about to send.
        """
        upto, walked = await self._orphaned_upto(connection), self._walked
        wanted = sorted(self._only - away.topics)
        for _ in range(QUERIES_MAX):
            if walked >= upto or not wanted or not limit:
                return WalkStep([], walked, is_end=True)
            end = min(upto, walked + NUMBERS_MAX)
            rows = await connection.fetch(_ORPHANS, walked, end, wanted, limit)
            walked = rows[-1][0] if len(rows) == limit else end
            if orphans := _sendable(rows, own, away):
                return WalkStep(orphans, walked, is_end=walked >= upto)
        return WalkStep([], walked, is_end=False)

    def moved(self, found: WalkStep) -> None:
        """Go on behind these orphans."""
        self._walked, self._is_end = found.walked, found.is_end

    async def _orphaned_upto(self, connection: SqlConnection) -> int:
        """Note the highest unsent number; return the one that was noted `ORPHANED_AFTER_S` ago, 0 if there is none."""
        highest: int = await connection.fetchval(_HIGHEST)
        now_s = self._now_s()
        self._noted.append((now_s, highest))
        while len(self._noted) > 1 and self._noted[1][0] <= now_s - ORPHANED_AFTER_S:
            self._noted.popleft()
        seen_s, number = self._noted[0]
        return number if seen_s <= now_s - ORPHANED_AFTER_S else 0


def _sendable(rows: list[tuple[object, ...]], own: Container[int], away: Away) -> list[Emitted]:
    """Leave out events that are away, and each version whose predecessor is unsent and will not be sent before it."""
    taken: dict[object, Emitted] = {}
    for *columns_, previous in rows:
        orphan = row_codec.emitted(tuple(columns_))
        if not away.holds(orphan.event) and (previous is None or previous in own or previous in taken):
            taken[orphan.number] = orphan
    return list(taken.values())


_HIGHEST = "SELECT coalesce((SELECT number FROM outbox WHERE sent_at IS NULL ORDER BY number DESC LIMIT 1), 0)"
_ORPHANS = f"""
    SELECT {columns.EMITTED}, (
        SELECT previous.number FROM outbox AS previous
        WHERE outbox.version > 1 AND previous.sent_at IS NULL
            AND previous.id = left(outbox.id, -length(outbox.version::text)) || (outbox.version - 1)
    ) AS previous
    FROM outbox
    WHERE sent_at IS NULL AND number > $1 AND number <= $2 AND topic = ANY($3::text[])
    ORDER BY outbox.number LIMIT $4
"""  # noqa: S608 - our own list of columns
