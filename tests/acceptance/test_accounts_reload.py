"""Accounts and keys are added, changed, spoilt and removed in files while notifications arrive: no good one is refused.

One engine with one file of accounts. A steady stream of notifications for one account runs through every test.
"""

import asyncio
import http.client
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.embedded import directory
from schemas import record_format
from schemas.record_format import RecordContents
from tests.support import alipay
from tests.support.processes import Engine, eventually

WITHIN_S = 5.0
APP = "2021000000000001"
OK = "alipay_notify_accounts_last_reload_successful"
AT = "alipay_notify_accounts_last_reload_success_timestamp_seconds"
FAULTY = "accounts not reloaded, the old ones stay in use"
MENDED = "accounts reloaded, all files are valid again"
STEADY = "steady"


def table(name: str, *keys: str) -> str:
    listed = ", ".join(f'"{key}.pem"' for key in keys)
    return f'[accounts.{name}]\nfamily = "openapi"\nsign_type = "RSA2"\napp_id = "{APP}"\nkeys = [{listed}]\n'


class Merchant:
    """The engine, the merchant's files, and Alipay's hand."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.file = directory / "accounts.toml"
        for key in ("old", "new"):
            (directory / f"{key}.pem").write_bytes(alipay.pem(alipay.rsa_key(key)))
        self.put(table(STEADY, "old"))
        self.engine = Engine(self.file, directory / "engine", **environment)
        self._numbers = itertools.count()

    def put(self, text: str) -> None:
        """Replace the accounts by a rename, as a careful program does."""
        beside = self.directory / "beside.toml"
        beside.write_text(text)
        beside.rename(self.file)

    def body(self, order: str, key: str = "old") -> bytes:
        fields = {
            "notify_type": "trade_status_sync",
            "notify_id": f"{order}-{next(self._numbers)}",
            "notify_time": "2026-11-30 08:00:00",
            "out_trade_no": order,
            "trade_no": f"T-{order}",
            "trade_status": "TRADE_SUCCESS",
            "app_id": APP,
            "total_amount": "12.80",
        }
        return alipay.form(fields, alipay.rsa_key(key), "RSA2")

    def send(self, account: str, order: str, key: str = "old") -> int:
        with self.connected() as opened:
            return opened.post(account, self.body(order, key))

    def until_answered(self, status: int, account: str, order: str, key: str = "old") -> None:
        """Send until it is answered so, which has to be within five seconds."""
        deadline = time.monotonic() + WITHIN_S
        while (answer := self.send(account, order, key)) != status:
            assert time.monotonic() < deadline, f"still {answer}"
            time.sleep(0.05)

    def until_shown(self, good: bool) -> None:
        eventually(lambda: self.engine.metrics()[OK] == good)

    def check(self) -> tuple[int, bool, str]:
        """The status of /readyz, and its check of the accounts."""
        status, answer = self.engine.get("/readyz?verbose")
        (found,) = [each for each in answer["checks"] if each["name"] == "accounts"]
        return status, found["ok"], found["detail"]

    def logged(self, event: str) -> int:
        return self.engine.log.read_text().count(event)

    def connected(self) -> "Connected":
        address = urlsplit(self.engine.public)
        return Connected(http.client.HTTPConnection(str(address.hostname), address.port, timeout=10))


class Connected:
    """One kept connection to the public port."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> "Connected":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, account: str, body: bytes) -> int:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", f"/notify/{account}", body, headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


class Stream:
    """Sends notifications of the steady account one after the other until the block ends."""

    def __init__(self, merchant: Merchant) -> None:
        self.answers: list[int] = []
        self._merchant = merchant
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        with self._merchant.connected() as opened:
            while not self._over.is_set():
                order = f"S{len(self.answers)}"
                self.answers.append(opened.post(STEADY, self._merchant.body(order)))


@pytest.fixture
def merchant(tmp_path: Path) -> Iterator[Merchant]:
    merchant = Merchant(tmp_path)
    with merchant.engine:
        yield merchant


@pytest.fixture
def stream(merchant: Merchant) -> Iterator[Stream]:
    """All that it sends in the test is accepted, and is applied in the end."""
    with Stream(merchant) as stream:
        yield stream
    assert len(stream.answers) > 50
    assert set(stream.answers) == {200}
    last = f"/api/orders/{STEADY}/S{len(stream.answers) - 1}"
    eventually(lambda: merchant.engine.get(last)[0] == 200)
    assert merchant.engine.get(f"/api/held?account={STEADY}")[1]["held"] == []


def test_accounts_and_keys_come_and_go_without_a_refused_request(merchant: Merchant, stream: Stream) -> None:
    assert merchant.send("second", "A") == 404
    assert merchant.engine.put("/api/orders/second/A", {"amount": "12.80"})[0] == 404
    merchant.put(table(STEADY, "old") + table("second", "old"))
    merchant.until_answered(200, "second", "A")
    eventually(lambda: merchant.engine.get("/api/orders/second/A")[1].get("status") == "PAID")
    assert merchant.engine.put("/api/orders/second/A", {"amount": "12.80"})[0] in (200, 201)
    accepted = 'alipay_notify_received_total{account="second",outcome="accepted"}'
    assert merchant.engine.metrics()[accepted] == 1

    assert merchant.send("second", "B", "new") == 401
    merchant.put(table(STEADY, "old") + table("second", "old", "new"))
    merchant.until_answered(200, "second", "B", "new")
    assert merchant.send("second", "C") == 200
    merchant.put(table(STEADY, "old") + table("second", "new"))
    merchant.until_answered(401, "second", "D")
    assert merchant.send("second", "E", "new") == 200

    merchant.put(table(STEADY, "old"))
    merchant.until_answered(404, "second", "F", "new")
    assert merchant.engine.put("/api/orders/second/A", {"amount": "12.80"})[0] == 404
    assert merchant.engine.get("/api/orders/second/A")[1]["status"] == "PAID", "a removed account's orders are shown"
    eventually(lambda: merchant.logged("accounts reloaded") == 4)  # a thread writes the log


