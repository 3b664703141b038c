"""The keys that verify an account's messages, loaded from the files that `accounts.toml` names.

All keys of an account verify, so a key is rotated by adding the new one beside the old one; deploy/docs/operations.md
has the steps. `ingest.accounts_in_use` holds the rings in use, and `deploy.accounts_reload` loads changed files again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from ingest import key_files
from ingest.key_files import BadKey, Material
from schemas.accounts import Account, BadAccounts, Family, SignType

T = TypeVar("T")

FILE_BYTES_MAX = 64 * 1024  # a key has about 1 KiB, Alipay's bundle of root certificates about 8


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """One verifying key. `expires_at` and `certificate_number` are set if it came in a certificate.

    `digest` differs for another key under the same id, and for one with which another text is signed.
    """

    id: str
    material: Material = field(repr=False)
    expires_at: datetime | None = None
    certificate_number: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class KeyRing:
    """An account's active keys and its pinned algorithm.

    `retiring` are the rings of former algorithms. Such a ring verifies what was received before `until_ms`.

    Only `recent` changes: the same keys, with the one that verified the last message first. While two keys are in use,
    this saves most messages a failed attempt. It does not affect the result.
    """

    account: str
    sign_type: SignType
    keys: tuple[Key, ...]
    root_number: str = ""  # `alipay_root_cert_sn` of its root certificates
    retiring: tuple["KeyRing", ...] = ()
    until: str = ""  # the end as in the configuration; empty for the account's own algorithm
    until_ms: int = 0
    pinned: bytes = field(init=False)
    recent: list[Key] = field(init=False, repr=False)
    digests: dict[str, bytes] = field(init=False, repr=False)  # of all keys by id, also of retiring ones

    def __post_init__(self) -> None:
        every = (key for ring in (self, *self.retiring) for key in ring.keys)
        object.__setattr__(self, "digests", {key.id: key.digest for key in every})
        object.__setattr__(self, "pinned", self.sign_type.value.encode())
        object.__setattr__(self, "recent", list(self.keys))

    def prefer(self, key: Key) -> None:
        """Try `key` first from now on."""
        if self.recent[0] is not key:
            self.recent.sort(key=lambda other: other is not key)

    def former(self, sign_type: str) -> "KeyRing | None":
        """Return the ring of a retiring algorithm, or `None`."""
        return next((ring for ring in self.retiring if ring.sign_type == sign_type), None)

    def named(self, key_id: str) -> Key | None:
        """Return the key with this id, or `None`."""
        return next((key for key in self.keys if key.id == key_id), None)

    def certificate_numbers(self) -> Iterator[str]:
        """Yield the numbers of the certificates whose keys are in the ring."""
        return (key.certificate_number for key in self.keys if key.certificate_number)


def load(account: Account, directory: Path) -> KeyRing:
    """Load an account's ring. File names are relative to `directory`, the directory of `accounts.toml`.

    Raises:
        BadAccounts: with all faults of all files, by account and file.
    """
    loading = _Loading(account, directory)
    keys = loading.keys()
    faults, retiring = loading.faults, []
    for former in account.retiring:
        older = _Loading(account.under(former), directory, is_retiring=True)
        retiring.append(
            KeyRing(account.name, former.sign_type, older.keys(), until=former.until, until_ms=former.until_ms)
        )
        faults += [f"retiring {former.sign_type}: {fault}" for fault in older.faults]
    faults += _same_ids(key for each in (keys, *(ring.keys for ring in retiring)) for key in each)
    if faults:
        raise BadAccounts([f"account {account.name}: {fault}" for fault in faults])
    return KeyRing(account.name, account.sign_type, keys, loading.root_number, tuple(retiring))


def files(account: Account) -> tuple[str, ...]:
    """Return the names of an account's key files, as in its configuration."""
    md5 = (account.md5_key_file,) if account.md5_key_file else ()
    own = (*md5, *account.keys.values(), *account.certificates, *account.root_certificates)
    return (*own, *(file for former in account.retiring for file in files(account.under(former))))


def weak(account: Account, ring: KeyRing) -> list[Key]:
    """Return the keys that are accepted only because they retire: RSA keys of the Open Platform with too few bits."""
    if account.family is not Family.OPENAPI:
        return []
    keys = (key for former in ring.retiring for key in former.keys)
    return [key for key in keys if key_files.bits(key.material) < key_files.RSA_BITS_MIN]


