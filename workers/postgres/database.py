"""One PostgreSQL database: a small pool of connections, and transactions that end within a deadline.

What is promised: when `write` returns, its transaction is committed. Whatever it raises, the transaction was rolled
back, or its connection was cut, which comes to the same; with one exception that no client can avoid: where the answer
to COMMIT was lost, it may have been done. So an `InfrastructureDown` of a write is unknown, and everything above finds
out by trying again.

Two transactions that got in each other's way are retried in here, five times with growing waits, since nobody else is
concerned. Nothing else is: the worker's own pause has the patience for an outage, and two of them would multiply.

Whatever a session or the pool raises leaves in the workers' own words, of whatever kind it was: an error of the
client's that nobody has met before must not pass for a fault of the work, which would hold healthy records. What the
work itself raises leaves as it is.

A connection whose server did not answer is cut and not asked to roll back: a wedged server would hold the asker as long
as its question. Sessions carry no state from one transaction to the next, so none is reset when it goes back.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import asyncpg
from msgspec import Struct
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from workers.errors import InfrastructureDown, RecordRefused, VersionConflict
from workers.postgres import errors
from workers.postgres.errors import Collided

ATTEMPTS_MAX = 5
FIRST_WAIT_S = 0.02
WAIT_MAX_S = 0.5
ROLLBACK_S = 1.0
SERVER_LEAST = 140_000
UNIX_MS_OF_2000 = 946_684_800_000  # the server counts its microseconds from there

# Every statement of ours finds its rows by an index, and most of them run on tables that were empty when the plan was
# made: a plan that scans would stay in use while its table grows.
_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}

# The transaction has its number before it takes any from a sequence: the feed of events counts on that.
_BEGIN_WRITE = "BEGIN; SELECT pg_current_xact_id()"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# What the client makes of a value that no column holds, while it copies: as a parameter's, the fault has its own name.
_UNSENDABLE = (TypeError, ValueError, OverflowError)

T = TypeVar("T")


class SqlConnection(Protocol):
    """What statements are run on: asyncpg's connection, as far as we use it."""

    async def execute(self, query: str, *args: Any) -> str: ...

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[Sequence[Any]], columns: Sequence[str]
    ) -> str: ...


Work = Callable[[SqlConnection], Awaitable[T]]


class DatabaseNotUsable(Exception):
    """The database cannot be used as it is, and the start is refused: it says what is wrong with it."""


class DatabaseLimits(Struct, frozen=True, kw_only=True):
    """How long things may take, and how many connections there are. `statement_cache` is 0 behind an old pgbouncer."""

    connections_max: int = 4
    acquire_s: float = 2.0
    command_s: float = 5.0
    transaction_s: float = 10.0  # all statements of a batch and their waits for locks
    lock_ms: int = 2000  # a stranger who holds a row holds up one batch so long
    connect_s: float = 5.0
    statement_cache: int = 100


