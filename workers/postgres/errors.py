"""Translate failures of PostgreSQL and of the connection to it into the workers' errors. Pure.

The server's error code has five characters; the first two are its class. Only classes about the sent values count as
the record's own fault. A failing statement or a foreign schema is damage that no waiting repairs. Everything else, also
an unknown code, counts as an outage that passes. If that guess is wrong it costs time; the opposite wrong guess would
hold healthy payments.
"""

import asyncpg

from workers.errors import InfrastructureDamaged, InfrastructureDown, RecordRefused, RowsLocked

# A deadlock or a serialization failure: the server chose one transaction to fail, and it only has to be run again.
_COLLISIONS = frozenset({"40001", "40P01"})

_REFUSALS = (
    "21",  # one statement would write a row twice
    "22",  # a text or a number that no column holds
    "23",  # a constraint, our triggers among them
    "54",  # too long for an index
)
_DAMAGE = (
    "42",  # a table, a column or a right is missing: the schema is not this program's
    "XX001",  # the file of a table is corrupted
    "XX002",  # the file of an index is corrupted
)


_LOCK_TIMEOUT = "55P03"


class Collided(InfrastructureDown):
    """The server rolled this transaction back so that another could go on."""


def is_answered(error: BaseException) -> bool:
    """Return whether the server itself reported this failure, and the connection is still usable.

    A session that may only read stays so, although another one may write by now: after a failover its server is a
    standby, and a setting that made the database read-only for a while counts from the begin of a session.
    """
    cause = error.__cause__
    return isinstance(cause, asyncpg.PostgresError) and not _code(cause).startswith(("08", "57P", "25006"))


def is_cancelled(error: BaseException) -> bool:
    """Return whether the server cancelled the statement, because of its time limit or for an administrator."""
    return isinstance(error.__cause__, asyncpg.QueryCanceledError)


def violated_table(error: BaseException) -> str | None:
    """Return the table that already has a row with the same unique key; `None` if the error is another one."""
    cause = error.__cause__
    if not isinstance(cause, asyncpg.UniqueViolationError):
        return None
    table: str | None = cause.table_name
    return table


def translated(error: Exception) -> Exception:
    """Return the workers' error for this one. Raise it `from` the original, which the functions above look at."""
    if isinstance(error, asyncpg.ClientConfigurationError):  # its text may quote a piece of the password
        return InfrastructureDown("PostgreSQL: its address is malformed")
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return RecordRefused(str(error))  # a value that could not even be sent
    if not isinstance(error, asyncpg.PostgresError):
        return InfrastructureDown(f"PostgreSQL: {type(error).__name__}: {error}".rstrip(": "))
    code = _code(error)
    message = f"PostgreSQL: {error} ({code})"
    if code in _COLLISIONS:
        return Collided(message)
    if code == _LOCK_TIMEOUT:
        return RowsLocked(message)
    if code.startswith(_REFUSALS):
        return RecordRefused(message)
    if code.startswith(_DAMAGE):
        return InfrastructureDamaged(message)
    return InfrastructureDown(message)


def _code(error: asyncpg.PostgresError) -> str:
    return error.sqlstate or ""
