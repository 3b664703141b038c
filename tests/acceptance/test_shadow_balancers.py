"""Balancers with the shipped configurations of shadow mode, in front of a handler of the merchant's own."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from deploy.local import directory as directories
from deploy.local.directory import Directory
from deploy.local.machine import Machine
from deploy.shadow import server
from schemas.accounts import SignType
from tests.support import alipay, balancers
from tests.support.cluster import until
from tests.support.fakes import MemoryLogger
from tests.unit.deploy.cli.commands import parsed, run

NOTIFICATION = {
    "notify_type": "trade_status_sync", "app_id": alipay.APP, "auth_app_id": alipay.APP, "seller_id": alipay.SELLER,
    "notify_time": "2026-11-30 08:00:00", "trade_status": "TRADE_SUCCESS", "total_amount": "12.80",
    "gmt_payment": "2026-11-30 08:00:00", "subject": '港式奶茶 "x2" & 100%\n',
}  # fmt: skip
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture
def machine() -> Machine:
    return Machine(environ=dict(os.environ))


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Directory]:
    async with directories.held(tmp_path / "stack") as taken:
        yield taken


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    return alipay.accounts_file(tmp_path)


class OldHandler:
    """A handler that acknowledges every notification, forged or not, except for orders that begin with `LOST`."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[bytes] = []
        self.requests: list[str] = []  # the numbers by which its own log could be joined

    async def _answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.requests.append(request.headers["X-Request-ID"])
        return web.Response(text="fail" if b"out_trade_no=LOST" in self.bodies[-1] else "success")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["OldHandler"]:
        application = web.Application()
        application.router.add_post("/pay/ali", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


def form(order: str, signer: str = "alipay") -> bytes:
    fields = NOTIFICATION | {"out_trade_no": order, "trade_no": f"T-{order}", "notify_id": f"N-{order}"}
    return alipay.form(fields, alipay.rsa_key(signer), SignType.RSA2.value)


async def post(url: str, bodies: list[bytes]) -> list[str]:
    """Post through the balancer; return the answers."""
    async with ClientSession() as http:
        return [await (await http.post(f"{url}/pay/ali", data=body, headers=FORM)).text() for body in bodies]


async def test_nginx_mirrors_and_logs_what_the_handler_gets(
    directory: Directory, machine: Machine, accounts: Path, tmp_path: Path
) -> None:
    shadow, bodies = tmp_path / "shadow", [form("A"), form("B", "forger"), form("C")]
    running = server.running(shadow, accounts, MemoryLogger(), host="127.0.0.1", port=0)
    async with OldHandler().serving() as handler, running as port:
        nginx = balancers.mirroring_nginx(
            directory, machine, handler=f"127.0.0.1:{handler.port}", shadow=f"127.0.0.1:{port}"
        )
        async with nginx as (url, log):
            assert await post(url, bodies) == ["success"] * 3
            assert handler.bodies == bodies

            async def mirrored() -> bool:
                report = await ask(accounts, shadow, "report", "--json")
                return bool(report.exit_code == 0 and parsed(report)["notifications"] == 3)

            await until(mirrored, 60)
            lines = log.read_text().splitlines()
            assert [json.loads(each)["request"] for each in lines] == handler.requests
            imported = await ask(accounts, shadow, "import", str(log), "--route", "/pay/ali=shop-cn")
            assert imported.output.startswith("0 notifications, 3 answers to known ones"), imported.output
            assert await differences(accounts, shadow) == [("accepted_refused", "B", "bad_signature")]


async def test_nginx_answers_as_before_when_the_shadow_is_down(directory: Directory, machine: Machine) -> None:
    async with OldHandler().serving() as handler:
        nginx = balancers.mirroring_nginx(directory, machine, handler=f"127.0.0.1:{handler.port}", shadow="127.0.0.1:1")
        async with nginx as (url, _):
            assert await post(url, [form("A"), form("B")]) == ["success", "success"]


async def test_haproxy_logs_bodies_and_answers(
    directory: Directory, machine: Machine, accounts: Path, tmp_path: Path
) -> None:
    shadow, bodies = tmp_path / "shadow", [form("A"), form("B", "forger"), form("LOST")]
    async with (
        OldHandler().serving() as handler,
        balancers.logging_haproxy(directory, machine, handler=f"127.0.0.1:{handler.port}") as (url, log),
    ):
        assert await post(url, bodies) == ["success", "success", "fail"]

        async def logged() -> bool:
            return log.read_text().count('"method":"POST"') == 3

        await until(logged, 60)
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    assert [json.loads(line)["body"].encode() for line in lines] == bodies
    assert [json.loads(line)["request"] for line in lines] == handler.requests
    assert len(set(handler.requests)) == 3
    (tmp_path / "lines").write_text("\n".join(lines))
    imported = await ask(accounts, shadow, "import", str(tmp_path / "lines"), "--account", "shop-cn")
    assert imported.exit_code == 0, imported.output
    assert await differences(accounts, shadow) == [
        ("accepted_refused", "B", "bad_signature"), ("refused_accepted", "LOST", "other_text"),
    ]  # fmt: skip


async def differences(accounts: Path, shadow: Path) -> list[tuple[str, str, str]]:
    report = await ask(accounts, shadow, "report", "--json")
    return [(each["kind"], each["order"], each["reason"]) for each in parsed(report)["shown"]]


async def ask(accounts: Path, shadow: Path, *arguments: str) -> Any:
    environ = {"ALIPAY_NOTIFY_ACCOUNTS": str(accounts)}
    done = await asyncio.to_thread(run, environ, "shadow", *arguments, "--dir", str(shadow))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done
