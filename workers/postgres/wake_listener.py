"""Hear when another process has made parked rows due, so that no sweeper has to find out by itself.

    a transaction meets parked rows ──► NOTIFY, sent with its COMMIT ──► every worker ──► the leading one sweeps

Only a transaction that meets such rows sends one (`workers.postgres.wakes`), because commits with a NOTIFY wait for
each other. Nothing depends on it. While the connection is away, the sweeper's next look finds the rows; also behind a
pooler that shares sessions between transactions, where no notification arrives.
"""

import asyncio
from contextlib import suppress

import asyncpg

from workers.postgres import database
from workers.postgres.database import Address
from workers.postgres.wakes import CHANNEL

CONNECT_S = 5.0
AGAIN_S = 5.0
ALIVE_EVERY_S = 30.0  # else a connection whose other end is gone would be waited for in vain
ANSWER_S = 5.0


class WakeListener:
    """A connection of its own that listens. It sets `woken`."""

    def __init__(
        self, dsn: Address, woken: asyncio.Event, *, again_s: float = AGAIN_S, alive_every_s: float = ALIVE_EVERY_S
    ) -> None:
        self._dsn = dsn
        self._woken = woken
        self._again_s = again_s
        self._alive_every_s = alive_every_s

    async def run(self) -> None:
        """Listen for ever. Connect again when the connection is lost."""
        while True:
            with suppress(Exception):  # the loops that need the database report that it is away
                await self._listen()
            await asyncio.sleep(self._again_s)

    async def _listen(self) -> None:
        """Listen until the connection is lost."""
        connection = await asyncpg.connect(
            database.address_now(self._dsn),
            timeout=CONNECT_S,
            command_timeout=ANSWER_S,
            statement_cache_size=0,
            server_settings={"application_name": "alipay-notify"},
        )
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            schema = await connection.fetchval("SELECT current_schema()")
            await connection.add_listener(CHANNEL, lambda *notified: self._wake(notified[-1], schema))
            self._woken.set()  # for what was missed until now
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._alive_every_s):
                        await lost.wait()
                        return
                await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _wake(self, payload: object, schema: str) -> None:
        if payload == schema:  # other schemas of the database are other installations
            self._woken.set()
