"""Who does what only one worker need do: sweep what is due, and send what others left behind.

A lease in the database, by the database's clock: the first to ask has it, keeps it while it asks again, and whoever
asks after it has run out takes it over. It is an optimisation like every lease. A leader that stops for a minute still
believes in it when it wakes up; then two sweep, and the versions of orders and the ids of events keep that from
mattering.
"""

import asyncio
import time

from workers.errors import InfrastructureDown
from workers.postgres.database import Database, SqlConnection

LEASE_S = 15.0
ASK_EVERY_S = 2.0  # well within the lease; so long a follower waits to find out that the leader is gone

_TAKE = """
    INSERT INTO leases AS lease (role, holder, until) VALUES ($1, $2, now() + make_interval(secs => $3))
    ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE lease.holder = excluded.holder OR lease.until < now()
    RETURNING true
"""


class Leadership:
    """One worker's candidacy for one role. `holder` is a name that no other worker has."""

    def __init__(self, database: Database, *, role: str, holder: str, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._role = role
        self._holder = holder
        self._lease_s = lease_s
        self._leads = False
        self._asked_at = float("-inf")
        self._one_at_a_time = asyncio.Lock()

    async def leads(self) -> bool:
        """Whether it is this worker's turn. Asks the database only every few seconds.

        Raises:
            InfrastructureDown: nobody knows; then it is not.
        """
        async with self._one_at_a_time:
            asking_at = time.monotonic()
            if asking_at - self._asked_at >= min(ASK_EVERY_S, self._lease_s / 3):
                self._leads = False
                self._leads = await self._database.write(self._take)
                self._asked_at = asking_at
            return self._leads

    async def resign(self) -> None:
        """Let another take over at once, where this worker leads; if that fails, the lease runs out."""
        if not self._leads:
            return
        self._leads = False
        try:
            await self._database.write(self._give_back)
        except InfrastructureDown:
            return

    async def _take(self, connection: SqlConnection) -> bool:
        return bool(await connection.fetchval(_TAKE, self._role, self._holder, self._lease_s))

    async def _give_back(self, connection: SqlConnection) -> None:
        await connection.execute("DELETE FROM leases WHERE role = $1 AND holder = $2", self._role, self._holder)
