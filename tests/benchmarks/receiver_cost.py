"""Cost of a notification for the receiver: CPU time per request, rung by rung, in bare echoes of the same run.

    python -m tests.benchmarks.receiver_cost [--requests N] [--rounds N] [--rate N] [--json]

Each rung is a server process of its own; its CPU time is taken by itself around the load. The rungs take turns and the
least of the rounds counts, since what else the machine does only ever adds. Trust the ratios, not the microseconds.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import multiprocessing.connection
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from msgspec import Struct
from prometheus_client import CollectorRegistry

from deploy import process
from deploy.embedded import directory
from deploy.load import wire
from deploy.load.figures import Figures
from deploy.logs import LogWriter
from ingest import accounts_in_use, app, authenticate, settings
from ingest.accounts_in_use import AccountsInUse
from ingest.keys import KeyRing
from ingest.metrics import ReceiverMetrics
from ingest.receive import Log
from ingest.recent_refusals import RecentRefusals
from schemas import accounts_toml, form
from schemas.accounts import Account
from schemas.record_format import Record
from tests.benchmarks import sending

CONNECTIONS = 32
ACCOUNT = "shop"
APP, SELLER = "2021000000000001", "2088900000010041"
PATH = f"/notify/{ACCOUNT}"
Loop = Callable[[], asyncio.AbstractEventLoop]


class Rung(Struct, frozen=True, kw_only=True):
    """One rung, measured: microseconds of CPU per request, and how many times the echo that is."""

    name: str
    cpu_us: float
    ratio: float
    per_second: float


class Load(Struct, frozen=True):
    """How many requests, how many a second (as fast as answers come if none is given), over how many connections."""

    requests: int
    rate: float | None
    connections: int


class Merchant(Struct, frozen=True):
    """What every rung serves with."""

    directory: Path
    accounts: dict[str, Account]

    @property
    def in_use(self) -> AccountsInUse:
        return AccountsInUse(accounts_in_use.load(self.accounts, self.directory))

    @property
    def ring(self) -> KeyRing:
        return self.in_use.ring(ACCOUNT)


# --- rungs: each serves on a free port and prints it


@asynccontextmanager
async def echo(merchant: Merchant, work: Callable[[bytes], object] = len) -> AsyncIterator[int]:
    """aiohttp as anybody would start: an application, a route, the body read."""

    async def handle(request: web.Request) -> web.Response:
        work(await request.read())
        return web.Response(text="success")

    application = web.Application()
    application.router.add_post(PATH, handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def parse(merchant: Merchant) -> AbstractAsyncContextManager[int]:
    """The echo, reading the form too."""
    return echo(merchant, form.read)


def verify(merchant: Merchant) -> AbstractAsyncContextManager[int]:
    """The echo, reading the form, verifying it and admitting it."""
    account, ring = merchant.accounts[ACCOUNT], merchant.ring
    return echo(merchant, lambda body: authenticate.check(account, ring, body))


class MemoryLog:
    """A log that takes no time: the rest is the receiver."""

    async def append(self, record: Record) -> None:
        self.last = record


@asynccontextmanager
async def receiver(merchant: Merchant, log: Log | None = None) -> AsyncIterator[int]:
    """The whole receiver: limits, deadlines, metrics, one log line for each notification."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: ASYNC230
        lines = LogWriter(nowhere)
        lines.start()
        async with app.serving(
            settings=settings.load({}, accounts="accounts.toml", port=0, drain_delay_s=0.0),
            accounts=merchant.in_use,
            log=log or MemoryLog(),
            logger=lines,
            metrics=ReceiverMetrics(CollectorRegistry()),
            recent=RecentRefusals(),
        ) as serving:
            process.freeze_heap()  # as each of our processes does when it is built
            yield serving.port
        lines.close()


@asynccontextmanager
async def embedded(merchant: Merchant) -> AsyncIterator[int]:
    """The whole receiver on the journal: durable before `success`."""
    with tempfile.TemporaryDirectory() as temporary:
        opening = directory.open_files(Path(temporary) / "engine", now_ms=lambda: time.time_ns() // 1_000_000)
        async with opening as opened, receiver(merchant, opened.journal) as port:
            yield port


# Found again by name in the rung's own process, so each is a function of a module, or a partial of one.
Serve = Callable[[Merchant], AbstractAsyncContextManager[int]]

RUNGS: Mapping[str, Serve] = {
    "echo": echo,
    "echo + parse": parse,
    "echo + parse + verify": verify,
    "receiver, log in memory": receiver,
    "receiver, journal": embedded,
}


# --- measuring


def run(serve: Serve, merchant_files: str, pipe: multiprocessing.connection.Connection) -> None:
    """One rung's process: serve, and answer each message with the CPU time used so far."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        async with serve(merchant(Path(merchant_files))) as port:
            pipe.send(port)
            while await loop.run_in_executor(None, pipe.recv):
                pipe.send(time.process_time())

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(until_told())


def loop_factory() -> Loop | None:
    """uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Loop = uvloop.new_event_loop
    return factory


def ladder(
    rungs: Mapping[str, Serve] = RUNGS,
    *,
    requests: int = 10_000,
    rounds: int = 3,
    rate: float | None = None,
    connections: int = CONNECTIONS,
    cores: Collection[int] | None = None,
) -> list[Rung]:
    """Every rung, from the echo up. The server has the first core to itself, the sender the last.

    Requests come over so many `connections`, at `rate` a second or as fast as answers do. The others are
    ratios to the first rung.
    """
    before = os.sched_getaffinity(0)
    try:
        return _ladder(rungs, Load(requests, rate, connections), rounds, set(cores or before))
    finally:
        os.sched_setaffinity(0, before)


def _ladder(rungs: Mapping[str, Serve], load: Load, rounds: int, cores: set[int]) -> list[Rung]:
    with tempfile.TemporaryDirectory() as temporary:
        requests_made = make_requests(Path(temporary), load.requests)
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in rungs}
        for _ in range(rounds):
            for name, serve in rungs.items():
                costs[name].append(_measured(serve, temporary, requests_made, load, cores))
    least = {name: min(cost for cost, _ in measured) for name, measured in costs.items()}
    fastest = {name: max(rate for _, rate in measured) for name, measured in costs.items()}
    echo_us = least[next(iter(rungs))]
    return [
        Rung(name=name, cpu_us=least[name], ratio=least[name] / echo_us, per_second=fastest[name]) for name in rungs
    ]


