"""The checks of `doctor` on this machine: everything that can keep payments from being received, with the remedy.

The checks change nothing: they open files for reading only, and bind a port for an instant only if no program listens
there. A check reports what it finds and does not raise.
"""

import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from deploy import accounts_file, callbacks_file, file_access, settings
from deploy.settings import EmbeddedSettings
from ingest import keys
from ingest.checkout import merchant_keys
from ingest.key_files import BadKey
from ingest.keys import KeyRing
from ingest.settings import PREFIX, BadSettings
from schemas.accounts import Account, BadAccounts, SignType
from workers.admin import guard
from workers.admin.guard import OpenAdmin
from workers.callbacks.endpoints import BadCallbacks

FREE_LEAST = 256 << 20  # one day of a busy shop's journal; with less, the disk is full within hours
FREE_COMFORTABLE = 2 << 30
BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)  # a correct clock cannot show a time before this program was written
CLOCK_SLACK_S = 120
EXPIRES_SOON = timedelta(days=30)
CONNECT_S = 2.0
CHECK_DATABASE_S = 20.0
DATABASES = ("journal.sqlite3", "orders.sqlite3")


class FindingState(StrEnum):
    """The result of one check."""

    OK = "ok"
    NOTE = "note"  # works, but should be known
    WRONG = "wrong"


class Finding(Struct, frozen=True, kw_only=True):
    """The result of one check. `advice` is the remedy, or empty."""

    name: str
    state: FindingState
    detail: str
    advice: str = ""


