"""The schemas of the engine's two files: numbered scripts, applied in one transaction.

A file carries two numbers in its header: whose it is (`application_id`) and how many scripts it has seen
(`user_version`). Both change in the transaction of the scripts, so a process that is killed in the midst of an upgrade
leaves the old schema or the new one.
"""

import sqlite3
from importlib import resources

from msgspec import Struct


class FileNotUsable(Exception):
    """A file cannot be used as it is, and the start is refused: it says which file, and what is wrong with it."""


class Schema(Struct, frozen=True, kw_only=True):
    """What a file holds: a number that no other program's files have, and the scripts in their order."""

    application_id: int
    scripts: tuple[str, ...]


def load(folder: str, *, application_id: int) -> Schema:
    """The scripts under `migrations/<folder>`, in the order of their numbers."""
    files = (resources.files("deploy.embedded") / "migrations" / folder).iterdir()
    named = sorted((file.name, file.read_text("utf-8")) for file in files if file.name.endswith(".sql"))
    return Schema(application_id=application_id, scripts=tuple(script for _, script in named))


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether no script of ours was ever applied to the file."""
    return _number(connection, "user_version") == 0


def migrate(connection: sqlite3.Connection, schema: Schema) -> bool:
    """Bring the file to this program's schema; False where it has it already, and nothing is done.

    Raises:
        FileNotUsable: the file is another program's, or a later version of this one wrote it.
    """
    application_id = _number(connection, "application_id")
    seen = _number(connection, "user_version")
    if seen == 0 and application_id == 0 and _number(connection, "schema_version") > 0:
        raise FileNotUsable("holds tables that are not ours")
    if seen and application_id != schema.application_id:
        raise FileNotUsable("is a file of another kind")
    if seen > len(schema.scripts):
        raise FileNotUsable(
            f"has schema {seen}, and this program knows up to {len(schema.scripts)}: use the later version"
        )
    if seen == len(schema.scripts):
        return False
    # One script with its own BEGIN: executescript would first commit a transaction that was begun outside.
    steps = [
        "BEGIN IMMEDIATE",
        *(script.rstrip().removesuffix(";") for script in schema.scripts[seen:]),
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
