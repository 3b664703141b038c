"""A real engine asks the simulated Alipay for the payments whose notifications are lost, over a SIGKILL."""

import asyncio
import time
from pathlib import Path

from deploy.sandbox import server
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.planning import Wishes
from deploy.sandbox.server import SandboxServer
from deploy.sandbox.world import World
from ingest.checkout import requests
from tests.support.processes import Engine

ASKING = [one for one in IDENTITIES if one.name in ("demo-cn", "demo-md5", "demo-web", "demo-antom")]
WITHIN_S = 120.0


async def test_lost_notifications_are_asked_for_also_after_a_kill(tmp_path: Path) -> None:
    sock = server.listening("127.0.0.1", 0)
    url = server.url_of(sock)

    def world_for(receiver: str) -> World:
        return World.create(tmp_path / "world", gateway_url=url, notify_base=receiver, identities=ASKING, queries=True)

    world = world_for("http://127.0.0.1:1")
    engine = Engine(world.accounts_file, tmp_path / "data", ALIPAY_NOTIFY_QUERY_AFTER_S="1")
    await asyncio.to_thread(engine.start)
    try:
        world = world_for(engine.public)
        sandbox = SandboxServer(world, sock=sock, admin_url=engine.admin, request_url=requests.redirect_url, drop=1.0)
        async with sandbox:
            await sold(engine, sandbox, "first")
            await paid(engine, "first")
            await asyncio.to_thread(engine.kill)
            await asyncio.to_thread(engine.start)
            await sold(engine, sandbox, "second")
            await paid(engine, "second")
            for name in names():
                _, order = await asyncio.to_thread(engine.get, f"/api/orders/{name}/first-{name}")
                answers = [entry for entry in order["timeline"] if entry["kind"] == "notification"]
                assert [entry["version"] for entry in answers if entry["version"]] == [order["version"]]
                assert all(entry["is_answer"] for entry in answers)
        metrics = await asyncio.to_thread(engine.metrics)
        assert sum(metrics[f'alipay_notify_recovered_total{{account="{name}"}}'] for name in names()) == len(ASKING)
    finally:
        await asyncio.to_thread(engine.end)


def names() -> list[str]:
    return [one.name for one in ASKING]


async def sold(engine: Engine, sandbox: SandboxServer, prefix: str) -> None:
    """Register one order of each account, and have it paid; its notification is lost."""
    for one in ASKING:
        path, amount = f"/api/orders/{one.name}/{prefix}-{one.name}", {"amount": "12.80", "currency": one.currency}
        status, answer = await asyncio.to_thread(engine.put, path, amount)
        assert status in (200, 201), answer
        await sandbox.play("paid", one.name, wishes=Wishes(order=f"{prefix}-{one.name}"))


async def paid(engine: Engine, prefix: str) -> None:
    """Wait until all these orders are paid."""
    deadline = time.monotonic() + WITHIN_S
    left = names()
    while left:
        assert time.monotonic() < deadline, (left, engine.log.read_text()[-3000:])
        await asyncio.sleep(0.2)
        for name in list(left):
            _, order = await asyncio.to_thread(engine.get, f"/api/orders/{name}/{prefix}-{name}")
            if order["status"] in ("PAID", "FINISHED"):
                left.remove(name)