def examine(environ: Mapping[str, str]) -> list[Finding]:
    """Run all checks. Causes come before their effects."""
    findings = []
    given = dict(environ)
    if PREFIX + "ACCOUNTS" not in given:
        given[PREFIX + "ACCOUNTS"] = "accounts.toml"
    try:
        configured = settings.load(given)
    except BadSettings as bad:
        advice = "correct the environment; `alipay-notify config show` explains each setting"
        return [Finding(name="settings", state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults]
    findings.append(Finding(name="settings", state=FindingState.OK, detail="valid"))
    findings += _accounts(configured)
    findings += _callbacks(configured.callbacks, configured.accounts)
    findings += _token(configured)
    findings += _directory(configured.data_dir)
    findings += _databases(configured.data_dir)
    findings += _clock(configured.data_dir)
    findings += _ports(configured)
    return findings


def _accounts(settings: EmbeddedSettings) -> Iterator[Finding]:
    advice = f"correct {settings.accounts}, or set {accounts_file.ENVIRONMENT} to another file"
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
        advice = "put Alipay's public key there; `alipay-notify keys check` shows details"
        yield from (Finding(name=name, state=FindingState.WRONG, detail=fault, advice=advice) for fault in bad.faults)
        return
    now = datetime.now(UTC)
    expiring = [key for key in ring.keys if key.expires_at is not None and key.expires_at - now < EXPIRES_SOON]
    for key in expiring:
        detail = f"the certificate {key.id} expires on {key.expires_at:%Y-%m-%d}"
        advice = "download the next certificate from Alipay and list both in accounts.toml"
        yield Finding(name=name, state=FindingState.NOTE, detail=detail, advice=advice)
    if account.sign_type is SignType.MD5 and account.md5_key_file:
        yield from _secrecy(name, directory / account.md5_key_file)
    yield from _retiring(account, ring, directory)
    if account.merchant_key_file:
        yield from _merchant_key(account, directory)
    if account.app_auth_token_file:
        yield from _app_auth_token(account, directory)
    if not expiring:
        yield Finding(name=name, state=FindingState.OK, detail=f"{len(ring.keys)} for {account.sign_type}")


def _retiring(account: Account, ring: KeyRing, directory: Path) -> Iterator[Finding]:
    name = f"retiring keys of {account.name}"
    for former in account.retiring:
        if former.md5_key_file:
            yield from _secrecy(name, directory / former.md5_key_file)
    for key in keys.weak(account, ring):
        yield Finding(name=name, state=FindingState.NOTE, detail=keys.weak_note(account, key))
    now_ms = datetime.now(UTC).timestamp() * 1000
    for each in ring.retiring:
        detail = f"{len(each.keys)} for {each.sign_type}, until {each.until}"
        if now_ms < each.until_ms:
            yield Finding(name=name, state=FindingState.OK, detail=detail)
        else:
            advice = "remove the entry once no held notification from before needs it"
            yield Finding(name=name, state=FindingState.NOTE, detail=f"{detail}: ended", advice=advice)


def _merchant_key(account: Account, directory: Path) -> Iterator[Finding]:
    name = f"merchant key of {account.name}"
    try:
        merchant_keys.load(account, directory)
    except BadKey as bad:
        advice = "put your own private key there; `alipay-notify keys check` shows details"
        yield Finding(name=name, state=FindingState.WRONG, detail=str(bad), advice=advice)
        return
    yield from _secrecy(name, directory / str(account.merchant_key_file))
    yield Finding(name=name, state=FindingState.OK, detail=f"{account.merchant_key_file} signs Requests")


def _app_auth_token(account: Account, directory: Path) -> Iterator[Finding]:
    name = f"app_auth_token of {account.name}"
    try:
        merchant_keys.app_auth_token(account, directory)
    except BadKey as bad:
        advice = "put the token there that the merchant's authorisation gave you"
        yield Finding(name=name, state=FindingState.WRONG, detail=str(bad), advice=advice)
        return
    yield from _secrecy(name, directory / str(account.app_auth_token_file))
    yield Finding(name=name, state=FindingState.OK, detail=f"asks for the merchant {account.auth_app_id}")


def _secrecy(name: str, file: Path) -> Iterator[Finding]:
    """Report other users that can reach a secret: a problem, unless it is one user, perhaps the engine's own."""
    reach = file_access.reach(file)
    if not (others := reach.words()):
        return
    detail = f"{file} can be read or changed by {others}"
    if len(reach.users) == 1 and reach.is_complete:
        advice = f"if the engine does not run as {reach.users[0]}: chmod 600 {file}"
        yield Finding(name=name, state=FindingState.NOTE, detail=detail, advice=advice)
        return
    advice = f"chmod 600 {file}, or chmod 700 {file.parent}: its content suffices to forge payments"
    yield Finding(name=name, state=FindingState.WRONG, detail=detail, advice=advice)


def _callbacks(file: Path | None, accounts: Path) -> Iterator[Finding]:
    if file is None:
        return
    try:
        endpoints = callbacks_file.read(file)
    except BadCallbacks as bad:
        advice = f"correct {file}, or set {PREFIX}CALLBACKS to another file"
        for fault in bad.faults:
            yield Finding(name="callbacks", state=FindingState.WRONG, detail=fault, advice=advice)
        return
    for secret in callbacks_file.secret_files(file):
        yield from _secrecy("callbacks", secret)
    with suppress(BadAccounts):  # they have findings of their own
        known = accounts_file.read(accounts)
        for each in endpoints.values():
            if unknown := sorted(each.accounts - known.keys()):
                detail = f"{each.name} is for the account {', '.join(unknown)}, which is not in {accounts}"
                advice = f"correct `accounts` of [callbacks.{each.name}]"
                yield Finding(name="callbacks", state=FindingState.WRONG, detail=detail, advice=advice)
    yield Finding(name="callbacks", state=FindingState.OK, detail=f"{', '.join(endpoints) or 'no endpoint'} in {file}")


def _token(settings: EmbeddedSettings) -> Iterator[Finding]:
    file = settings.admin_token_file
    try:
        operators = guard.access(host=settings.admin_host, token_file=file).operators
    except OpenAdmin as open_:
        advice = (
            "write a line NAME: TOKEN for each operator, with 32 random characters as the token, and set "
            "ALIPAY_NOTIFY_ADMIN_TOKEN_FILE to the file's path"
        )
        yield Finding(name="admin token", state=FindingState.WRONG, detail=str(open_), advice=advice)
        return
    if file is None:
        yield Finding(
            name="admin token", state=FindingState.OK, detail="none: only this machine can reach the admin port"
        )
    else:
        yield from _secrecy("admin token", file)
        names = ", ".join(each.name for each in operators if each.name)
        detail = f"operators: {names}" if names else "set, without a name: audit rows have the name that people give"
        yield Finding(name="admin token", state=FindingState.OK, detail=detail)


def _directory(data_dir: Path) -> Iterator[Finding]:
    place = data_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        advice = "set ALIPAY_NOTIFY_DATA_DIR to a directory that this user can write to"
        yield Finding(name="data directory", state=FindingState.WRONG, detail=f"{place} is not writable", advice=advice)
        return
    detail = str(data_dir) if data_dir.exists() else f"{data_dir} does not exist yet; `up` creates it"
    yield Finding(name="data directory", state=FindingState.OK, detail=detail)
    free = shutil.disk_usage(place).free
    state = (
        FindingState.OK if free >= FREE_COMFORTABLE else FindingState.NOTE if free >= FREE_LEAST else FindingState.WRONG
    )
    advice = "" if state is FindingState.OK else "free some space: if the disk is full, no notification is acknowledged"
    yield Finding(name="disk space", state=state, detail=f"{free / (1 << 30):.1f} GiB free", advice=advice)


def _databases(data_dir: Path) -> Iterator[Finding]:
    there = [data_dir / name for name in DATABASES if (data_dir / name).exists()]
    if len(there) == 1:
        missing = next(name for name in DATABASES if not (data_dir / name).exists())
        advice = "restore it from the same backup as the other file; do not start without it"
        detail = f"{there[0].name} exists, but {missing} is missing"
        yield Finding(name="data files", state=FindingState.WRONG, detail=detail, advice=advice)
    for path in there:
        yield _database(path)


def _database(path: Path) -> Finding:
    """Check the integrity of the file, for at most `CHECK_DATABASE_S`."""
    advice = "stop the engine, copy the file and its -wal, and restore the last backup"
    until = time.monotonic() + CHECK_DATABASE_S
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=CONNECT_S)
        try:
            connection.set_progress_handler(lambda: int(time.monotonic() > until), 100_000)
            result = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return Finding(name=path.name, state=FindingState.NOTE, detail="too large to check completely")
        return Finding(name=path.name, state=FindingState.WRONG, detail=f"cannot be read: {error}", advice=advice)
    except sqlite3.DatabaseError as error:
        return Finding(name=path.name, state=FindingState.WRONG, detail=f"damaged: {error}", advice=advice)
    if result != ["ok"]:
        return Finding(name=path.name, state=FindingState.WRONG, detail=f"damaged: {result[0]}", advice=advice)
    return Finding(name=path.name, state=FindingState.OK, detail=f"intact, {path.stat().st_size / (1 << 20):.1f} MiB")


