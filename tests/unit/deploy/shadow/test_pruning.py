"""What is forgotten of a shadow, and what is decided of the rest."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from deploy.shadow import directory
from deploy.shadow.book import Added
from deploy.shadow.directory import Shadow
from deploy.shadow.pruning import Pruned
from deploy.shadow.shapes import OldOrder, OldReaction, OldState
from schemas.money import Money
from schemas.times import DAY_MS
from tests.support import alipay
from tests.unit.deploy.shadow import shadow_folder
from tests.unit.deploy.shadow.shadow_folder import ACCOUNT, AT_MS


@pytest.fixture
async def shadow(tmp_path: Path) -> AsyncIterator[Shadow]:
    async with directory.opened(tmp_path / "shadow", alipay.accounts_file(tmp_path)) as opened:
        yield opened


def exported(number: str, *, as_of_ms: int) -> OldOrder:
    return OldOrder(account=ACCOUNT, number=number, as_of_ms=as_of_ms, state=OldState.PAID, amount=Money(1280, "CNY"))


async def reported(shadow: Shadow) -> tuple[int, int, int]:
    """Return the numbers of notifications, of orders that were compared, and of differences."""
    assert await shadow.catch_up()
    found = await shadow.report(limit=0, progressed=lambda count: None)
    return found.notifications, found.orders_compared, found.differences


async def test_what_is_old_is_forgotten_and_the_rest_decided_anew(shadow: Shadow) -> None:
    """The old ones were imported last: offsets do not follow the times."""
    await shadow.add([shadow_folder.copy("B", at_ms=AT_MS), shadow_folder.copy("A", at_ms=AT_MS - 2 * DAY_MS)])
    await shadow.add([shadow_folder.copy("C", at_ms=AT_MS)])
    await shadow.book.put_orders([
        exported("A", as_of_ms=AT_MS - DAY_MS),
        exported("B", as_of_ms=AT_MS - DAY_MS),
        exported("C", as_of_ms=AT_MS + 1),
    ])  # fmt: skip
    assert await reported(shadow) == (3, 2, 0)
    assert await shadow.book.prune(AT_MS) == Pruned(notifications=1, orders=1)
    assert [each.position.offset for each in await shadow.book.authentic_after(0, 9)] == [1, 2]
    assert [each.number for each in await shadow.book.amounts_after(("", ""), 9)] == ["B", "C"]
    assert await reported(shadow) == (2, 1, 0)
    assert await shadow.is_decided()
    assert [path.name for path in shadow.directory.glob("decided-*.sqlite3")] == ["decided-3.sqlite3"]
    await shadow.add([shadow_folder.copy("D", at_ms=AT_MS + 2)])
    assert await reported(shadow) == (3, 1, 0)


async def test_without_anything_old_nothing_is_decided_anew(shadow: Shadow) -> None:
    await shadow.add([shadow_folder.copy("A")])
    assert (await shadow.book.prune(AT_MS), await shadow.book.generation()) == (Pruned(), 1)


async def test_nothing_of_what_is_forgotten_stays_in_the_files(shadow: Shadow) -> None:
    await shadow.add([shadow_folder.copy("SECRET-ORDER"), shadow_folder.copy("A", at_ms=AT_MS + DAY_MS)])
    assert await shadow.catch_up()
    await shadow.book.prune(AT_MS + 1)
    assert await shadow.catch_up()
    kept = b"".join(path.read_bytes() for path in shadow.directory.iterdir() if path.is_file())
    assert (b"SECRET-ORDER" in kept, b"T-A" in kept) == (False, True)


async def test_line_that_is_forgotten_is_not_imported_again(shadow: Shadow) -> None:
    line = structs.replace(shadow_folder.line("A", "R1", old=OldReaction(status=200)), line_digest=b"x" * 16)
    assert await shadow.add([line]) == Added(new=1)
    await shadow.book.prune(AT_MS + 1)
    assert await shadow.add([line]) == Added(known=1)
    assert await reported(shadow) == (0, 0, 0)
