"""The book: orders are taken without a lock on the file."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event

import pytest

from deploy.shadow import directory
from deploy.shadow.directory import Shadow
from deploy.shadow.lines import BadLine
from deploy.shadow.shapes import OldOrder, OldState
from schemas.money import Money
from tests.support import alipay
from tests.unit.deploy.shadow import shadow_folder

PATIENCE_S = 60


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    return alipay.accounts_file(tmp_path)


@pytest.fixture
async def shadow(tmp_path: Path, accounts: Path) -> AsyncIterator[Shadow]:
    async with directory.opened(tmp_path / "shadow", accounts) as opened:
        yield opened


def order(number: str, minor: int = 1280) -> OldOrder:
    return OldOrder(
        account=shadow_folder.ACCOUNT, number=number, as_of_ms=5, state=OldState.PAID, amount=Money(minor, "CNY")
    )


async def test_other_processes_write_while_orders_come_slowly(shadow: Shadow, accounts: Path) -> None:
    has_begun, may_end = Event(), Event()

    def slowly() -> Iterator[OldOrder]:
        yield order("A", 1)
        yield order("A")
        has_begun.set()
        assert may_end.wait(PATIENCE_S)
        yield order("B")

    async with directory.opened(shadow.directory, accounts) as other:
        putting = asyncio.create_task(other.book.put_orders(slowly()))
        try:
            assert await asyncio.to_thread(has_begun.wait, PATIENCE_S)
            assert (await shadow.add([shadow_folder.copy("A")])).new == 1
            assert (await shadow.book.amounts_after(("", ""), 9), await shadow.book.generation()) == ([], 1)
        finally:
            may_end.set()
        assert await putting == 3
    found = await shadow.book.amounts_after(("", ""), 9)
    assert [(each.number, each.amount) for each in found] == [("A", Money(1280, "CNY")), ("B", Money(1280, "CNY"))]
    assert await shadow.book.generation() == 2


async def test_orders_that_end_with_a_fault_leave_everything_as_it_was(shadow: Shadow) -> None:
    def broken() -> Iterator[OldOrder]:
        yield order("A")
        raise BadLine("line 1 is odd")

    with pytest.raises(BadLine):
        await shadow.book.put_orders(broken())
    assert (await shadow.book.amounts_after(("", ""), 9), await shadow.book.generation()) == ([], 1)
    assert await shadow.book.put_orders([order("B")]) == 1
    assert [each.number for each in await shadow.book.amounts_after(("", ""), 9)] == ["B"]
