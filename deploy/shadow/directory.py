"""The shadow's folder: its book, its decisions, and the lock of the process that decides.

lock                one process decides at a time: `shadow run`, or else the import or report of the moment
shadow.sqlite3      the notifications, and the merchant's orders, until `shadow prune`
decided-N.sqlite3   the decisions on them; it follows from the first file, and may be deleted
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from deploy import accounts_file, directory_lock
from deploy.authentication import Authenticator
from deploy.directory_lock import AlreadyRunning
from deploy.embedded.directory import JOURNAL, STORE
from deploy.embedded.migrations import FileNotUsable
from deploy.shadow import report
from deploy.shadow.book import NAME, Added, Book
from deploy.shadow.deciding import Decider
from deploy.shadow.judging import Judge
from deploy.shadow.report import ShadowReport
from deploy.shadow.shapes import MirroredRequest
from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsInUse
from ingest.clock import SystemClock
from schemas.accounts import BadAccounts
from workers.errors import InfrastructureDown, TooManyDeadLetters

REFUSALS = (AlreadyRunning, BadAccounts, FileNotUsable, InfrastructureDown, TooManyDeadLetters)


class Shadow:
    """An open folder, with all that imports and the port need."""

    def __init__(self, directory: Path, book: Book, accounts: AccountsInUse) -> None:
        self.directory = directory
        self.book = book
        self.accounts = accounts
        self.now_ms = SystemClock().epoch_ms
        # A receipt key of this process alone: records of another process are verified again.
        authenticator = Authenticator(accounts, [os.urandom(32)], is_log_private=True)
        self._judge = Judge(accounts, authenticator.receipt)
        self.decider = Decider(book, accounts, authenticator, now_ms=self.now_ms)

    async def add(self, requests: list[MirroredRequest]) -> Added:
        """Judge the notifications, and write them."""
        return await self.book.add([await self._judge.judge(request) for request in requests])

    async def catch_up(self, decided: Callable[[int], None] = lambda count: None) -> bool:
        """Decide all that the book has; False if another process decides."""
        try:
            with directory_lock.held(self.directory):
                await self.decider.catch_up(decided)
        except AlreadyRunning:
            return False
        return True

    async def is_decided(self) -> bool:
        """Return whether another process has decided all that the book has."""
        last, generation = await self.book.last_offset(), await self.book.generation()
        return await asyncio.to_thread(report.decided_upto, self.directory, generation) >= last

    async def count(self) -> int:
        """Return the number of notifications in the book."""
        return await asyncio.to_thread(report.count, self.directory)

    async def report(self, *, limit: int, progressed: Callable[[int], None]) -> ShadowReport:
        """Return the report by the decisions that there are; call `catch_up` before."""
        generation = await self.book.generation()
        return await asyncio.to_thread(report.read, self.directory, generation, limit=limit, progressed=progressed)


@asynccontextmanager
async def opened(directory: Path, accounts: Path, *, create: bool = True) -> AsyncIterator[Shadow]:
    """Open the folder.

    Raises:
        BadAccounts: accounts or keys cannot be used.
        FileNotUsable: the folder is an engine's, or cannot be used; without `create` also if it holds no book.
        Damaged, InfrastructureDown: the files cannot be opened.
    """
    known = accounts_file.read(accounts)
    in_use = AccountsInUse(accounts_in_use.load(known, accounts.parent))
    _prepare(directory, create=create)
    async with AsyncExitStack() as stack:
        book = await Book.open(directory)
        stack.push_async_callback(book.close)
        shadow = Shadow(directory, book, in_use)
        stack.push_async_callback(shadow.decider.close)
        yield shadow


def _prepare(directory: Path, *, create: bool) -> None:
    if (directory / JOURNAL).exists() or (directory / STORE).exists():
        raise FileNotUsable(f"{directory} holds an engine's files; give the shadow a folder of its own with --dir")
    if not create and not (directory / NAME).exists():
        raise FileNotUsable(f"{directory} holds no {NAME}; begin with shadow run or shadow import")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FileNotUsable(f"{directory} cannot be used: {error.strerror}; choose another one with --dir") from error