def weak_note(account: Account, key: Key) -> str:
    """Return the warning on a key of `weak`."""
    return (
        f"account {account.name}: retiring key {key.id} has {key_files.bits(key.material)} bits, fewer than "
        f"{key_files.RSA_BITS_MIN}: remove it as soon as nothing arrives under it"
    )


def _same_ids(keys: Iterable[Key]) -> list[str]:
    ids = [key.id for key in keys]
    return [
        f"two keys have the id {key_id}: rename one of the files, because a key's id is its file name"
        for key_id in sorted({key_id for key_id in ids if ids.count(key_id) > 1})
    ]


def content(directory: Path, file: str) -> bytes:
    """Return the content of a key file.

    Raises:
        BadKey: it cannot be read, or is too large for a key. The message names the file.
    """
    try:
        with (directory / file).open("rb") as opened:
            found = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadKey(f"{file} cannot be read: {error.strerror}") from None
    if len(found) > FILE_BYTES_MAX:
        raise BadKey(f"{file} has more than {FILE_BYTES_MAX} bytes, too many for a key")
    return found


def stamp(path: Path) -> tuple[int, ...]:
    """Return what changes whenever the file or a link on its path is replaced or written; empty without a file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


class _Loading:
    """One pass over an account's files. `faults` collects all problems."""

    def __init__(self, account: Account, directory: Path, *, is_retiring: bool = False) -> None:
        self.account = account
        self.is_retiring = is_retiring
        self.directory = directory
        self.faults: list[str] = []
        self.root_number = ""

    def keys(self) -> tuple[Key, ...]:
        account = self.account
        found: list[Key | None] = []
        if account.md5_key_file:
            found.append(self._md5(account.md5_key_file))
        found += [self._public(version, file) for version, file in account.keys.items()]
        roots = self._roots()
        self._number_roots(roots)
        found += [self._certified(file, roots) for file in account.certificates]
        keys = tuple(key for key in found if key is not None)
        if not found:
            self.faults.append("no key is configured")
        return keys

    def _md5(self, file: str) -> Key | None:
        secret = self._read(file, key_files.md5_secret)
        return self._key(Path(file).name, secret) if secret is not None else None

    def _public(self, version: str, file: str) -> Key | None:
        material = self._read(file, lambda content: key_files.public_key(content, self.account, self.is_retiring))
        if material is None:
            return None
        return self._key(Path(file).name if version == file else version, material)

    def _certified(self, file: str, roots: list[x509.Certificate]) -> Key | None:
        certified = self._read(file, lambda content: key_files.certificate(content, roots, self.account))
        if certified is None:
            return None
        return self._key(Path(file).name, certified.key, certified.expires_at, certified.number)

    def _key(self, id_: str, material: Material, expires_at: datetime | None = None, number: str = "") -> Key:
        signed_with = f"{self.account.sign_type} {self.account.public_path or ''}".encode()
        return Key(id_, material, expires_at, number, key_files.digest(material, signed_with))

    def _roots(self) -> list[x509.Certificate]:
        roots: list[x509.Certificate] = []
        for file in self.account.root_certificates:
            bundle = self._content(file)
            if bundle is None:
                continue
            found = key_files.certificates(bundle)
            if not found:
                self.faults.append(f"{file} contains no readable certificate")
            roots += found
        return roots

    def _number_roots(self, roots: list[x509.Certificate]) -> None:
        try:
            self.root_number = key_files.root_number(roots)
        except ValueError:  # an unreadable issuer; the number is only shown, and the key may verify all the same
            self.root_number = ""

    def _read(self, file: str, reader: Callable[[bytes], T]) -> T | None:
        found = self._content(file)
        if found is None:
            return None
        try:
            return reader(found)
        except BadKey as bad:
            self.faults.append(f"{file} {bad}")
            return None

    def _content(self, file: str) -> bytes | None:
        try:
            if (self.directory / file).is_file():
                return content(self.directory, file)
            self.faults.append(f"{file} does not exist")
        except OSError as error:  # also a name that is too long, or a directory that may not be entered
            self.faults.append(f"{file} cannot be read: {error.strerror}")
        except BadKey as bad:
            self.faults.append(str(bad))
        return None