def _clock(data_dir: Path) -> Iterator[Finding]:
    now = time.time()
    advice = "set the clock and run NTP: receive times and certificates' expiry dates depend on it"
    newest = max((path.stat().st_mtime for path in data_dir.glob("*") if path.is_file()), default=0.0)
    if now < BUILT_AT.timestamp():
        yield Finding(
            name="clock", state=FindingState.WRONG, detail="shows a time before this program was written", advice=advice
        )
    elif newest > now + CLOCK_SLACK_S:
        detail = f"{newest - now:.0f} s behind the newest file in {data_dir}; it was set back"
        yield Finding(name="clock", state=FindingState.WRONG, detail=detail, advice=advice)
    else:
        yield Finding(
            name="clock", state=FindingState.OK, detail=f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )


def _ports(settings: EmbeddedSettings) -> Iterator[Finding]:
    """Check that a running engine serves both ports, or that both are free and this user can bind them."""
    public, admin = (
        _server(settings.host, settings.port, "/"),
        _server(settings.admin_host, settings.admin_port, "/readyz?verbose"),
    )
    yield _port("public port", settings.host, settings.port, public)
    yield _port("admin port", settings.admin_host, settings.admin_port, admin)
    if admin is None or not admin[0]:
        advice = "start the engine: `alipay-notify up`"
        yield Finding(name="engine", state=FindingState.NOTE, detail="not running here", advice=advice)
        return
    failing = _failing(admin[1])
    advice = "" if not failing else "see the engine's log for the failing dependency"
    state = FindingState.WRONG if failing else FindingState.OK
    yield Finding(name="engine", state=state, detail="; ".join(failing) or "running and ready", advice=advice)


def _port(name: str, host: str, port: int, server: tuple[bool, bytes] | None) -> Finding:
    where = f"{host}:{port}"
    if port == 0:
        return Finding(name=name, state=FindingState.OK, detail="a free port is chosen at the start")
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
        advice = "choose an address of this machine and a port that this user can bind"
        return Finding(name=name, state=FindingState.WRONG, detail=f"{where}: {error.strerror or error}", advice=advice)
    return Finding(name=name, state=FindingState.OK, detail=f"{where} is free")


def _server(host: str, port: int, path: str) -> tuple[bool, bytes] | None:
    """Return whether this program answers there, and its answer, or `None` if no program listens."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
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
        report: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        return [f"{check['name']}: {check['detail'] or 'no'}" for check in report["checks"] if not check["ok"]]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ["its readiness answer cannot be read"]
