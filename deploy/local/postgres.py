"""A real PostgreSQL on loopback, with fsync on, as it is where it matters.

It refuses to run as root, rightly, so under root it runs as an unprivileged account that owns its files. Those may have
to lie outside the stack's directory: an account that may not pass through the directories above cannot open its own.
Everybody on the machine reaches a loopback port, and whoever is the database's superuser can run programs, so it asks
for a password.
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
ACCOUNTS = ("postgres", "nobody")  # whom root runs it as: the first there is
ELSEWHERE = Path("/var/lib/alipay-notify-local")  # root's own, so nobody can have put something in its place
READY_WITHIN_S = 30.0
ASK_WITHIN_S = 5.0
# A killed server's children end a moment after it, and until then its shared memory keeps the next one out.
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
        """The stack's database; its role may create others."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self.password}@{ports.LOOPBACK}:{self.port}/{database}"

    async def start_again(self) -> None:
        """Start it after a stop or a kill; waits until the killed one's children are gone.

        Raises:
            DidNotStart: it did not come up.
        """
        for _ in range(STILL_HELD_TRIES_MAX):
            try:
                return await self.process.start()
            except DidNotStart:
                if STILL_HELD not in self.process.said():
                    raise
            await asyncio.sleep(STILL_HELD_PAUSE_S)
        return await self.process.start()


@asynccontextmanager
async def running(
    directory: Directory, machine: Machine, *, more: Mapping[str, str] | None = None, name: str = NAME
) -> AsyncIterator[Postgres]:
    """A server with an empty database, or with what the last run left in it. `more` are settings with the last word.

    Raises:
        Missing: there is none to be had here, or no account to run it as.
        DidNotStart: it did not come up.
    """
    program = await machine.find(programs.POSTGRES)
    account = _account(machine, program)
    home = _home(directory, name, account)
    await _initialise(directory, machine, home, program=program, account=account, name=name)
    (port,) = ports.free(1)
    password = (home / "password").read_text(encoding="ascii")
    plan = ProcessSpec(
        name=name,
        argv=_command(program, home, port, more or {}),
        environ=_environ(machine, home),
        account=account,
        stop_signal=signal.SIGINT,  # "fast": it does not wait for its clients to leave
        ready_within_s=READY_WITHIN_S,
    )
    process = Process(directory, plan, healthy=partial(answers, port, password))
    postgres = Postgres(port=port, password=password, process=process)
    try:
        await postgres.start_again()
        await _create_database(postgres)
        yield postgres
    finally:
        await process.stop()
        if directory.fresh:
            shutil.rmtree(home)  # it may lie where wiping the directory does not reach


async def answers(port: int, password: str) -> bool:
    """Whether it answers a query."""
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
    """Whom it runs as, where that is not us. Raises Missing where root finds nobody, or nobody who may run it."""
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
    """Whether everybody may go through the directory and all above it."""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def _home(directory: Directory, name: str, account: UnixAccount | None) -> Path:
    """Where its files are: the stack's own place for them, or where the account can reach them."""
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
    """A link in the stack's directory stands for what lies elsewhere. Where the link was wiped, so is what it meant."""
    link = directory.path / name
    if not link.is_symlink():
        shutil.rmtree(home)
        home.mkdir()
        link.symlink_to(home)


async def _initialise(
    directory: Directory, machine: Machine, home: Path, *, program: Path, account: UnixAccount | None, name: str
) -> None:
    """Make the database's files where there are none, or where making them was broken off."""
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
    plan = ProcessSpec(
        name=f"{name}-initdb",
        argv=(str(initdb), "-D", str(files), "-U", ROLE, *how),
        environ=_environ(machine, home),
        account=account,
    )
    await processes.finish(directory, plan)
    drawn.rename(password)  # only now: its presence says that the files are whole


def _environ(machine: Machine, home: Path) -> dict[str, str]:
    # Variables such as PGDATA and PGPORT, which may lead to somebody's real database, are not passed on.
    kept = {name: value for name, value in machine.environ.items() if not name.startswith("PG")}
    return kept | {"HOME": str(home), "LC_ALL": "C"}


def _command(program: Path, home: Path, port: int, more: Mapping[str, str]) -> tuple[str, ...]:
    told = {
        "listen_addresses": ports.LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "shared_buffers": "64MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    } | dict(more)
    # Found by its real name: it looks for its own files beside itself.
    options = (word for name, value in told.items() for word in ("-c", f"{name}={value}"))
    return (str(program.resolve()), "-D", str(home / "files"), *options)


async def _create_database(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.dsn_of("postgres"), timeout=ASK_WITHIN_S)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
