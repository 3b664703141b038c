"""The port: it goes on to write copies while everything is decided anew, and after a write that failed."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import ClientSession

from deploy.shadow import directory, report, server
from deploy.shadow.book import Book
from tests.support import alipay
from tests.support.cluster import until
from tests.support.fakes import MemoryLogger
from tests.unit.deploy.shadow import shadow_folder
from workers.errors import InfrastructureDown


async def post(port: int, *orders: str) -> None:
    async with ClientSession() as http:
        for order in orders:
            address = f"http://127.0.0.1:{port}/notify/{shadow_folder.ACCOUNT}"
            async with http.post(address, data=shadow_folder.body(order), headers=shadow_folder.FORM) as answer:
                assert (answer.status, await answer.text()) == (202, server.ANSWER)


async def test_copies_are_written_while_decisions_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts, logger, has_begun = alipay.accounts_file(tmp_path), MemoryLogger(), asyncio.Event()

    async def never_done() -> None:
        has_begun.set()
        await asyncio.Event().wait()

    async with directory.opened(tmp_path / "shadow", accounts) as shadow:
        monkeypatch.setattr(shadow.decider, "catch_up", never_done)
        async with server.serving(shadow, logger, host="127.0.0.1", port=0) as port:
            await has_begun.wait()
            await post(port, "A", "B")

            async def written() -> bool:
                return await shadow.count() == 2

            await until(written, 60)
            await post(port, "C")
        # The port ends without waiting for the decisions, and has written all that it took.
        assert await shadow.count() == 3


async def test_copies_are_kept_until_they_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts, logger, add, failures = alipay.accounts_file(tmp_path), MemoryLogger(), Book.add, [1]

    async def add_at_second_try(book: Book, items: object) -> object:
        if failures:
            failures.pop()
            raise InfrastructureDown("the disk is full")
        return await add(book, items)  # type: ignore[arg-type]

    monkeypatch.setattr(Book, "add", add_at_second_try)
    monkeypatch.setattr(server, "RETRY_S", 0.01)
    async with (
        directory.opened(tmp_path / "shadow", accounts) as shadow,
        server.serving(shadow, logger, host="127.0.0.1", port=0) as port,
    ):
        await post(port, "A")

        async def decided() -> bool:
            return await asyncio.to_thread(report.decided_upto, shadow.directory, 1) == 1

        await until(decided, 60)
    assert failures == []


async def test_copy_that_never_arrives_whole_does_not_hold_up_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LAST_S", 0.1)
    accounts, logger = alipay.accounts_file(tmp_path), MemoryLogger()
    async with directory.opened(tmp_path / "shadow", accounts) as shadow:
        async with asyncio.timeout(40), server.serving(shadow, logger, host="127.0.0.1", port=0) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST /notify/{shadow_folder.ACCOUNT} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
            writer.write(head.encode() + b"app_id=")
            await writer.drain()
            await post(port, "A")
        writer.close()
        assert await shadow.count() == 1
