"""Find key files that lie beside an account's, but that no account names: keys that were probably removed.

They are tried only to name the cause of a refusal; no message is accepted by them.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from ingest import key_files, keys
from ingest.checkout import merchant_keys
from ingest.key_files import BadKey
from ingest.keys import Key
from schemas.accounts import Account, Family, SignType

_FILES_MAX = 30  # the newest of a directory: each key is tried on many texts
_ENDINGS = frozenset({".pem", ".crt", ".cer", ".pub", ".key", ".txt", ""})


def keys_beside(accounts: Iterable[Account], directory: Path) -> dict[str, tuple[Key, ...]]:
    """Return the public keys in these files, by account. `directory` is that of `accounts.toml`."""
    known = list(accounts)
    named = {(directory / name).resolve() for each in known for name in _files(each)}
    of_folder: dict[Path, list[Key]] = {}
    found: dict[str, tuple[Key, ...]] = {}
    for account in known:
        folders = _folders(account, directory)
        for folder in folders:
            if folder not in of_folder:
                of_folder[folder] = list(_keys(folder, named))
        found[account.name] = tuple(key for folder in folders for key in of_folder[folder])
    return found


def _files(account: Account) -> list[str]:
    return [*keys.files(account), *merchant_keys.files(account)]


def _folders(account: Account, directory: Path) -> list[Path]:
    if account.sign_type in (SignType.MD5, SignType.DSA):
        return []  # any text may be a secret, and a DSA signature does not show its key
    names = (*account.keys.values(), *account.certificates)
    return list(dict.fromkeys((directory / name).parent for name in names))


def _keys(folder: Path, named: set[Path]) -> Iterator[Key]:
    files = [file for file in _listed(folder) if file.resolve() not in named]
    for file in files[:_FILES_MAX]:
        with suppress(OSError, BadKey):
            yield Key(file.name, _public(file))


def _listed(folder: Path) -> list[Path]:
    """Return the files that may be keys, the newest first."""
    found: list[tuple[float, Path]] = []
    with suppress(OSError):
        for file in folder.iterdir():
            status = file.stat()
            if file.suffix in _ENDINGS and file.is_file() and status.st_size <= keys.FILE_BYTES_MAX:
                found.append((status.st_mtime, file))
    return [file for _, file in sorted(found, reverse=True)]


def _public(file: Path) -> key_files.Material:
    content = file.read_bytes()
    found = key_files.certificates(content)
    if found:
        with suppress(ValueError):
            material = found[0].public_key()
            if isinstance(material, rsa.RSAPublicKey):
                return material
    return key_files.public_key(content, _LENIENT)


# An algorithm that was given up had shorter keys.
_LENIENT = Account(name="any", family=Family.MAPI, sign_type=SignType.RSA)
