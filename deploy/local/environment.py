"""Write `env` in the stack's directory: the variables by which a shell's commands find the stack, to be sourced.

    source .stack/env
    alipay-notify held list

The password of PostgreSQL is not among them, because each program of the shell inherits its environment. It is in two
files that only their owner can read: one for our commands, and one for PostgreSQL's own.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local import directory as directories
from deploy.local import ports, postgres
from deploy.local.directory import Directory
from deploy.local.kafka import cluster
from deploy.local.postgres import Postgres
from ingest.settings import PREFIX

FILE = "env"
_HEAD = """\
# The local stack of this directory, for `source` in bash or zsh. Source it again after each start: ports change.
"""
_PATH = 'command -v alipay-notify >/dev/null 2>&1 || export PATH={}:"$PATH"\n'


@contextmanager
def published(
    directory: Directory, addresses: Mapping[str, str], *, brokers: int, database: Postgres | None
) -> Iterator[Path]:
    """Keep the file until the context ends; yield its path. Only its owner can read it."""
    found = variables(directory, addresses, brokers=brokers, database=database)
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in found.items())
    programs = _PATH.format(shlex.quote(str(Path(sys.executable).parent)))
    file = directories.private_file(directory.path / FILE, "".join((_HEAD, *lines, programs)))
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def variables(
    directory: Directory, addresses: Mapping[str, str], *, brokers: int, database: Postgres | None
) -> dict[str, str]:
    """Return the variables by name, without those of servers that the stack does not have.

    They write the files with the password of PostgreSQL.
    """
    ours = {
        "ADMIN": addresses.get("console", ""),
        "ACCOUNTS": addresses.get("accounts", ""),
        "SANDBOX_DIR": addresses.get("world", ""),
        "KAFKA": addresses.get("kafka", ""),
        "DEVELOPMENT": "true" if 0 < brokers < 3 else "",
        "REDIS": addresses.get("redis", ""),
        "POSTGRES_FILE": str(directory.secret("postgres", database.dsn)) if database else "",
        "PROMETHEUS": addresses.get("prometheus", ""),
        # `doctor` looks at these, and they are the documented ones only if those were free.
        "PORT": _port(addresses.get("public", "")),
        "ADMIN_PORT": _port(addresses.get("console", "")),
    }
    named = {PREFIX + name: value for name, value in ours.items() if value}
    return {cluster.OF_STACK: str(directory.path)} | named | _of_psql(directory, database)


def _port(url: str) -> str:
    return str(urlsplit(url).port or "")


def _of_psql(directory: Directory, database: Postgres | None) -> dict[str, str]:
    """Return the variables of PostgreSQL's own programs, such as psql."""
    if database is None:
        return {}
    login = f"{ports.LOOPBACK}:{database.port}:*:{postgres.ROLE}:{database.password}\n"
    return {
        "PGHOST": ports.LOOPBACK,
        "PGPORT": str(database.port),
        "PGUSER": postgres.ROLE,
        "PGDATABASE": postgres.DATABASE,
        "PGPASSFILE": str(directory.secret("pgpass", login)),
    }
