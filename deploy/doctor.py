"""What `doctor` looks at: each thing that keeps payments from being taken, with what is wrong and what to do.

Nothing is changed by looking: files are opened for reading only, and a port is bound for an instant only where nobody
else has it. An examination never raises for what it finds.
"""

import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from deploy import accounts_file, settings
from deploy.settings import EmbeddedSettings
from ingest import keys
from ingest.settings import PREFIX, BadSettings
from schemas.accounts import Account, BadAccounts, SignType
from workers.admin import guard
from workers.admin.guard import OpenAdmin

FREE_LEAST = 256 << 20  # a day of a busy shop's journal; below it a full disk is a matter of hours
FREE_COMFORTABLE = 2 << 30
BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)  # no clock that is right shows an earlier time than the program's own
CLOCK_SLACK_S = 120
EXPIRES_SOON = timedelta(days=30)
CONNECT_S = 2.0
CHECK_DATABASE_S = 20.0
DATABASES = ("journal.sqlite3", "orders.sqlite3")


class FindingState(StrEnum):
    """How a thing is."""

    OK = "ok"
    NOTE = "note"  # worth knowing; nothing is broken
    WRONG = "wrong"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `advice` is what to do, empty where there is nothing."""

    name: str
    state: FindingState
    detail: str
    advice: str = ""


def examine(environ: Mapping[str, str]) -> list[Finding]:
    """Everything that can be seen from here, the causes before their effects."""
    findings = []
    given = dict(environ)
    if PREFIX + "ACCOUNTS" not in given:
        given[PREFIX + "ACCOUNTS"] = "accounts.toml"
    try:
        told = settings.load(given)
    except BadSettings as bad:
        advice = "correct the environment; `alipay-notify config show` explains each setting"
        return [Finding(name="settings", state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults]
    findings.append(Finding(name="settings", state=FindingState.OK, detail="no contradictions"))
    findings += _accounts(told)
    findings += _token(told)
    findings += _directory(told.data_dir)
    findings += _databases(told.data_dir)
    findings += _clock(told.data_dir)
    findings += _ports(told)
    return findings


def _accounts(settings: EmbeddedSettings) -> Iterator[Finding]:
    advice = f"correct {settings.accounts}, or name another file in {accounts_file.ENVIRONMENT}"
    try:
        accounts = accounts_file.read(settings.accounts)
    except BadAccounts as bad:
        yield from (
            Finding(name="accounts", state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults
        )
        return
    yield Finding(name="accounts", state=FindingState.OK, detail=f"{', '.join(accounts)} in {settings.accounts}")
    for account in accounts.values():
        yield from _keys(account, settings.accounts.parent)


def _keys(account: Account, directory: Path) -> Iterator[Finding]:
    name = f"keys of {account.name}"
    try:
        ring = keys.load(account, directory)
    except BadAccounts as bad:
        advice = "put Alipay's public key there; `alipay-notify keys check` tells more"
        yield from (Finding(name=name, state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults)
        return
    now = datetime.now(UTC)
    expiring = [key for key in ring.keys if key.expires_at is not None and key.expires_at - now < EXPIRES_SOON]
    for key in expiring:
        detail = f"the certificate {key.id} ends {key.expires_at:%Y-%m-%d}"
        advice = "download the next one from Alipay and list both"
        yield Finding(name=name, state=FindingState.NOTE, detail=detail, advice=advice)
    if account.sign_type is SignType.MD5 and account.md5_key_file:
        yield from _secrecy(name, directory / account.md5_key_file)
    if not expiring:
        yield Finding(name=name, state=FindingState.OK, detail=f"{len(ring.keys)} for {account.sign_type}")


def _secrecy(name: str, file: Path) -> Iterator[Finding]:
    mode = file.stat().st_mode
    if mode & 0o077:
        advice = f"chmod 600 {file}: who reads it can forge payments"
        yield Finding(name=name, state=FindingState.WRONG, detail=f"{file.name} can be read by others", advice=advice)


def _token(settings: EmbeddedSettings) -> Iterator[Finding]:
    file = settings.admin_token_file
    try:
        token = guard.read_token(file) if file else None
        guard.check_bind(settings.admin_host, has_token=token is not None)
    except OpenAdmin as open_:
        advice = "write 32 random characters into a file and name it in ALIPAY_NOTIFY_ADMIN_TOKEN_FILE"
        yield Finding(name="admin token", state=FindingState.WRONG, detail=str(open_), advice=advice)
        return
    if file is None:
        yield Finding(
            name="admin token", state=FindingState.OK, detail="none: only this machine reaches the admin port"
        )
    else:
        yield from _secrecy("admin token", file)
        yield Finding(name="admin token", state=FindingState.OK, detail="set")


def _directory(data_dir: Path) -> Iterator[Finding]:
    place = data_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        advice = "name a directory that this user may write to in ALIPAY_NOTIFY_DATA_DIR"
        yield Finding(
            name="data directory", state=FindingState.WRONG, detail=f"{place} cannot be written", advice=advice
        )
        return
    detail = str(data_dir) if data_dir.exists() else f"{data_dir} is not there yet: `up` makes it"
    yield Finding(name="data directory", state=FindingState.OK, detail=detail)
    free = shutil.disk_usage(place).free
    state = (
        FindingState.OK if free >= FREE_COMFORTABLE else FindingState.NOTE if free >= FREE_LEAST else FindingState.WRONG
    )
    advice = "" if state is FindingState.OK else "make room: on a full disk no notification is acknowledged"
    yield Finding(name="disk space", state=state, detail=f"{free / (1 << 30):.1f} GiB free", advice=advice)


def _databases(data_dir: Path) -> Iterator[Finding]:
    there = [data_dir / name for name in DATABASES if (data_dir / name).exists()]
    if len(there) == 1:
        missing = next(name for name in DATABASES if not (data_dir / name).exists())
        advice = "restore it from the backup of the same time; do not start without it"
        detail = f"{missing} is missing beside {there[0].name}"
        yield Finding(name="data files", state=FindingState.WRONG, detail=detail, advice=advice)
    for path in there:
        yield _database(path)


def _database(path: Path) -> Finding:
    """Whether the file is sound, as far as that can be found out in a while."""
    advice = "stop the engine, keep a copy of the file and its -wal, and restore the last backup"
    until = time.monotonic() + CHECK_DATABASE_S
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=CONNECT_S)
        try:
            connection.set_progress_handler(lambda: int(time.monotonic() > until), 100_000)
            told = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return Finding(name=path.name, state=FindingState.NOTE, detail="too large to check here in full")
        return Finding(name=path.name, state=FindingState.WRONG, detail=f"cannot be read: {error}", advice=advice)
    except sqlite3.DatabaseError as error:
        return Finding(name=path.name, state=FindingState.WRONG, detail=f"damaged: {error}", advice=advice)
    if told != ["ok"]:
        return Finding(name=path.name, state=FindingState.WRONG, detail=f"damaged: {told[0]}", advice=advice)
    return Finding(name=path.name, state=FindingState.OK, detail=f"sound, {path.stat().st_size / (1 << 20):.1f} MiB")


def _clock(data_dir: Path) -> Iterator[Finding]:
    now = time.time()
    advice = "set the clock and keep it with NTP: times of receipt and certificates' dates are read against it"
    newest = max((path.stat().st_mtime for path in data_dir.glob("*") if path.is_file()), default=0.0)
    if now < BUILT_AT.timestamp():
        yield Finding(name="clock", state=FindingState.WRONG, detail="shows a time before this program", advice=advice)
    elif newest > now + CLOCK_SLACK_S:
        detail = f"{newest - now:.0f} s behind the newest file in {data_dir}: it was set back"
        yield Finding(name="clock", state=FindingState.WRONG, detail=detail, advice=advice)
    else:
        yield Finding(
            name="clock", state=FindingState.OK, detail=f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )


def _ports(settings: EmbeddedSettings) -> Iterator[Finding]:
    """A running engine has both ports; otherwise both are free, and this user may have them."""
    public, admin = (
        _server(settings.host, settings.port, "/"),
        _server(settings.admin_host, settings.admin_port, "/readyz?verbose"),
    )
    yield _port("public port", settings.host, settings.port, public)
    yield _port("admin port", settings.admin_host, settings.admin_port, admin)
    if admin is None or not admin[0]:
        advice = "start it: `alipay-notify up`"
        yield Finding(name="engine", state=FindingState.NOTE, detail="not running here", advice=advice)
        return
    failing = _failing(admin[1])
    advice = "" if not failing else "see the engine's log; what it waits for is named here"
    state = FindingState.WRONG if failing else FindingState.OK
    yield Finding(name="engine", state=state, detail="; ".join(failing) or "running and ready", advice=advice)


def _port(name: str, host: str, port: int, server: tuple[bool, bytes] | None) -> Finding:
    where = f"{host}:{port}"
    if port == 0:
        return Finding(name=name, state=FindingState.OK, detail="any free one")
    if server is not None:
        if server[0]:
            return Finding(name=name, state=FindingState.OK, detail=f"{where} is served by this program")
        advice = f"stop the other program, or set ALIPAY_NOTIFY_{'ADMIN_' if name.startswith('admin') else ''}PORT"
        return Finding(name=name, state=FindingState.WRONG, detail=f"another program serves {where}", advice=advice)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        advice = "name an address of this machine and a port that this user may bind"
        return Finding(name=name, state=FindingState.WRONG, detail=f"{where}: {error.strerror or error}", advice=advice)
    return Finding(name=name, state=FindingState.OK, detail=f"{where} is free")


def _server(host: str, port: int, path: str) -> tuple[bool, bytes] | None:
    """Whether it is ours that answers there, and what it says; `None` where nobody does."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared with, not bound to
    connection = HTTPConnection(reached, port, timeout=CONNECT_S)
    try:
        connection.connect()
    except OSError:
        return None
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.headers.get("Server") == "alipay-notify", response.read(64 * 1024)
    except (OSError, HTTPException):
        return False, b""
    finally:
        connection.close()


def _failing(answer: bytes) -> list[str]:
    try:
        said: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        return [f"{check['name']}: {check['detail'] or 'no'}" for check in said["checks"] if not check["ok"]]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ["it does not say whether it is ready"]
