"""Read `accounts.toml`: the accounts in it. Their key files are relative to its directory.

A file of 5,000 accounts takes a second to parse, so a reload parses only the tables whose text has changed. That needs
a file in which each account is one piece of text, as people write them; any other file, and a faulty one, is parsed as
a whole.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas import accounts_toml
from schemas.accounts import Account, BadAccounts

ENVIRONMENT = "ALIPAY_NOTIFY_ACCOUNTS"

# Outside texts of several lines, only the header of a table can look like this.
_HEADER = re.compile(r"^\[accounts\.([a-z0-9-]+)\][ \t]*(?:#.*)?$", re.MULTILINE)
_LONG_TEXT = ('"""', "'''")
_BLANK = re.compile(r"(?:[ \t]*(?:#.*)?\n)*[ \t]*")


def never() -> None:
    """Do not pause: for a process that does nothing else yet."""


def read(path: Path) -> dict[str, Account]:
    """Return the accounts in the file by name. Key files are not read here; they are relative to `path.parent`.

    Raises:
        BadAccounts: with every fault; also if the file cannot be read or is not TOML.
    """
    return AccountsFile(path).read()


class AccountsFile:
    """One file, which may be read again and again. It keeps what the last texts meant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_text: dict[str, Account] = {}  # of the last text that was read table by table
        self._refused: tuple[str, list[str]] | None = None  # the last text that was faulty, and its faults

    def read(self, pause: Callable[[], None] = never) -> dict[str, Account]:
        """Return the accounts as `read`; those whose text is as before are the same objects.

        `pause` is called after each table.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as error:
            raise BadAccounts([f"{self._path} cannot be read: {error.strerror}"]) from None
        except UnicodeDecodeError as error:
            raise BadAccounts([f"{self._path} is not TOML: {error}"]) from None
        if self._refused is not None and self._refused[0] == text:
            raise BadAccounts(self._refused[1])
        try:
            return self._by_tables(text, pause) or self._whole(text)
        except BadAccounts as bad:
            self._refused = text, bad.faults
            raise

    def _by_tables(self, text: str, pause: Callable[[], None]) -> dict[str, Account]:
        """Return the accounts, if each is one piece of text and valid; else none."""
        accounts: dict[str, Account] = {}
        by_text: dict[str, Account] = {}
        for name, table in _tables(text):
            account = self._by_text.get(table)
            if account is None:
                account = _only_account(name, table)
                pause()
            if account is None or name in accounts:
                return {}
            accounts[name] = by_text[table] = account
        self._by_text = by_text
        return accounts

    def _whole(self, text: str) -> dict[str, Account]:
        try:
            configuration = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadAccounts([f"{self._path} is not TOML: {error}"]) from None
        return accounts_toml.parse(configuration)


def _tables(text: str) -> Iterator[tuple[str, str]]:
    """Yield each account's name and the text from its header to the next one; none if the file may be otherwise."""
    headers = list(_HEADER.finditer(text))
    if not headers or any(mark in text for mark in _LONG_TEXT) or not _BLANK.fullmatch(text[: headers[0].start()]):
        return
    ends = [*(header.start() for header in headers[1:]), len(text)]
    for header, end in zip(headers, ends, strict=True):
        yield header[1], text[header.start() : end]


def _only_account(name: str, table: str) -> Account | None:
    """Return the account, if the text is a valid table of it and nothing else."""
    try:
        configuration = tomllib.loads(table)
        if configuration.keys() != {"accounts"} or configuration["accounts"].keys() != {name}:
            return None
        return accounts_toml.parse(configuration)[name]
    except (tomllib.TOMLDecodeError, BadAccounts):
        return None
