"""Import a file into the book, line by line: memory stays bounded, and a faulty line stops nothing."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from msgspec import structs

from deploy.shadow import lines, old_orders
from deploy.shadow.directory import Shadow
from deploy.shadow.lines import BadLine, OtherRequest
from deploy.shadow.old_orders import OrderDefaults
from deploy.shadow.shapes import MirroredRequest, OldOrder, OldState
from workers.errors import InfrastructureDown

BATCH_MAX = 500
BAD_LINES_NAMED = 20
CATCH_UP_MAX_S = 600.0
LOOK_EVERY_S = 0.5


class Imported:
    """What an import has done so far. `bad` has the first lines that could not be read, with their numbers.

    `others` counts the lines of requests that are no notifications.
    """

    def __init__(self) -> None:
        self.new = self.joined = self.known = self.others = self.bad_count = 0
        self.bad: list[tuple[int, str]] = []

    def leave_out(self, number: int, fault: str) -> None:
        """Count a line that cannot be read."""
        self.bad_count += 1
        if len(self.bad) < BAD_LINES_NAMED:
            self.bad.append((number, fault))


class Routes:
    """The account of a line: the one that it names, else that of its path, else the default."""

    def __init__(self, by_path: dict[str, str], default: str) -> None:
        self._by_path = by_path
        self._default = default

    def account_of(self, request: MirroredRequest) -> str:
        """Return the account; empty if neither the line nor the options name one."""
        path = request.target.partition("?")[0]
        named = request.account or self._by_path.get(path) or self._default
        return named or (path.removeprefix("/notify/") if path.startswith("/notify/") else "")


async def notifications(
    file: BinaryIO, shadow: Shadow, routes: Routes, words: dict[str, OldState], progressed: Callable[[int], None]
) -> Imported:
    """Import notifications; `progressed` is called with the bytes of each line.

    Raises:
        InfrastructureDown: the book cannot be written. Lines before that are imported; import the file again.
    """
    imported = Imported()
    batch: list[MirroredRequest] = []
    for number, line, size in lines.numbered(file):
        progressed(size)
        try:
            request = _request(line, routes, words, shadow)
        except OtherRequest:
            imported.others += 1
            continue
        except BadLine as bad:
            imported.leave_out(number, str(bad))
            continue
        if request is not None:
            batch.append(request)
        if len(batch) >= BATCH_MAX:
            await _add(batch, shadow, imported)
            batch = []
    await _add(batch, shadow, imported)
    return imported


async def orders(
    file: BinaryIO,
    shadow: Shadow,
    account: str,
    words: dict[str, OldState],
    as_of_ms: int | None,
    progressed: Callable[[int], None],
) -> Imported:
    """Import the merchant's orders as they are now, or at `as_of_ms`.

    Raises:
        BadLine: the first line is neither JSON nor names columns.
        InfrastructureDown: nothing is written.
    """
    imported = Imported()
    defaults = OrderDefaults(
        account=account,
        currencies={name: each.currency for name, each in shadow.accounts.items()},
        as_of_ms=shadow.now_ms() if as_of_ms is None else as_of_ms,
        words=words,
    )

    def found() -> Iterator[OldOrder]:
        for row in old_orders.read(file, defaults):
            progressed(row.size)
            if row.fault:
                imported.leave_out(row.number, row.fault)
            if row.order is not None:
                yield row.order

    imported.new = await shadow.book.put_orders(found())
    return imported


async def caught_up(shadow: Shadow, decided: Callable[[int], None]) -> None:
    """Return when all that the book has is decided: by this process, or by `shadow run` beside it.

    Raises:
        InfrastructureDown: the other process is too slow.
    """
    ends_s = time.monotonic() + CATCH_UP_MAX_S
    while not await shadow.catch_up(decided) and not await shadow.is_decided():
        if time.monotonic() > ends_s:
            raise InfrastructureDown(f"{shadow.directory}: shadow run has not decided everything; see its log")
        await asyncio.sleep(LOOK_EVERY_S)


def _request(line: bytes | None, routes: Routes, words: dict[str, OldState], shadow: Shadow) -> MirroredRequest | None:
    """Return the notification of a line; `None` if it is blank."""
    if line is None:
        raise BadLine(f"has more than {lines.LINE_BYTES_MAX} bytes")
    if not line.strip():
        return None
    request = lines.request(line, now_ms=shadow.now_ms(), words=words)
    account = routes.account_of(request)
    if account not in shadow.accounts:
        raise BadLine(
            f"account {account!r} is not in accounts.toml" if account else "has no account: --account, --route"
        )
    return structs.replace(request, account=account)


async def _add(batch: list[MirroredRequest], shadow: Shadow, imported: Imported) -> None:
    if not batch:
        return
    added = await shadow.add(batch)
    imported.new += added.new
    imported.joined += added.joined
    imported.known += added.known
