"""Elect one worker for the work that only one needs to do: sweep held rows, and send events that others left unsent.

A lease in the database, by the database's clock. The first worker to ask gets it and keeps it while it goes on asking;
when it has expired, the next worker to ask takes it over. One that ends further ahead than any lease was written before
the database's clock was set back, and counts as expired. Like every lease it is an optimisation: a leader that stalls
for a minute still believes in it when it wakes up, and then two workers sweep. The versions of orders and the ids of
events make that harmless.
"""

import asyncio
import time

from workers.errors import InfrastructureDown, RowsLocked
from workers.postgres.database import BRIEFLY, Database, SqlConnection

LEASE_S = 15.0
ASK_EVERY_S = 2.0  # well within the lease; also how often a follower checks whether the leader is gone

_TAKE = """
    INSERT INTO leases AS lease (role, holder, until) VALUES ($1, $2, now() + make_interval(secs => $3))
    ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE lease.holder = excluded.holder OR lease.until < now() OR lease.until > now() + make_interval(secs => 2 * $3)
    RETURNING true
"""


class Leadership:
    """One worker's candidacy for one role. `holder` is its name, which no other worker may have."""

    def __init__(self, database: Database, *, role: str, holder: str, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._role = role
        self._holder = holder
        self._lease_s = lease_s
        self._leads = False
        self._asked_at = self._aside_until = self._has_lease_until = float("-inf")
        self._one_at_a_time = asyncio.Lock()

    async def leads(self) -> bool:
        """Return whether this worker leads. It asks the database only every `ASK_EVERY_S`.

        Raises:
            InfrastructureDown: the database does not answer; this worker does not lead then.
        """
        async with self._one_at_a_time:
            asking_at = time.monotonic()
            if asking_at < self._aside_until:
                return False
            if asking_at - self._asked_at >= min(ASK_EVERY_S, self._lease_s / 3):
                led, self._leads = self._leads, False
                try:
                    self._leads = await self._database.write(self._take, first=BRIEFLY)
                except RowsLocked:
                    # Another session holds the lease's row. No worker can take it then, so nothing changes.
                    self._leads = led
                else:
                    self._has_lease_until = asking_at + self._lease_s if self._leads else float("-inf")
                self._asked_at = asking_at
            return self._leads

    @property
    def is_leading(self) -> bool:
        """Whether this worker had the lease when it last asked, and the lease has not expired since.

        It asks for nothing: a loop that only watches must not keep the lease of a worker whose loops stand still.
        """
        return time.monotonic() < self._has_lease_until

    async def step_aside(self, seconds: float) -> None:
        """Resign, and do not ask for the lease for so long: another worker may be able to do the work."""
        async with self._one_at_a_time:
            self._aside_until = time.monotonic() + seconds
            await self.resign()

    async def resign(self) -> None:
        """Give the lease back, so that another worker can take over at once. If that fails, the lease expires."""
        if not self._leads:
            return
        self._leads = False
        self._has_lease_until = float("-inf")
        try:
            await self._database.write(self._give_back)
        except InfrastructureDown:
            return

    async def _take(self, connection: SqlConnection) -> bool:
        return bool(await connection.fetchval(_TAKE, self._role, self._holder, self._lease_s))

    async def _give_back(self, connection: SqlConnection) -> None:
        await connection.execute("DELETE FROM leases WHERE role = $1 AND holder = $2", self._role, self._holder)
