"""The receiver under test, as a process of its own: the real one, with a log in memory and a window into it.

Run as `python -m tests.bad_input.server ACCOUNTS`; settings come from the environment. It prints its two ports as JSON.
Each line sent to the second port is answered with the metrics, log lines and resources of the process so far, and with
the addresses to which it wanted to connect.

SUITE_STUMBLES names an account whose verifier raises; with SUITE_ASKS=1 Alipay is really asked about a notification.
"""

import asyncio
import base64
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import psutil
from prometheus_client import CollectorRegistry, generate_latest

from deploy.accounts_reload import AccountsReloader, ReloadGauges
from deploy.logs import LogWriter, capture_standard_logging
from ingest import app, settings
from ingest.accounts_in_use import AccountsInUse, KeyedAccount
from ingest.clock import SystemClock
from ingest.keys import Key, KeyRing
from ingest.metrics import ReceiverMetrics
from ingest.recent_refusals import RecentRefusals
from schemas.accounts import Account
from schemas.record_format import Record


class MemoryLog:
    """A log that is durable by decree."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def append(self, record: Record) -> None:
        self.records.append(record)


class Vouching:
    """notify_verify that confirms everything."""

    async def confirm(self, account: Account, notify_id: bytes) -> None:
        """Nothing to ask."""


class Panic(BaseException):
    """The panic of a library in C or Rust; deliberately no `Exception`."""


class Stumbler:
    """A public key whose verifier is out of order."""

    def verify(self, *_: object) -> None:
        raise Panic("the verifier is out of order")


def _let_stumble(in_use: AccountsInUse, name: str) -> None:
    key = Key("stumbler", cast(Any, Stumbler()))
    account = in_use[name]
    in_use.replace({**in_use.keyed, name: KeyedAccount(account, KeyRing(name, account.sign_type, (key,)))})


class Outbound:
    """Every address that this process looked up or wanted to connect to."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            self.wanted.append(f"{event} {arguments[1:]}")


class Text:
    """Where the log lines go: memory."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


class Window:
    """Shows the process from inside."""

    def __init__(
        self, log: MemoryLog, text: Text, registry: CollectorRegistry, recent: RecentRefusals, outbound: Outbound
    ) -> None:
        self._log, self._text, self._registry, self._recent = log, text, registry, recent
        self._outbound = outbound
        self._process = psutil.Process()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(self.state(**json.loads(line))).encode() + b"\n")
            await writer.drain()
        writer.close()

    def state(self, *, records_from: int, log_from: int) -> dict[str, Any]:
        times = self._process.cpu_times()
        samples = [line.rsplit(" ", 1) for line in self._metrics().splitlines() if line and line[0] != "#"]
        return {
            "records": [_shown(record) for record in self._log.records[records_from:]],
            "records_count": len(self._log.records),
            "log": self._text.written[log_from:],
            "log_size": len(self._text.written),
            "samples": {name: float(value) for name, value in samples},
            "metrics": self._metrics(),
            "reasons": [refused.reason.value for refused in self._recent.all()[-5:]],
            "rss": self._process.memory_info().rss,
            "cpu_s": times.user + times.system,
            "files": self._process.num_fds(),
            "outbound": list(self._outbound.wanted),
        }

    def _metrics(self) -> str:
        return generate_latest(self._registry).decode()


def _shown(record: Record) -> dict[str, Any]:
    return {
        "key": record.key.decode("utf-8", "backslashreplace"),
        "value": base64.b64encode(record.value).decode(),
        "headers": {name: value.decode("utf-8", "backslashreplace") for name, value in record.headers},
    }


async def main(path: Path) -> None:
    settings_ = settings.load(os.environ, accounts=str(path))
    reloader = AccountsReloader(path)
    if os.environ.get("SUITE_STUMBLES"):
        _let_stumble(reloader.in_use, os.environ["SUITE_STUMBLES"])
    registry, recent, log, text = CollectorRegistry(), RecentRefusals(), MemoryLog(), Text()
    lines = LogWriter(text, queue_max=100_000)
    capture_standard_logging(lines)
    lines.start()
    outbound = Outbound()
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(
            app.serving(
                settings=settings_,
                accounts=reloader.in_use,
                log=log,
                logger=lines,
                metrics=ReceiverMetrics(registry),
                recent=recent,
                confirm=None if os.environ.get("SUITE_ASKS") else Vouching(),
            )
        )
        gauges = ReloadGauges(registry, SystemClock())
        running = reloader.run(gauges=gauges, logger=lines, interval_s=settings_.key_reload_interval_s)
        reloading = asyncio.create_task(running)
        stack.callback(reloading.cancel)
        window = await asyncio.start_server(Window(log, text, registry, recent, outbound).serve, "127.0.0.1", 0)
        print(json.dumps({"public": receiver.port, "window": window.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        window.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
