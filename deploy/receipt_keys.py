"""The receipt keys in use. `deploy.accounts_reload` reads their file again together with accounts and keys."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload


class ReceiptKeys(Sequence[bytes]):
    """The keys of receipt MACs, in the order of their file: the first makes receipts, all verify them.

    `read` returns the keys in the file at `path`, and raises `BadAccounts` if they cannot be used.
    """

    def __init__(self, path: Path | None = None, read: Callable[[], tuple[bytes, ...]] = tuple) -> None:
        self.path = path
        self.read = read
        self._keys = read()
        self._watchers: list[Callable[[], None]] = []

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` after each replacement."""
        self._watchers.append(watcher)

    def replace(self, keys: tuple[bytes, ...]) -> bool:
        """Use these keys from now on; return whether they are others than before."""
        if keys == self._keys:
            return False
        self._keys = keys
        for watcher in self._watchers:
            watcher()
        return True

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        return self._keys[place]

    def __len__(self) -> int:
        return len(self._keys)
