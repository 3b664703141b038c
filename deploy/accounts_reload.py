"""Reload `accounts.toml` and its key files while a process runs, without losing or refusing a request.

All files together are one state. If any of them is faulty, the old state stays in use as a whole, and the faults are
shown by `/readyz?verbose`, a metric and a log line. The process stays ready, because its old accounts are as good as
before; only a start is refused.

Files are read once they have been left alone for `QUIET_S`: a file that is being written in place may already parse,
and would remove the accounts that are not yet written. A file that is replaced by a rename is always whole.
"""

import asyncio
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from prometheus_client import CollectorRegistry

from deploy import accounts_file
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

Stamps = dict[Path, tuple[int, ...]]


class LoadedFiles(Struct, frozen=True):
    """The accounts and keys of one pass over the files, and the stamps of these files before the pass."""

    keyed: Mapping[str, KeyedAccount]
    stamps: Stamps


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
    """Keeps `in_use` as the files are. `faults` has all present faults of the files; empty while all is well."""

    def __init__(self, path: Path) -> None:
        """Load all accounts and keys.

        Raises:
            BadAccounts: with every fault.
        """
        self._path = path
        self._loaded = read_files(path)
        self._seen = self._loaded.stamps
        self._is_hurried = asyncio.Event()
        self.in_use = AccountsInUse(self._loaded.keyed)
        self.faults: list[str] = []

    @property
    def trouble(self) -> str:
        """The faults of the files as one text; empty while all is well."""
        return f"the old accounts and keys stay in use: {'; '.join(self.faults)}" if self.faults else ""

    def hurry(self) -> None:
        """Look at the files now."""
        self._is_hurried.set()

    def hurry_at_sighup(self) -> None:
        """Let SIGHUP hurry, except in a terminal: when it is closed, it sends SIGHUP to end its processes."""
        if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            return
        with suppress(RuntimeError, ValueError):  # outside the main thread, as in tests
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.hurry)

    async def run(self, *, gauges: ReloadGauges, logger: Logger, interval_s: float) -> None:
        """Look at the files every `interval_s` and whenever it is hurried, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._is_hurried.wait()
            self._is_hurried.clear()
            await self.look(gauges=gauges, logger=logger)

    async def look(self, *, gauges: ReloadGauges, logger: Logger) -> None:
        """Reload if a file has changed. The files are read in a thread; only the replacement runs on the loop.

        While there are faults, all files are read at every look: a change of permissions leaves no other trace.
        """
        if not self.faults and await asyncio.to_thread(_stamps_of, self._seen) == self._seen:
            return
        before = self.faults
        loaded = await self._read_when_quiet()
        if loaded is not None:
            change = self.in_use.replace(loaded.keyed)
            gauges.loaded()
            _log_change(logger, change, is_mended=bool(before))
        elif self.faults:
            gauges.failed()
            if self.faults != before:
                logger.error("accounts not reloaded, the old ones stay in use", **{Field.ERROR: "; ".join(self.faults)})

    async def _read_when_quiet(self) -> LoadedFiles | None:
        """Return the files once nothing has changed them for `QUIET_S`; `None` if they are faulty or still change."""
        stamps = await asyncio.to_thread(_stamps_of, self._seen)
        for _ in range(QUIET_LOOKS_MAX):
            await asyncio.sleep(QUIET_S)
            before, stamps = stamps, await asyncio.to_thread(_stamps_of, self._seen)
            if stamps == before:
                break
        try:
            loaded = await asyncio.to_thread(read_files, self._path, self._loaded)
        except BadAccounts as bad:
            self.faults = bad.faults
            return None
        except Exception as error:  # a library's own fault must not end the reloads
            self.faults = [f"{self._path} or a key file cannot be loaded: {type(error).__name__}"]
            return None
        if await asyncio.to_thread(_stamps_of, loaded.stamps) != loaded.stamps:
            return None  # a file changed between two that were read: the next look reads all of them again
        self._loaded, self._seen, self.faults = loaded, loaded.stamps, []
        return loaded


def read_files(path: Path, before: LoadedFiles | None = None) -> LoadedFiles:
    """Read `accounts.toml` and the key files in it. Accounts that are as in `before` keep their rings.

    Raises:
        BadAccounts: with every fault.
    """
    # Take the stamps before reading: a file that changes in between is then read once more, and never missed.
    stamps = _stamps_of([path])
    accounts = accounts_file.read(path)
    stamps |= _stamps_of(path.parent / file for account in accounts.values() for file in keys.files(account))
    unchanged = {} if before is None else _unchanged(accounts, stamps, before, path.parent)
    return LoadedFiles(accounts_in_use.load(accounts, path.parent, unchanged=unchanged), stamps)


def _unchanged(
    accounts: Mapping[str, Account], stamps: Stamps, before: LoadedFiles, directory: Path
) -> dict[str, KeyedAccount]:
    return {
        name: known
        for name, account in accounts.items()
        if (known := before.keyed.get(name)) is not None
        and known.account == account
        and all(stamps[directory / file] == before.stamps.get(directory / file) for file in keys.files(account))
    }


def _stamps_of(paths: Iterable[Path]) -> Stamps:
    return {path: keys.stamp(path) for path in paths}


def _log_change(logger: Logger, change: AccountsChange, *, is_mended: bool) -> None:
    fields = {Field.ADDED: change.added, Field.CHANGED: change.changed, Field.REMOVED: change.removed}
    event = "accounts reloaded, all files are valid again" if is_mended else "accounts reloaded"
    logger.info(event, **{field: _listed(names) for field, names in fields.items() if names})


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join([*ordered[:NAMES_MAX], *(["…"] if len(ordered) > NAMES_MAX else [])])