class Database:
    """An open pool. `trouble` says what its last work failed of, and is `None` while all is well.

    What a write failed of stays until a write succeeds: of a full disk, reading notices nothing.
    """

    def __init__(self, pool: Any, limits: DatabaseLimits) -> None:
        self.trouble: str | None = None
        self._pool = pool
        self._limits = limits
        self._is_write_in_trouble = False

    @classmethod
    async def open(cls, dsn: str, *, limits: DatabaseLimits) -> "Database":
        """A pool on this database.

        Raises:
            DatabaseNotUsable: the server is too old, or does not keep what it commits.
            InfrastructureDown: it cannot be reached now.
        """
        try:
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=limits.connections_max,
                max_inactive_connection_lifetime=300,
                timeout=limits.connect_s,
                command_timeout=limits.command_s,
                statement_cache_size=limits.statement_cache,
                server_settings={
                    "application_name": "alipay-notify",
                    "lock_timeout": str(limits.lock_ms),
                    "idle_in_transaction_session_timeout": str(int(limits.transaction_s * 1000)),
                    **_PLANS,
                },
                init=_keep_moments_as_milliseconds,
                reset=_leave_as_it_is,
            )
        except asyncpg.ClientConfigurationError as error:
            raise DatabaseNotUsable(f"the address of PostgreSQL is none: {error}") from None
        except Exception as error:
            raise errors.translated(error) from error
        database = cls(pool, limits)
        try:
            await database.read(_check_server)
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, work: Work[T]) -> T:
        """Do the work in one transaction. When this returns, it is committed and durable.

        The work is done again after a collision, so it has to be of no effect but on its connection.

        Raises:
            RecordRefused: the work holds a value that the database cannot; nothing is written.
            Broken: the schema is not ours, or a file is damaged.
            InfrastructureDown: whether something was written is unknown.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Collided),
            stop=stop_after_attempt(ATTEMPTS_MAX),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=WAIT_MAX_S),
            reraise=True,
        )
        with self._noticing(is_write=True):
            result: T = await retrying(self._transaction, _BEGIN_WRITE, work)
            return result

    async def read(self, work: Work[T], *, of_one_moment: bool = False) -> T:
        """Do the reading work. It locks nothing and waits for nobody.

        Work of several statements may ask to see them all `of_one_moment`.
        """
        with self._noticing(is_write=False):
            if of_one_moment:
                return await self._transaction(_BEGIN_READ, work)
            return await self._with_connection(work)

    async def close(self) -> None:
        """Finish what is under way, within the deadline of a transaction, and close the connections."""
        try:
            async with asyncio.timeout(self._limits.transaction_s):
                await self._pool.close()
        except Exception:
            self._pool.terminate()

    async def _transaction(self, begin: str, work: Work[T]) -> T:
        async def whole(connection: SqlConnection) -> T:
            await connection.execute(begin)
            result = await work(connection)
            await connection.execute("COMMIT")
            return result

        return await self._with_connection(whole)

    async def _with_connection(self, work: Work[T]) -> T:
        failed: BaseException | None = None
        try:
            async with (
                asyncio.timeout(self._limits.transaction_s),
                self._pool.acquire(timeout=self._limits.acquire_s) as connection,
            ):
                session = _Session(connection)
                try:
                    return await work(session)
                except BaseException as error:
                    failed = error
                    await session.undo(error)
                    raise
        except Exception as error:
            if error is failed:
                raise
            raise errors.translated(error) from error  # of the pool, or the deadline's

    @contextlib.contextmanager
    def _noticing(self, *, is_write: bool) -> Iterator[None]:
        try:
            yield
        except InfrastructureDown as error:
            if not isinstance(error, VersionConflict):
                self.trouble = str(error)
                self._is_write_in_trouble = self._is_write_in_trouble or is_write
            raise
        if is_write or not self._is_write_in_trouble:
            self.trouble = None
            self._is_write_in_trouble = False


class _Session:
    """One connection while a piece of work has it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, query: str, *args: Any) -> str:
        status: str = await self._told(self._connection.execute(query, *args))
        return status

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        found: list[Any] = await self._told(self._connection.fetch(query, *args))
        return found

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._told(self._connection.fetchrow(query, *args))

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._told(self._connection.fetchval(query, *args))

    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[Sequence[Any]], columns: Sequence[str]
    ) -> str:
        try:
            status: str = await self._connection.copy_records_to_table(table_name, records=records, columns=columns)
        except _UNSENDABLE as error:
            raise RecordRefused(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            raise errors.translated(error) from error
        return status

    async def undo(self, error: BaseException) -> None:
        """Roll back over a connection that answers; cut one that may not."""
        is_sound = not isinstance(error, asyncio.CancelledError | InfrastructureDown) or isinstance(
            error, VersionConflict
        )
        try:
            if not (is_sound or errors.is_answered(error)):
                self._cut()
            elif self._connection.is_in_transaction():
                async with asyncio.timeout(ROLLBACK_S):
                    await self._connection.execute("ROLLBACK")
        except Exception:
            self._cut()

    def _cut(self) -> None:
        with contextlib.suppress(Exception):  # the pool has taken it back by itself, since it is broken
            self._connection.terminate()

    async def _told(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except Exception as error:
            raise errors.translated(error) from error


async def _keep_moments_as_milliseconds(connection: Any) -> None:
    """Columns are moments that a person can read; our shapes count epoch milliseconds, and so do all parameters."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda ms: ((ms - UNIX_MS_OF_2000) * 1000,),
        decoder=lambda moment: moment[0] // 1000 + UNIX_MS_OF_2000,
    )


async def _leave_as_it_is(connection: Any) -> None:
    """Instead of asyncpg's own reset, which costs a round trip for what our transactions never leave behind."""


async def _check_server(connection: SqlConnection) -> None:
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, current_setting('fsync'), "
        "current_setting('full_page_writes'), current_setting('synchronous_commit')"
    )
    version, *kept = row
    if version < SERVER_LEAST:
        raise DatabaseNotUsable(
            f"PostgreSQL {version // 10_000} is too old: {SERVER_LEAST // 10_000} or later is needed"
        )
    for name, value in zip(("fsync", "full_page_writes", "synchronous_commit"), kept, strict=True):
        if value == "off":
            raise DatabaseNotUsable(f"{name} is off on the server: what it says is committed may be gone after a crash")
