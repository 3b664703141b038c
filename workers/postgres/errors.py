"""What a failure of PostgreSQL, or of the way to it, means to the workers. Pure.

The server says what went wrong in five characters, of which the first two are the class. Only a class that speaks of
the values that were sent is a record's own fault; a statement or a schema that is not ours to have is damage that no
waiting mends; everything else, also what nobody here has heard of, is trouble that passes. A guess in that direction
costs time, in the other it would hold healthy payments.
"""

import asyncpg

from workers.errors import InfrastructureDamaged, InfrastructureDown, RecordRefused

# Two transactions want the same rows in different orders, or saw each other's half-done work: the server chose one to
# fail, and it has only to be done again.
_COLLISIONS = frozenset({"40001", "40P01"})

_REFUSALS = (
    "21",  # one statement would write a row twice
    "22",  # a text or a number that no column holds
    "23",  # a constraint, our triggers among them
    "54",  # too long for an index
)
_DAMAGE = (
    "42",  # a table, a column or a right that is not there: the schema is not this program's
    "XX001",  # the file of a table is corrupted
    "XX002",  # the file of an index is
)


class Collided(InfrastructureDown):
    """The server chose this transaction to fail so that another could go on. Nothing of it is there."""


def is_answered(error: BaseException) -> bool:
    """Whether the server itself told of this failure, so that the connection is as good as it was before."""
    said = error.__cause__
    return isinstance(said, asyncpg.PostgresError) and not _class_of(said).startswith(("08", "57P"))


def violated_table(error: BaseException) -> str | None:
    """The table that has a row with the same unique key already; `None` where that is not the matter."""
    said = error.__cause__
    if not isinstance(said, asyncpg.UniqueViolationError):
        return None
    table: str | None = said.table_name
    return table


def translated(error: Exception) -> Exception:
    """The error as the workers know it; it is to be raised from the one that it translates."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return RecordRefused(str(error))  # a value that could not even be sent
    if not isinstance(error, asyncpg.PostgresError):
        return InfrastructureDown(f"PostgreSQL: {type(error).__name__}: {error}".rstrip(": "))
    state = _class_of(error)
    said = f"PostgreSQL: {error} ({state})"
    if state in _COLLISIONS:
        return Collided(said)
    if state.startswith(_REFUSALS):
        return RecordRefused(said)
    if state.startswith(_DAMAGE):
        return InfrastructureDamaged(said)
    return InfrastructureDown(said)


def _class_of(error: asyncpg.PostgresError) -> str:
    return error.sqlstate or ""
