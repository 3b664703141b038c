"""Reload `accounts.toml`, its key files and the receipt keys while a process runs, without refusing a request.

All files together are one state. If any of them is faulty, the old state stays in use as a whole, and the faults are
shown by `/readyz?verbose`, a metric and a log line. The process stays ready, because its old accounts are as good as
before; only a start is refused.

They are read in a thread, and only files and tables that have changed are parsed. The thread rests after each
millisecond of work: otherwise it would keep the interpreter for 5 ms whenever a request wants it.

Files are read once they have been left alone for `QUIET_S`: a file that is being written in place may already parse,
and would remove the accounts that are not yet written. A file that is replaced by a rename is always whole.

Each process reads the files on its own clock. A worker that gets a record which it cannot verify yet has them read at
once (`look_soon`).
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from deploy import accounts_file
from deploy.accounts_file import AccountsFile
from deploy.receipt_keys import ReceiptKeys
from ingest import accounts_in_use, keys
from ingest.accounts_in_use import AccountsChange, AccountsInUse, KeyedAccount
from ingest.clock import Clock
from ingest.log_port import Logger
from schemas import telemetry
from schemas.accounts import Account, BadAccounts
from schemas.telemetry import Field
from workers import metrics

QUIET_S = 0.2
QUIET_LOOKS_MAX = 25  # then a file that changes all the time is read as it is
NAMES_MAX = 50  # of accounts in one log line
WORK_S, REST_S = 0.001, 0.001  # of the thread that reads, in turns
SOON_S_MAX = 2.0  # a record waits so long for the files at most; other records wait behind it
SOON_EVERY_S = 1.0  # records that no key verifies, however many, cause no more looks than that

Stamps = dict[Path, tuple[int, ...]]


class LoadedFiles(Struct, frozen=True):
    """The accounts and keys of one pass over the files, the stamps of these files before the pass, and the key files
    of each account."""

    file: AccountsFile
    keyed: Mapping[str, KeyedAccount]
    stamps: Stamps
    paths: Mapping[str, tuple[Path, ...]]
    receipt_keys: tuple[bytes, ...] = ()


class ReloadGauges:
    """Shows whether the last reload succeeded, and when one did."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._is_good = metrics.gauge(telemetry.ACCOUNTS_RELOAD_OK, registry)
        self._at_s = metrics.gauge(telemetry.ACCOUNTS_RELOADED_AT, registry)
        self._clock = clock
        self.loaded()

    def loaded(self) -> None:
        self._is_good.set(1)
        self._at_s.set(self._clock.epoch_ms() / 1000)

    def failed(self) -> None:
        self._is_good.set(0)


class AccountsReloader:
    """Keeps `in_use` and `receipt_keys` as the files are. `faults` has all present faults; empty while all is well.

    `version` counts the reloads.
    """

    def __init__(self, path: Path, receipt_keys: ReceiptKeys | None = None) -> None:
        """Load all accounts and keys.

        Raises:
            BadAccounts: with every fault.
        """
        self._path = path
        self.receipt_keys = ReceiptKeys() if receipt_keys is None else receipt_keys
        self._loaded = self._read(None)
        self._seen = self._loaded.stamps
        self._is_hurried = asyncio.Event()
        self._looked = asyncio.Event()  # set after the next look
        self._is_running = False
        self._soon_again_s = 0.0
        self.in_use = AccountsInUse(self._loaded.keyed)
        self.receipt_keys.replace(self._loaded.receipt_keys)
        self.faults: list[str] = []
        self.version = 0

    @property
    def trouble(self) -> str:
        """The faults of the files as one text; empty while all is well."""
        return f"the old accounts and keys stay in use: {'; '.join(self.faults)}" if self.faults else ""

    def hurry(self) -> None:
        """Look at the files now."""
        self._is_hurried.set()

    async def look_soon(self) -> None:
        """Look at the files now; return after the look, or after `SOON_S_MAX` if it takes longer.

        Return at once if there was such a look within `SOON_EVERY_S`, or if `run` does not run.
        """
        if not self._is_running or time.monotonic() < self._soon_again_s:
            return
        looked = self._looked
        self.hurry()
        with suppress(TimeoutError):
            async with asyncio.timeout(SOON_S_MAX):
                await looked.wait()
        self._soon_again_s = time.monotonic() + SOON_EVERY_S

    def hurry_at_sighup(self) -> None:
        """Let SIGHUP hurry, except in a terminal: when it is closed, it sends SIGHUP to end its processes."""
        if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            return
        with suppress(RuntimeError, ValueError):  # outside the main thread, as in tests
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.hurry)

    async def run(self, *, gauges: ReloadGauges, logger: Logger, interval_s: float) -> None:
        """Look at the files every `interval_s` and whenever it is hurried, until cancelled."""
        self._is_running = True
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(interval_s):
                        await self._is_hurried.wait()
                self._is_hurried.clear()
                # Wake those that hurried this look after it; whoever comes during it waits for the next.
                looked, self._looked = self._looked, asyncio.Event()
                try:
                    await self.look(gauges=gauges, logger=logger)
                finally:
                    looked.set()
        finally:
            self._is_running = False
            self._looked.set()
            self._looked = asyncio.Event()

    async def look(self, *, gauges: ReloadGauges, logger: Logger) -> None:
        """Reload if a file has changed. The files are read in a thread; only the replacement runs on the loop.

        While there are faults, all files are read at every look: a change of permissions leaves no other trace.
        """
        if not self.faults and await asyncio.to_thread(_are_as_before, self._seen):
            return
        before = self.faults
        loaded = await self._read_when_quiet()
        if loaded is not None:
            self.version += 1  # before the replacements, whose watchers wake the records that wait for them
            has_new_receipt_keys = self.receipt_keys.replace(loaded.receipt_keys)
            change = self.in_use.replace(loaded.keyed)
            gauges.loaded()
            _log_change(logger, change, is_mended=bool(before))
            if has_new_receipt_keys:
                logger.info("receipt keys reloaded")
        elif self.faults:
            gauges.failed()
            if self.faults != before:
                logger.error("accounts not reloaded, the old ones stay in use", **{Field.ERROR: "; ".join(self.faults)})

    async def _read_when_quiet(self) -> LoadedFiles | None:
        """Return the files once nothing has changed them for `QUIET_S`; `None` if they are faulty or still change."""
        stamps = await asyncio.to_thread(_stamps_of, self._seen, Turns())
        for _ in range(QUIET_LOOKS_MAX):
            await asyncio.sleep(QUIET_S)
            before, stamps = stamps, await asyncio.to_thread(_stamps_of, self._seen, Turns())
            if stamps == before:
                break
        try:
            loaded = await asyncio.to_thread(self._read, self._loaded)
        except BadAccounts as bad:
            self.faults = bad.faults
            return None
        except Exception as error:  # a library's own fault must not end the reloads
            self.faults = [f"{self._path} or a key file cannot be loaded: {type(error).__name__}"]
            return None
        if not await asyncio.to_thread(_are_as_before, loaded.stamps):
            return None  # a file changed between two that were read: the next look reads all of them again
        self._loaded, self._seen, self.faults = loaded, loaded.stamps, []
        return loaded

    def _read(self, before: LoadedFiles | None) -> LoadedFiles:
        path = self.receipt_keys.path
        stamps = {} if path is None else {path: keys.stamp(path)}
        receipt_keys = self.receipt_keys.read()
        loaded = read_files(self._path, before)
        return structs.replace(loaded, stamps=stamps | loaded.stamps, receipt_keys=receipt_keys)


