"""One PostgreSQL database: a small pool of connections, and transactions that end within a deadline.

When `write` returns, its transaction is committed. When it raises, the transaction was rolled back, or its connection
was cut, which has the same effect. There is one exception that no client can avoid: if the answer to COMMIT was lost,
the commit may have happened. So after an `InfrastructureDown` the outcome is unknown, and the callers retry.

Only collisions of two transactions are retried here, up to five times with growing waits. An outage is left to the
worker's backoff, because two nested retry loops would multiply.

Every error of a session or of the pool is translated to one of the workers' errors, also an unknown one: as a fault of
the work, an unknown client error would hold healthy records. Errors that the work itself raises pass unchanged.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import asyncpg
from msgspec import Struct
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from workers.errors import InfrastructureDown, ReadTooSlow, RecordRefused, RowsLocked, VersionConflict
from workers.postgres import errors
from workers.postgres.clock import DatabaseClock
from workers.postgres.errors import Collided
from workers.store_trouble import StoreTrouble, WorkKind

ATTEMPTS_MAX = 5
FIRST_WAIT_S = 0.02
WAIT_MAX_S = 0.5
ROLLBACK_S = 1.0
SERVER_LEAST = 140_000
BRIEFLY = "SET LOCAL lock_timeout = '200ms'"  # for `first`: wait for a lock only as long as another worker holds it
MOMENTS_MAX = 1024
UNIX_MS_OF_2000 = 946_684_800_000  # the server counts its microseconds from there

# Each of our statements finds its rows by an index. Most plans are made while their table is still empty: a plan with a
# sequential scan would stay in use while the table grows.
_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}

# Operators' lists are read in the order of an index. With little statistics, the planner would rather collect all rows
# and sort them.
_READING_PLANS = {"enable_bitmapscan": "off", "enable_incremental_sort": "off"}

# The transaction gets its id before it draws from a sequence: `workers.postgres.feed` relies on that.
_TAKE_ID = "SELECT pg_current_xact_id()"
_BEGIN_WRITE = f"BEGIN; {_TAKE_ID}"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# Raised by asyncpg's COPY for a value that does not fit its column. For parameters it has an error class of its own.
_UNSENDABLE = (TypeError, ValueError, OverflowError)

T = TypeVar("T")


class SqlConnection(Protocol):
    """The part of asyncpg's connection that our statements use."""

    async def execute(self, query: str, *args: Any) -> str: ...

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[Sequence[Any]], columns: Sequence[str]
    ) -> str: ...


Work = Callable[[SqlConnection], Awaitable[T]]
# A function is asked for the address at each new connection, since its password may have been replaced.
Address = str | Callable[[], str]


class DatabaseNotUsable(Exception):
    """The database cannot be used as it is, and the start is refused. The message names the fault."""


class DatabaseLimits(Struct, frozen=True, kw_only=True):
    """Time limits, and the size of the pool. `statement_cache` must be 0 behind an old pgbouncer.

    `statement_ms` is the server's limit of one statement; 0 sets none.
    """

    connections_min: int = 1
    connections_max: int = 4
    acquire_s: float = 2.0
    command_s: float = 5.0
    transaction_s: float = 10.0  # all statements of a batch, with their waits for locks
    statement_ms: int = 0
    lock_ms: int = 2000  # how long a stranger's row lock can delay one batch
    connect_s: float = 5.0
    statement_cache: int = 100


# For operators' reads alone, so that settling never waits for a connection that one of them has. The server cancels a
# statement that takes longer, and its asker gets `ReadTooSlow`.
OPERATORS = DatabaseLimits(
    connections_min=0, connections_max=3, acquire_s=3.0, command_s=4.0, transaction_s=6.0, statement_ms=3000
)


