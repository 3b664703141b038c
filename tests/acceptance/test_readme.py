"""The README's examples, run as they stand there: the account, the commands, the requests, the consumer."""

import asyncio
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from schemas import topics
from tests.support import alipay
from tests.support.kafka_topics import admin
from tests.support.paths import ROOT
from tests.support.processes import Engine

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAID = {
    "notify_type": "trade_status_sync",
    "notify_id": "2026113000222090000000000000000001",
    "notify_time": "2026-11-30 08:00:00",
    "out_trade_no": "ORDER-1",
    "trade_no": "2026113022001400000000000001",
    "trade_status": "TRADE_SUCCESS",
    "seller_id": "2088101122136241",
    "total_fee": "12.80",
    "gmt_payment": "2026-11-30 08:00:00",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(commands: str, directory: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-ec", commands], cwd=directory, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PATH": path},
    )  # fmt: skip


@pytest.fixture
def merchant(tmp_path: Path) -> Path:
    """A directory with the README's accounts.toml and the key that it names."""
    (accounts,) = blocks("toml")
    (tmp_path / "accounts.toml").write_text(accounts)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alipay.pem").write_bytes(alipay.pem(alipay.rsa_key()))
    return tmp_path


@pytest.fixture
def engine(merchant: Path) -> Iterator[Engine]:
    started = Engine(merchant / "accounts.toml", merchant / "data")
    yield started
    started.end()


def test_the_account_is_complete_and_its_key_is_found(merchant: Path) -> None:
    start, _ = blocks("sh")
    check, up = start.splitlines()
    done = run(check, merchant)
    assert done.returncode == 0, done.stdout + done.stderr
    assert up == "alipay-notify up --accounts accounts.toml", "the other test starts it on free ports"


def test_the_registered_order_is_paid_when_the_notification_arrives(merchant: Path, engine: Engine) -> None:
    engine.start()
    commands = blocks("sh")[1].replace("http://127.0.0.1:9464", engine.admin)
    register, wait = re.split(r"\n(?=curl)", commands.strip())
    done = run(f"{register} --silent --fail-with-body", merchant)
    assert done.returncode == 0, done.stdout + done.stderr
    with subprocess.Popen(["sh", "-ec", f"{wait} --silent --fail"], stdout=subprocess.PIPE, text=True) as waiting:
        assert post(engine, alipay.form(PAID, alipay.rsa_key(), "RSA")) == b"success"
        answer, _ = waiting.communicate(timeout=60)
    assert json.loads(answer)["status"] == "PAID"
    assert [event["data"]["order"] for event in engine.get("/api/events?after=0")[1]["events"]] == ["ORDER-1"]


async def test_the_consumer_ships_each_paid_order_once(kafka: str) -> None:
    connection = {"bootstrap_servers": kafka}
    async with admin(connection) as client:
        await client.create_topics([NewTopic(topics.ORDER_EVENT, 1, 1)])
        try:
            await publish(
                kafka, [event("A", 1), event("A", 1), event("A", 2, "FINISHED"), event("A", 1), event("B", 1)]
            )
            await publish(kafka, [event("A", 1), event("A", 1), event("A", 2, "FINISHED"), event("A", 1)])
            await publish(kafka, [event("B", 1, "WAITING"), event("B", 2), event("B", 1, "WAITING"), event("B", 2)])
            await publish(kafka, [event("C", 1, flags=["amount_mismatch"]), event("D", 1, "WAITING"), event("E", 1)])
            assert await shipped(kafka, until="E") == ["A", "B", "E"]
        finally:
            await client.delete_topics([topics.ORDER_EVENT])


async def shipped(kafka: str, *, until: str) -> list[str]:
    """The orders that the README's consumer ships, up to this one."""
    (consumer,) = blocks("python")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", consumer, kafka, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    found: list[str] = []
    try:
        async with asyncio.timeout(60):
            while until not in found:
                found.append((await process.stdout.readline()).decode().removeprefix("ship ").strip())
    finally:
        process.kill()
        await process.wait()
    return found


def event(order: str, version: int, status: str = "PAID", flags: Sequence[str] = ()) -> tuple[bytes, bytes]:
    about = {"order": order, "version": version, "status": status, "flags": [*flags]}
    return f"shop-sg:{order}".encode(), json.dumps(about).encode()


async def publish(kafka: str, events: Sequence[tuple[bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    async with producer:
        for key, value in events:
            await producer.send_and_wait(topics.ORDER_EVENT, value, key=key)


def post(engine: Engine, body: bytes) -> bytes:
    address = urlsplit(engine.public)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    try:
        connection.request("POST", "/notify/shop-sg", body, {"Content-Type": "application/x-www-form-urlencoded"})
        return connection.getresponse().read()
    finally:
        connection.close()