class Turns:
    """Lets other threads have the interpreter: called after each small piece of work, it rests now and then."""

    def __init__(self) -> None:
        self._rested_at = time.perf_counter()

    def __call__(self) -> None:
        if time.perf_counter() - self._rested_at >= WORK_S:
            time.sleep(REST_S)
            self._rested_at = time.perf_counter()


def read_files(path: Path, before: LoadedFiles | None = None) -> LoadedFiles:
    """Read `accounts.toml` and the key files in it. Accounts that are as in `before` keep their rings.

    Without `before` it does not rest, because a process that starts has nothing else to do.

    Raises:
        BadAccounts: with every fault.
    """
    file, pause = (AccountsFile(path), accounts_file.never) if before is None else (before.file, Turns())
    # Take the stamps before reading: a file that changes in between is then read once more, and never missed.
    stamps = _stamps_of([path], pause)
    accounts = file.read(pause)
    paths = _paths(accounts, path.parent, before, pause)
    stamps |= _stamps_of((each for of_account in paths.values() for each in of_account), pause)
    unchanged = {} if before is None else _unchanged(accounts, stamps, paths, before, pause)
    keyed = accounts_in_use.load(accounts, path.parent, unchanged=unchanged, pause=pause)
    return LoadedFiles(file, keyed, stamps, paths)


def _paths(
    accounts: Mapping[str, Account], directory: Path, before: LoadedFiles | None, pause: Callable[[], None]
) -> dict[str, tuple[Path, ...]]:
    """Return the key files of each account; those of an account that is the same object are known."""
    paths: dict[str, tuple[Path, ...]] = {}
    for name, account in accounts.items():
        known = None if before is None else before.keyed.get(name)
        if before is not None and known is not None and known.account is account:
            paths[name] = before.paths[name]
        else:
            paths[name] = tuple(directory / file for file in keys.files(account))
            pause()
    return paths


def _unchanged(
    accounts: Mapping[str, Account],
    stamps: Stamps,
    paths: Mapping[str, tuple[Path, ...]],
    before: LoadedFiles,
    pause: Callable[[], None],
) -> dict[str, KeyedAccount]:
    unchanged = {}
    for name, account in accounts.items():
        known = before.keyed.get(name)
        if known is not None and known.account == account and _same(stamps, before.stamps, paths[name]):
            unchanged[name] = known
        pause()
    return unchanged


def _same(stamps: Stamps, before: Stamps, paths: Iterable[Path]) -> bool:
    return all(stamps[path] == before.get(path) for path in paths)


def _stamps_of(paths: Iterable[Path], pause: Callable[[], None]) -> Stamps:
    stamps = {}
    for path in paths:
        stamps[path] = keys.stamp(path)
        pause()
    return stamps


def _are_as_before(stamps: Stamps) -> bool:
    """Return whether all these files have the same stamps now."""
    return _stamps_of(stamps, Turns()) == stamps


def _log_change(logger: Logger, change: AccountsChange, *, is_mended: bool) -> None:
    fields = {Field.ADDED: change.added, Field.CHANGED: change.changed, Field.REMOVED: change.removed}
    event = "accounts reloaded, all files are valid again" if is_mended else "accounts reloaded"
    logger.info(event, **{field: _listed(names) for field, names in fields.items() if names})


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join([*ordered[:NAMES_MAX], *(["…"] if len(ordered) > NAMES_MAX else [])])
