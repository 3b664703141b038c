"""The look-up of host names: one for each host, and a slow one delays no other."""

import asyncio
import socket
import threading

import pytest
from aiohttp.abc import ResolveResult

from tests.support import waiting
from workers.callbacks import names
from workers.callbacks.names import HostNames


async def test_addresses_of_a_host_are_found() -> None:
    found = await HostNames().resolve("127.0.0.1", 443, socket.AF_INET)
    assert [(each["host"], each["port"], each["family"]) for each in found] == [("127.0.0.1", 443, socket.AF_INET)]


async def test_host_without_an_address_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    with pytest.raises(OSError, match="no such name"):
        await HostNames().resolve("shop.example", 443)
    monkeypatch.undo()
    with pytest.raises(OSError, match="host"):
        await HostNames().resolve("a" * 64 + ".example", 443)


async def test_look_up_that_hangs_delays_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer, asked = threading.Event(), []

    def look_up(host: str, port: int, family: int) -> list[ResolveResult]:
        asked.append(host)
        if host == "slow.example":
            may_answer.wait(60)
        return [ResolveResult(hostname=host, host="8.8.8.8", port=port, family=2, proto=6, flags=0)]

    monkeypatch.setattr(names, "addresses", look_up)
    resolver = HostNames()
    slow = [asyncio.create_task(resolver.resolve("slow.example", 443)) for _ in range(20)]
    await waiting.until(lambda: asked == ["slow.example"], within_s=60)
    slow[0].cancel()
    for number in range(20):
        assert (await resolver.resolve(f"other{number}.example", 443))[0]["host"] == "8.8.8.8"
    may_answer.set()
    answers = await asyncio.gather(*slow, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(each, list) for each in answers[1:])
    assert asked.count("slow.example") == 1
    await resolver.close()
