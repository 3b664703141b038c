"""Find key files that lie beside an account's, but that no account names: keys that were probably removed.

They are tried only to name the cause of a refusal; no message is accepted by them.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import structs

from ingest import key_files, keys
from ingest.checkout import merchant_keys
from ingest.key_files import BadKey
from ingest.keys import Key
from schemas.accounts import Account, Family, SignType

_FILES_MAX = 100  # a directory of keys has some; in one of other files, the search ends here
_ENDINGS = frozenset({".pem", ".crt", ".cer", ".pub", ".key", ".txt", ""})


def keys_beside(accounts: Iterable[Account], directory: Path) -> dict[str, tuple[Key, ...]]:
    """Return the public keys in these files, by account. `directory` is that of `accounts.toml`."""
    known = list(accounts)
    named = {(directory / name).resolve() for each in known for name in _files(each)}
    return {each.name: tuple(_keys(each, directory, named)) for each in known}


def _files(account: Account) -> list[str]:
    return [*keys.files(account), *merchant_keys.files(account)]


def _keys(account: Account, directory: Path, named: set[Path]) -> Iterator[Key]:
    if account.sign_type in (SignType.MD5, SignType.DSA):
        return  # any text may be a secret, and a DSA signature does not show its key
    folders = {(directory / name).parent for name in account.keys.values()}
    folders |= {(directory / name).parent for name in account.certificates}
    # An algorithm that was given up had shorter keys.
    lenient = structs.replace(account, family=Family.MAPI, sign_type=SignType.RSA)
    files = sorted(file for folder in folders for file in _listed(folder) if file.resolve() not in named)
    for file in files[:_FILES_MAX]:
        with suppress(OSError, BadKey):
            yield Key(file.name, _public(file, lenient))


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [
            file
            for file in folder.iterdir()
            if file.suffix in _ENDINGS and file.is_file() and file.stat().st_size <= keys.FILE_BYTES_MAX
        ]
    return []


def _public(file: Path, account: Account) -> key_files.Material:
    content = file.read_bytes()
    found = key_files.certificates(content)
    if found:
        with suppress(ValueError):
            material = found[0].public_key()
            if isinstance(material, rsa.RSAPublicKey):
                return material
    return key_files.public_key(content, account)