class Database:
    """An open pool."""

    def __init__(self, pool: Any, limits: DatabaseLimits, clock: DatabaseClock | None = None) -> None:
        self._pool = pool
        self._limits = limits
        self._clock = clock
        self._trouble = StoreTrouble()

    @classmethod
    async def open(cls, dsn: Address, *, limits: DatabaseLimits, clock: DatabaseClock | None = None) -> "Database":
        """Open a pool on this database. The clock, if there is one, is kept right by its work.

        Raises:
            DatabaseNotUsable: the server is too old, or may lose commits in a crash.
            InfrastructureDown: it cannot be reached now.
        """
        pool = await _pool(dsn, limits, _PLANS)
        database = cls(pool, limits, clock)
        try:
            await database.read(_check_server)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def open_for_reads(cls, dsn: Address, *, limits: DatabaseLimits = OPERATORS) -> "Database":
        """Open a pool for operators' reads on a database that another pool has checked. It connects at its first read.

        Raises:
            DatabaseNotUsable: the address is malformed.
        """
        return cls(await _pool(dsn, limits, _PLANS | _READING_PLANS), limits)

    @property
    def trouble(self) -> str | None:
        """The last failure, by the rules of `workers.store_trouble`; `None` if all is well."""
        return self._trouble.text

    async def write(self, work: Work[T], kind: WorkKind = WorkKind.WRITE, *, first: str = "") -> T:
        """Run the work in one transaction. When this returns, the transaction is committed and durable.

        The work runs again after a collision, so it must have no effects outside its connection. `kind` is for
        `trouble`. `first` are statements that are sent with BEGIN; a lock that they do not get is a table's.

        Raises:
            RecordRefused: a value does not fit the database; nothing is written.
            RowsLocked: another session holds a row for longer than `lock_ms`; nothing is written.
            InfrastructureDamaged: the schema is not ours, or a file is damaged.
            InfrastructureDown: it is unknown whether something was written.
        """
        with self._noting_trouble(kind):
            begin = f"BEGIN; {first}; {_TAKE_ID}" if first else _BEGIN_WRITE
            try:
                return await self._transaction(begin, work)
            except Collided as error:
                collided = error
            return await self._write_again(begin, work, collided)

    async def read(self, work: Work[T], *, of_one_moment: bool = False) -> T:
        """Run the reading work. It takes no row locks and waits for none.

        With `of_one_moment`, all its statements see one snapshot.
        """
        with self._noting_trouble(WorkKind.READ):
            if of_one_moment:
                return await self._transaction(_BEGIN_READ, work)
            return await self._with_connection(work)

    async def close(self) -> None:
        """Finish the running transactions, within the deadline of one, and close the connections."""
        try:
            async with asyncio.timeout(self._limits.transaction_s):
                await self._pool.close()
        except Exception:
            self._pool.terminate()

    async def _write_again(self, begin: str, work: Work[T], collided: Collided) -> T:
        """Repeat a transaction after a collision. Those that meet none are spared the 200 µs that tenacity costs."""
        failures = [collided]

        # Tenacity's first attempt repeats the failure, so that its count and its first wait include it.
        async def attempt() -> T:
            if failures:
                raise failures.pop()
            return await self._transaction(begin, work)

        return await AsyncRetrying(
            retry=retry_if_exception_type(Collided),
            stop=stop_after_attempt(ATTEMPTS_MAX),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=WAIT_MAX_S),
            reraise=True,
        )(attempt)

    async def _transaction(self, begin: str, work: Work[T]) -> T:
        async def transaction(connection: SqlConnection) -> T:
            try:
                await connection.execute(begin)
            except RowsLocked as error:
                raise InfrastructureDown(f"a table is locked: {error}") from error.__cause__
            result = await work(connection)
            await connection.execute("COMMIT")
            return result

        return await self._with_connection(transaction)

    async def _with_connection(self, work: Work[T]) -> T:
        failed: BaseException | None = None
        try:
            async with (
                asyncio.timeout(self._limits.transaction_s),
                self._pool.acquire(timeout=self._limits.acquire_s) as connection,
            ):
                session = _Session(connection)
                try:
                    if self._clock is not None and self._clock.is_due:
                        await self._clock.ask(session)
                    return await work(session)
                except BaseException as error:
                    failed = error
                    await session.undo(error)
                    raise
        except Exception as error:
            if error is failed:
                raise
            raise errors.translated(error) from error  # from the pool, or the deadline

    @contextlib.contextmanager
    def _noting_trouble(self, kind: WorkKind) -> Iterator[None]:
        try:
            yield
        except InfrastructureDown as error:
            if self._limits.statement_ms and errors.is_cancelled(error):
                raise ReadTooSlow(f"the order store took longer than {self._limits.statement_ms / 1000:g} s") from error
            if not isinstance(error, VersionConflict):
                self._trouble.failed(kind, str(error))
            raise
        self._trouble.succeeded(kind)