def _measured(
    serve: Serve, merchant_files: str, requests: Sequence[bytes], load: Load, cores: set[int]
) -> tuple[float, float]:
    """Microseconds of the server's CPU per request, and requests per second."""
    context = multiprocessing.get_context("spawn")
    os.sched_setaffinity(0, cores)
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(serve, merchant_files, theirs))
    process.start()
    try:
        port = ours.recv()
        os.sched_setaffinity(0, {max(cores)})
        asyncio.run(_load(requests[: len(requests) // 10], port, load.connections))
        before = _ask(ours)
        result = asyncio.run(_load(requests, port, load.connections, load.rate))
        used = _ask(ours) - before
        ours.send(False)
        process.join(30)
    finally:
        process.kill()
    assert result.ok == len(requests), result
    return used / len(requests) * 1e6, result.acknowledged_rate


def _ask(pipe: Any) -> float:
    pipe.send(True)
    used: float = pipe.recv()
    return used


def _load(
    requests: Sequence[bytes], port: int, connections: int, rate: float | None = None
) -> Coroutine[Any, Any, Figures]:
    return sending.run(requests, host="127.0.0.1", port=port, connections=connections, rate=rate)


# --- the notifications


def merchant(files: Path) -> Merchant:
    """The account whose key `make_requests` wrote."""
    numbers = {"app_id": APP, "seller_id": SELLER}
    configured = {"family": "openapi", "sign_type": "RSA2", "keys": ["key.pem"], **numbers}
    return Merchant(files, accounts_toml.parse({"accounts": {ACCOUNT: configured}}))


def make_requests(files: Path, count: int) -> list[bytes]:
    """Signed payments of about 900 bytes, each its own, ready for the wire; their public key goes into `files`."""
    from urllib.parse import quote_plus

    key = rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (files / "key.pem").write_bytes(pem)
    requests = []
    for number in range(count):
        fields = _fields(number)
        text = "&".join(f"{name}={value}" for name, value in sorted(fields.items())).encode()
        sign = base64.b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
        signed = fields | {"sign_type": "RSA2", "sign": sign}
        body = "&".join(f"{name}={quote_plus(value)}" for name, value in signed.items()).encode()
        headers = (("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"), ("User-Agent", "Mozilla/4.0"))
        requests.append(wire.request_bytes("pay.merchant.example", PATH, headers, body))
    return requests


def _fields(number: int) -> dict[str, str]:
    return {
        "gmt_create": "2026-02-03 11:00:12",
        "charset": "utf-8",
        "gmt_payment": "2026-02-03 11:00:30",
        "notify_time": "2026-02-03 11:00:31",
        "subject": "Two tickets for the ferry",
        "buyer_id": "2088900000020034",
        "invoice_amount": "120.50",
        "version": "1.0",
        "notify_id": f"bench{number:029d}",
        "fund_bill_list": '[{"amount":"120.50","fundChannel":"PCREDIT"}]',
        "notify_type": "trade_status_sync",
        "out_trade_no": f"BENCH-{number:012d}",
        "total_amount": "120.50",
        "trade_status": "TRADE_SUCCESS",
        "trade_no": f"20260203220014999{number:011d}",
        "auth_app_id": APP,
        "receipt_amount": "120.50",
        "point_amount": "0.00",
        "app_id": APP,
        "buyer_pay_amount": "120.50",
        "seller_id": SELLER,
    }


def table(rungs: Sequence[Rung]) -> str:
    """The ladder as text."""
    lines = [f"{'rung':28}{'CPU µs':>9}{'ratio':>8}{'req/s':>9}"]
    lines += [f"{r.name:28}{r.cpu_us:9.1f}{r.ratio:8.2f}{r.per_second:9.0f}" for r in rungs]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a notification costs the receiver.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=None, help="requests a second; as fast as answers come")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rungs = ladder(requests=options.requests, rounds=options.rounds, rate=options.rate)
    if options.json:
        print(json.dumps([{field: getattr(r, field) for field in r.__struct_fields__} for r in rungs]))
    else:
        print(table(rungs))


if __name__ == "__main__":
    main()