def test_faulty_files_keep_the_old_accounts_and_say_every_fault(merchant: Merchant, stream: Stream) -> None:
    assert merchant.check() == (200, True, "")
    loaded_at = merchant.engine.metrics()[AT]
    merchant.put(table(STEADY, "absent") + table("second", "old", "missing") + "colour = 1\n[accounts.th")
    merchant.until_shown(good=False)
    status, is_good, detail = merchant.check()
    assert (status, is_good) == (200, False)
    assert "is not TOML" in detail
    merchant.put(table(STEADY, "absent") + table("second", "old", "missing"))
    eventually(lambda: "absent.pem does not exist" in merchant.check()[2])
    assert "missing.pem does not exist" in merchant.check()[2]
    assert merchant.send("second", "A") == 404
    assert merchant.send(STEADY, "A") == 200
    time.sleep(3 * WITHIN_S / 2)  # several looks, which log nothing
    assert merchant.logged(FAULTY) == 2
    assert merchant.engine.metrics()[AT] == loaded_at

    merchant.put(table(STEADY, "old") + table("second", "old"))
    merchant.until_answered(200, "second", "A")
    merchant.until_shown(good=True)
    assert merchant.check() == (200, True, "")
    assert merchant.engine.metrics()[AT] > loaded_at
    eventually(lambda: merchant.logged(MENDED) == 1)


def test_file_written_in_place_piece_by_piece_removes_no_account(merchant: Merchant, stream: Stream) -> None:
    merchant.put(table("first", "old") + table(STEADY, "old"))
    merchant.until_answered(200, "first", "A")
    for _ in range(3):
        with merchant.file.open("w") as opened:
            for part in (table("first", "new"), "\n", "\n", table(STEADY, "old")):
                opened.write(part)
                opened.flush()
                time.sleep(0.1)
        merchant.until_answered(200, "first", "B", "new")
        merchant.file.write_text("")
        merchant.until_shown(good=False)
        assert "no [accounts.NAME] table" in merchant.check()[2]
        merchant.put(table("first", "old") + table(STEADY, "old"))
        merchant.until_answered(200, "first", "C")


def test_deleted_key_file_keeps_the_key_until_it_leaves_the_list(merchant: Merchant, stream: Stream) -> None:
    merchant.put(table(STEADY, "old", "new"))
    merchant.until_answered(200, STEADY, "A", "new")
    (merchant.directory / "new.pem").unlink()
    merchant.until_shown(good=False)
    assert merchant.send(STEADY, "B", "new") == 200
    merchant.put(table(STEADY, "old"))
    merchant.until_answered(401, STEADY, "C", "new")
    merchant.until_shown(good=True)


def test_sighup_reloads_at_once(tmp_path: Path) -> None:
    merchant = Merchant(tmp_path, ALIPAY_NOTIFY_KEY_RELOAD_INTERVAL_S="3600")
    with merchant.engine:
        with Stream(merchant) as stream:
            merchant.put(table(STEADY, "old") + table("second", "old"))
            os.kill(merchant.engine.pid, signal.SIGHUP)
            merchant.until_answered(200, "second", "A")
        assert set(stream.answers) == {200}
        assert merchant.engine.stop() == 0


def append(merchant: Merchant, orders: list[str]) -> None:
    """Put records of the second account into the journal, as an engine that ended right after `success` leaves them."""

    async def work() -> None:
        async with directory.open_files(merchant.directory / "engine", now_ms=lambda: int(time.time() * 1000)) as files:
            for order in orders:
                contents = RecordContents(
                    account="second",
                    family="openapi",
                    received_at_ms=int(time.time() * 1000),
                    path=b"/notify/second",
                    content_type=b"application/x-www-form-urlencoded",
                    key_id="old.pem",
                    confirmed=False,
                    body=merchant.body(order),
                )
                await files.journal.append(record_format.encode(contents, order))

    (merchant.directory / "engine").mkdir(mode=0o700)
    asyncio.run(work())


def test_records_of_a_removed_account_wait_for_its_return_and_stop_nothing(tmp_path: Path) -> None:
    merchant = Merchant(tmp_path)
    orders = [f"R{number}" for number in range(40)]  # twice as many as the dead letters that stop a worker
    append(merchant, orders)
    with merchant.engine:
        assert merchant.send(STEADY, "A") == 200
        eventually(lambda: merchant.engine.get(f"/api/orders/{STEADY}/A")[0] == 200)
        held = merchant.engine.get("/api/held?limit=500")[1]["held"]
        assert [(each["disposition"], each["reason"]) for each in held] == [("parked", "unknown_account")] * 40
        assert merchant.check() == (200, True, "")
        merchant.put(table(STEADY, "old") + table("second", "old"))
        for order in orders:
            page = f"/api/orders/second/{order}"
            eventually(lambda page=page: merchant.engine.get(page)[1].get("status") == "PAID")
        assert merchant.engine.get("/api/held")[1]["held"] == []
