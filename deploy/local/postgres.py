"""Run a real PostgreSQL on loopback, with fsync on as in production.

PostgreSQL refuses to run as root, so under root it runs as an unprivileged account that owns its files. If that account
may not pass through the directories above the stack's, the files lie elsewhere. The database requires a password,
because every user of the machine reaches a loopback port, and a database superuser can run programs.
"""

import asyncio
import grp
import hashlib
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
from msgspec import Struct

from deploy.local import ports, processes, programs
from deploy.local.directory import Directory
from deploy.local.machine import Machine, Missing
from deploy.local.processes import DidNotStart, Process, ProcessSpec, UnixAccount

NAME = "postgres"
ROLE = DATABASE = "alipay_notify"
ACCOUNTS = ("postgres", "nobody")  # the first existing one runs the server under root
ELSEWHERE = Path("/var/lib/alipay-notify-local")  # only root can write there, so its contents can be trusted
READY_WITHIN_S = 30.0
ASK_WITHIN_S = 5.0
# A killed server's children end a moment after it. Until then its shared memory keeps the next server from starting.
STILL_HELD = "shared memory block"
STILL_HELD_TRIES_MAX = 40
STILL_HELD_PAUSE_S = 0.25


class Postgres(Struct, frozen=True, kw_only=True):
    """A server that answers."""

    port: int
    password: str
    process: Process

    @property
    def dsn(self) -> str:
        """The DSN of the stack's database. Its role may create other databases."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self.password}@{ports.LOOPBACK}:{self.port}/{database}"

    async def start_again(self) -> None:
        """Start the server after a stop or a kill, and wait for the end of a killed server's children.

        Raises:
            DidNotStart: it did not start.
        """
        for _ in range(STILL_HELD_TRIES_MAX):
            try:
                return await self.process.start()
            except DidNotStart:
                if STILL_HELD not in self.process.output():
                    raise
            await asyncio.sleep(STILL_HELD_PAUSE_S)
        return await self.process.start()


@asynccontextmanager
async def running(
    directory: Directory, machine: Machine, *, more: Mapping[str, str] | None = None, name: str = NAME
) -> AsyncIterator[Postgres]:
    """Run a server with the database of the last run, or an empty one. `more` are settings that override ours.

    Raises:
        Missing: PostgreSQL is not on this machine and cannot be installed, or there is no account to run it as.
        DidNotStart: it did not start.
    """
    program = await machine.find(programs.POSTGRES)
    account = _account(machine, program)
    home = _home(directory, name, account)
    await _initialise(directory, machine, home, program=program, account=account, name=name)
    (port,) = ports.free(1)
    password = (home / "password").read_text(encoding="ascii")
    spec = ProcessSpec(
        name=name,
        argv=_command(program, home, port, more or {}),
        environ=_environ(machine, home),
        account=account,
        stop_signal=signal.SIGINT,  # a "fast" shutdown does not wait for clients to disconnect
        ready_within_s=READY_WITHIN_S,
    )
    process = Process(directory, spec, healthy=partial(answers, port, password))
    postgres = Postgres(port=port, password=password, process=process)
    try:
        await postgres.start_again()
        await _create_database(postgres)
        yield postgres
    finally:
        await process.stop()
        if directory.fresh:
            shutil.rmtree(home)  # it may lie outside the stack's directory


async def answers(port: int, password: str) -> bool:
    """Return whether the server answers a query."""
    if not await ports.answers(ports.LOOPBACK, port):
        return False
    dsn = f"postgresql://{ROLE}:{password}@{ports.LOOPBACK}:{port}/postgres"
    try:
        connection = await asyncpg.connect(dsn, timeout=ASK_WITHIN_S)
        try:
            return bool(await connection.fetchval("SELECT true", timeout=ASK_WITHIN_S))
        finally:
            await connection.close(timeout=ASK_WITHIN_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


def _account(machine: Machine, program: Path) -> UnixAccount | None:
    """Return the account that runs the server, or `None` for our own.

    Raises:
        Missing: we are root, and there is no unprivileged account, or it may not run the program.
    """
    if not machine.is_root:
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if not passable(program.resolve().parent):
            raise Missing(programs.POSTGRES.what, programs.POSTGRES.commands, f"{program} cannot be run by {name}")
        return UnixAccount(entry.pw_uid, grp.getgrgid(entry.pw_gid).gr_gid)
    raise Missing("an account to run PostgreSQL as", (f"useradd --system {ACCOUNTS[0]}",))


def passable(path: Path) -> bool:
    """Return whether every user may pass through the directory and all directories above it."""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def _home(directory: Directory, name: str, account: UnixAccount | None) -> Path:
    """Return the directory for the server's files: in the stack's directory if the account can reach it."""
    if account is None or passable(directory.path):
        home = directory.home(name)
    else:
        digest = hashlib.sha256(str(directory.path).encode()).hexdigest()[:16]
        home = ELSEWHERE / f"{digest}-{name}"
        home.mkdir(parents=True, exist_ok=True)
        _follow(directory, name, home)
    if account is not None:
        os.chown(home, account.user, account.group)
    home.chmod(0o700)
    return home


def _follow(directory: Directory, name: str, home: Path) -> None:
    """Link from the stack's directory to the files elsewhere. A missing link means a wiped directory: wipe them too."""
    link = directory.path / name
    if not link.is_symlink():
        shutil.rmtree(home)
        home.mkdir()
        link.symlink_to(home)


async def _initialise(
    directory: Directory, machine: Machine, home: Path, *, program: Path, account: UnixAccount | None, name: str
) -> None:
    """Create the database's files if they do not exist, or if an earlier creation was interrupted."""
    files, password = home / "files", home / "password"
    if password.exists():
        return
    shutil.rmtree(files, ignore_errors=True)
    drawn = home / "password.drawn"
    drawn.write_text(secrets.token_hex(16), encoding="ascii")
    drawn.chmod(0o600)
    if account is not None:
        os.chown(drawn, account.user, account.group)
    initdb = program.resolve().with_name("initdb")
    how = ("--auth=scram-sha-256", f"--pwfile={drawn}", "--encoding=UTF8", "--no-locale")
    spec = ProcessSpec(
        name=f"{name}-initdb",
        argv=(str(initdb), "-D", str(files), "-U", ROLE, *how),
        environ=_environ(machine, home),
        account=account,
    )
    await processes.finish(directory, spec)
    drawn.rename(password)  # last, because its presence means that the files are complete


def _environ(machine: Machine, home: Path) -> dict[str, str]:
    # PGDATA, PGPORT and the like are not passed on: they may point to a real database.
    kept = {name: value for name, value in machine.environ.items() if not name.startswith("PG")}
    return kept | {"HOME": str(home), "LC_ALL": "C"}


def _command(program: Path, home: Path, port: int, more: Mapping[str, str]) -> tuple[str, ...]:
    settings = {
        "listen_addresses": ports.LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    } | dict(more)
    # Called by its real path, because it looks for its own files beside itself.
    options = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
    return (str(program.resolve()), "-D", str(home / "files"), *options)


async def _create_database(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.dsn_of("postgres"), timeout=ASK_WITHIN_S)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
