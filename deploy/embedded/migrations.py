"""The schemas of the engine's two files: numbered SQL scripts; all that a file lacks are applied in one transaction.

A file carries two numbers in its header: `application_id`, which says to which program and kind it belongs, and
`user_version`, the number of its last script. Both change in the transaction of the scripts, so a process that is
killed during an upgrade leaves either the old schema or the new one.
"""

import sqlite3

from msgspec import Struct

from workers import migration_files


class FileNotUsable(Exception):
    """A file or directory cannot be used as it is, and the start is refused. The message names it and the fault."""


class Schema(Struct, frozen=True, kw_only=True):
    """The schema of one kind of file: an id that no other program's files have, and the scripts in order."""

    application_id: int
    scripts: tuple[str, ...]


def load(folder: str, *, application_id: int) -> Schema:
    """Return the schema with the scripts in `migrations/<folder>`."""
    files = migration_files.load(__package__, f"migrations/{folder}")
    return Schema(application_id=application_id, scripts=tuple(file.sql for file in files))


def is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether none of our scripts was ever applied to the file."""
    return _number(connection, "user_version") == 0


def migrate(connection: sqlite3.Connection, schema: Schema) -> bool:
    """Apply the scripts that the file lacks; False if it lacks none.

    Raises:
        FileNotUsable: the file belongs to another program, or a later version of this one wrote it.
    """
    application_id = _number(connection, "application_id")
    applied = _number(connection, "user_version")
    if applied == 0 and application_id == 0 and _number(connection, "schema_version") > 0:
        raise FileNotUsable("holds tables of another program")
    if applied and application_id != schema.application_id:
        raise FileNotUsable("is a file of another kind")
    if applied > len(schema.scripts):
        raise FileNotUsable(
            f"has schema {applied}, and this program knows up to {len(schema.scripts)}: use the later version"
        )
    if applied == len(schema.scripts):
        return False
    # One script with its own BEGIN, because executescript first commits a transaction that was begun outside.
    steps = [
        "BEGIN IMMEDIATE",
        *(script.rstrip().removesuffix(";") for script in schema.scripts[applied:]),
        f"PRAGMA application_id = {schema.application_id}",
        f"PRAGMA user_version = {len(schema.scripts)}",
        "COMMIT",
    ]
    try:
        connection.executescript(";\n".join(steps) + ";")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number
