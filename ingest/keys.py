"""The keys an account's messages are verified with: loaded from its files, changed without a restart.

Several keys of an account verify side by side, so that a key can be replaced while both are in use. The files are read
at start, where any fault refuses the start, and again whenever one has changed (`Rings.reload`), where a fault keeps
the old keys: a half-copied file must not turn payments away. A ring is replaced by one assignment, whole; there is no
moment without keys, and no moment with some of the new and some of the old.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from ingest import key_files
from ingest.key_files import BadKey, Material
from schemas.accounts import Account, BadAccounts, SignType

T = TypeVar("T")

FILE_BYTES_MAX = 64 * 1024  # a key has 1 KiB, Alipay's bundle of roots about 8


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """One key that verifies. `expires_at` and `certificate_number` where it came in a certificate."""

    id: str
    material: Material = field(repr=False)
    expires_at: datetime | None = None
    certificate_number: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class KeyRing:
    """An account's active keys and the algorithm they are pinned to.

    `recent` is the one thing about a ring that changes: the keys with the one that verified last in front. It saves
    the failing try of each message while two keys are in use; which keys there are, and so every verdict, stays.
    """

    account: str
    sign_type: SignType
    keys: tuple[Key, ...]
    pinned: bytes = field(init=False)
    recent: list[Key] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pinned", self.sign_type.value.encode())
        object.__setattr__(self, "recent", list(self.keys))

    def prefer(self, key: Key) -> None:
        """Try `key` first from now on."""
        if self.recent[0] is not key:
            self.recent.sort(key=lambda other: other is not key)

    def named(self, key_id: str) -> Key | None:
        """The key with this id."""
        return next((key for key in self.keys if key.id == key_id), None)

    def certificate_numbers(self) -> Iterator[str]:
        """The numbers of the certificates whose keys are in the ring."""
        return (key.certificate_number for key in self.keys if key.certificate_number)


def load(account: Account, directory: Path) -> KeyRing:
    """The account's ring; its files are relative to `directory`, where `accounts.toml` lies.

    Raises:
        BadAccounts: with every fault of every file, by account and file.
    """
    loading = _Loading(account, directory)
    keys = loading.keys()
    if loading.faults:
        raise BadAccounts([f"account {account.name}: {fault}" for fault in loading.faults])
    return KeyRing(account.name, account.sign_type, keys)


def load_all(accounts: Mapping[str, Account], directory: Path) -> dict[str, KeyRing]:
    """The rings of all accounts, by name.

    Raises:
        BadAccounts: with every fault of every account.
    """
    rings, faults = {}, []
    for name, account in accounts.items():
        try:
            rings[name] = load(account, directory)
        except BadAccounts as bad:
            faults += bad.faults
    if faults:
        raise BadAccounts(faults)
    return rings


def files(account: Account) -> tuple[str, ...]:
    """The files that an account's keys come from, as its configuration names them."""
    md5 = (account.md5_key_file,) if account.md5_key_file else ()
    return (*md5, *account.keys.values(), *account.certificates, *account.root_certificates)


class Rings:
    """The rings in use, and the way to new ones. `reload` is called from time to time by whoever owns the clock."""

    def __init__(self, accounts: Mapping[str, Account], directory: Path) -> None:
        """Load all.

        Raises:
            BadAccounts: with every fault of every account.
        """
        self._accounts = dict(accounts)
        self._directory = directory
        # Stamps are taken before the files are read: a file that changes in between is then read once too often.
        self._stamps = {name: self._stamp(account) for name, account in self._accounts.items()}
        self._rings = load_all(accounts, directory)
        self.faults: dict[str, list[str]] = {}

    def current(self, name: str) -> KeyRing:
        """The ring of a configured account."""
        return self._rings[name]

    def reload(self) -> list[str]:
        """Read the rings whose files changed; cheap where none did. Returns what is wrong with those that could not be.

        An account with a fault keeps its old ring, and is read again at every call until it has none; `faults` holds
        the standing ones.
        """
        for name, account in self._accounts.items():
            stamp = self._stamp(account)
            if stamp == self._stamps[name] and name not in self.faults:
                continue
            self._stamps[name] = stamp
            try:
                self._rings[name] = load(account, self._directory)
                self.faults.pop(name, None)
            except BadAccounts as bad:
                self.faults[name] = bad.faults
        return [fault for faults in self.faults.values() for fault in faults]

    def _stamp(self, account: Account) -> tuple[tuple[int, int, int], ...]:
        return tuple(_file_stamp(self._directory / file) for file in files(account))


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


class _Loading:
    """One pass over an account's files; what is wrong with them collects in `faults`."""

    def __init__(self, account: Account, directory: Path) -> None:
        self.account = account
        self.directory = directory
        self.faults: list[str] = []

    def keys(self) -> tuple[Key, ...]:
        account = self.account
        found: list[Key | None] = []
        if account.md5_key_file:
            found.append(self._md5(account.md5_key_file))
        found += [self._public(version, file) for version, file in account.keys.items()]
        roots = self._roots()
        found += [self._certified(file, roots) for file in account.certificates]
        keys = tuple(key for key in found if key is not None)
        self._check_distinct(keys)
        if not found:
            self.faults.append("no key at all")
        return keys

    def _md5(self, file: str) -> Key | None:
        secret = self._read(file, key_files.md5_secret)
        return Key(Path(file).name, secret) if secret is not None else None

    def _public(self, version: str, file: str) -> Key | None:
        material = self._read(file, lambda content: key_files.public_key(content, self.account))
        if material is None:
            return None
        return Key(Path(file).name if version == file else version, material)

    def _certified(self, file: str, roots: list[x509.Certificate]) -> Key | None:
        certified = self._read(file, lambda content: key_files.certificate(content, roots, self.account))
        if certified is None:
            return None
        return Key(Path(file).name, certified.key, certified.expires_at, certified.number)

    def _roots(self) -> list[x509.Certificate]:
        roots: list[x509.Certificate] = []
        for file in self.account.root_certificates:
            content = self._content(file)
            if content is None:
                continue
            found = key_files.certificates(content)
            if not found:
                self.faults.append(f"{file} holds no certificate that can be read")
            roots += found
        return roots

    def _read(self, file: str, reader: Callable[[bytes], T]) -> T | None:
        content = self._content(file)
        if content is None:
            return None
        try:
            return reader(content)
        except BadKey as bad:
            self.faults.append(f"{file} {bad}")
            return None

    def _content(self, file: str) -> bytes | None:
        path = self.directory / file
        try:
            if not path.is_file():
                self.faults.append(f"{file} does not exist")
                return None
            with path.open("rb") as opened:
                content = opened.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            self.faults.append(f"{file} cannot be read: {error.strerror}")
            return None
        if len(content) > FILE_BYTES_MAX:
            self.faults.append(f"{file} is too large for a key")
            return None
        return content

    def _check_distinct(self, keys: tuple[Key, ...]) -> None:
        ids = [key.id for key in keys]
        self.faults += [
            f"two keys are called {key_id}: a key's id is its file's name, so the names must differ"
            for key_id in sorted({key_id for key_id in ids if ids.count(key_id) > 1})
        ]
