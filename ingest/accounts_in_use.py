"""The accounts and keys in use: one immutable state, which a reload replaces as a whole between two requests.

A request takes its `KeyedAccount` once, at its start, and ends by it. `deploy.accounts_reload` reads the files.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from ingest import keys
from ingest.keys import KeyRing
from schemas.accounts import Account, BadAccounts


class KeyedAccount(Struct, frozen=True):
    """An account with the keys that verify its messages."""

    account: Account
    ring: KeyRing


class AccountsChange(Struct, frozen=True):
    """The names of the accounts that a reload concerns. `changed`: their settings or keys are new."""

    added: frozenset[str]
    changed: frozenset[str]
    removed: frozenset[str]

    @property
    def learnt(self) -> frozenset[str]:
        """The accounts that are known better than before."""
        return self.added | self.changed


class AccountsInUse(Mapping[str, Account]):
    """The accounts by name, always those of the present state; `keyed` is the state itself, which never changes."""

    def __init__(self, keyed: Mapping[str, KeyedAccount]) -> None:
        self.keyed = keyed
        self._accounts = _plain(keyed)
        self._watchers: list[Callable[[AccountsChange], None]] = []

    def ring(self, name: str) -> KeyRing:
        """Return the keys of an account.

        Raises:
            KeyError: there is no such account now.
        """
        return self.keyed[name].ring

    def has_key(self, name: str, key_id: str) -> bool:
        """Return whether an account has a key with this id now, also a retiring one."""
        keyed = self.keyed.get(name)
        return keyed is not None and key_id in keyed.ring.digests

    def watch(self, watcher: Callable[[AccountsChange], None]) -> None:
        """Call `watcher` now, with all accounts as added, and after each replacement."""
        self._watchers.append(watcher)
        watcher(AccountsChange(frozenset(self.keyed), frozenset(), frozenset()))

    def replace(self, keyed: Mapping[str, KeyedAccount]) -> AccountsChange:
        """Use these accounts from now on. An account counts as unchanged if its object is the same as before."""
        before, self.keyed, self._accounts = self.keyed, keyed, _plain(keyed)
        change = AccountsChange(
            added=frozenset(keyed.keys() - before.keys()),
            changed=frozenset(name for name, each in keyed.items() if before.get(name, each) is not each),
            removed=frozenset(before.keys() - keyed.keys()),
        )
        for watcher in self._watchers:
            watcher(change)
        return change

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._accounts

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def __len__(self) -> int:
        return len(self._accounts)


def _go_on() -> None:
    """Do not pause."""


def load(
    accounts: Mapping[str, Account],
    directory: Path,
    *,
    unchanged: Mapping[str, KeyedAccount] | None = None,
    pause: Callable[[], None] = _go_on,
) -> dict[str, KeyedAccount]:
    """Load the keys of all accounts but those in `unchanged`, which are taken as they are.

    `pause` is called after each account whose keys were loaded.

    Raises:
        BadAccounts: with all faults of all accounts.
    """
    keyed: dict[str, KeyedAccount] = {}
    faults: list[str] = []
    for name, account in accounts.items():
        known = (unchanged or {}).get(name)
        if known is not None:
            keyed[name] = known
            continue
        try:
            keyed[name] = KeyedAccount(account, keys.load(account, directory))
        except BadAccounts as bad:
            faults += bad.faults
        pause()
    if faults:
        raise BadAccounts(faults)
    return keyed


def _plain(keyed: Mapping[str, KeyedAccount]) -> dict[str, Account]:
    return {name: each.account for name, each in keyed.items()}