class _Session:
    """One connection, while a piece of work uses it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, query: str, *args: Any) -> str:
        status: str = await self._translate(self._connection.execute(query, *args))
        return status

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        found: list[Any] = await self._translate(self._connection.fetch(query, *args))
        return found

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._translate(self._connection.fetchrow(query, *args))

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._translate(self._connection.fetchval(query, *args))

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
        """Roll back if the connection still answers; else cut it.

        A server that did not answer is not asked to roll back, because a stuck server would block this caller too.
        """
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
        with contextlib.suppress(Exception):  # the pool may have released a broken connection already
            self._connection.terminate()

    async def _translate(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except Exception as error:
            raise errors.translated(error) from error


def address_now(dsn: Address) -> str:
    """Return the present address."""
    return dsn if isinstance(dsn, str) else dsn()


async def _pool(dsn: Address, limits: DatabaseLimits, plans: Mapping[str, str]) -> Any:
    async def connect(*_: Any, **options: Any) -> Any:
        return await asyncpg.connect(address_now(dsn), **options)

    try:
        return await asyncpg.create_pool(
            address_now(dsn),
            connect=connect,
            min_size=limits.connections_min,
            max_size=limits.connections_max,
            max_inactive_connection_lifetime=300,
            timeout=limits.connect_s,
            command_timeout=limits.command_s,
            statement_cache_size=limits.statement_cache,
            server_settings={
                "application_name": "alipay-notify",
                "lock_timeout": str(limits.lock_ms),
                "idle_in_transaction_session_timeout": str(int(limits.transaction_s * 1000)),
                **plans,
                **({"statement_timeout": str(limits.statement_ms)} if limits.statement_ms else {}),
            },
            init=_use_milliseconds,
            reset=_no_reset,
        )
    except asyncpg.ClientConfigurationError as error:
        raise DatabaseNotUsable(f"the address of PostgreSQL is malformed: {error}") from None
    except Exception as error:
        raise errors.translated(error) from error


async def _use_milliseconds(connection: Any) -> None:
    """Convert `timestamptz`, which operators can read in the tables, from and to our epoch milliseconds."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=_encoded,
        decoder=lambda moment: moment[0] // 1000 + UNIX_MS_OF_2000,
    )


@lru_cache(MOMENTS_MAX)
def _encoded(ms: int) -> tuple[int]:
    """Return the moment as the server has it; cached, because most moments in the rows of a batch are the same."""
    return ((ms - UNIX_MS_OF_2000) * 1000,)


async def _no_reset(connection: Any) -> None:
    """Replace asyncpg's reset, which costs a round trip: our transactions leave no state in a session."""


async def _check_server(connection: SqlConnection) -> None:
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, current_setting('fsync'), "
        "current_setting('full_page_writes'), current_setting('synchronous_commit')"
    )
    version, *durability = row
    if version < SERVER_LEAST:
        raise DatabaseNotUsable(
            f"PostgreSQL {version // 10_000} is too old: {SERVER_LEAST // 10_000} or later is needed"
        )
    for name, value in zip(("fsync", "full_page_writes", "synchronous_commit"), durability, strict=True):
        if value == "off":
            raise DatabaseNotUsable(f"{name} is off on the server: a crash would lose committed transactions")
