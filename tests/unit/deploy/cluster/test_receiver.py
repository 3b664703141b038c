"""The receiver's start: refusals, weak topics, and a cluster that cannot be reached."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from deploy.cluster import kafka_admin, receiver, settings
from deploy.cluster.settings import UnreadableFile
from deploy.cluster.topic_check import NotSeen, TooWeak
from deploy.cluster.topics import Found
from deploy.logs import LogWriter
from deploy.start_errors import CannotBind
from schemas.topics import NOTIFICATION

NOWHERE = "127.0.0.1:1"


def running(accounts: Path, log: StringIO, **values: Any) -> AbstractAsyncContextManager[dict[str, str]]:
    given = {"accounts": accounts, "kafka": NOWHERE, "port": 0, "admin_port": 0, "drain_delay_s": 0.0, **values}
    return receiver.running(settings.load({}, **given), LogWriter(log), CollectorRegistry())


def topics_are(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Found] | Exception) -> None:
    async def look(connection: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Found]:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(kafka_admin, "look", look)


async def _text(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


async def test_start_is_refused_without_brokers_or_with_a_weak_topic(
    accounts: Path, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnreadableFile, match="ALIPAY_NOTIFY_KAFKA is not set"):
        async with running(accounts, log, kafka=""):
            pass
    topics_are(monkeypatch, {NOTIFICATION: Found(partitions=1, replicas=1, config={})})
    with pytest.raises(TooWeak, match="replication factor of 1"):
        async with running(accounts, log):
            pass


async def test_receiver_starts_without_kafka_and_is_not_ready(
    accounts: Path, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics_are(monkeypatch, NotSeen("no broker"))
    async with running(accounts, log) as urls, aiohttp.ClientSession() as http:
        async with http.get(f"{urls['admin']}/readyz") as answer:
            assert answer.status == 503
        async with asyncio.timeout(30):  # until the first attempt to connect has failed; a page has no event
            page = f"{urls['admin']}/readyz?verbose"
            while "Connect call failed" not in await _text(http, page):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with http.post(f"{urls['public']}/notify/shop", data=b"a=b") as answer:
            assert (answer.status, await answer.text()) != (200, "success")


async def test_taken_public_port_is_refused_with_its_option(
    accounts: Path, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics_are(monkeypatch, NotSeen("no broker"))
    async with running(accounts, log) as urls:
        port = int(urls["public"].rpartition(":")[2])
        with pytest.raises(CannotBind, match="--port or ALIPAY_NOTIFY_PORT"):
            async with running(accounts, log, port=port):
                pass
