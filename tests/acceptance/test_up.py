"""The engine as a stranger meets it: started by environment, driven over HTTP, stopped by signals."""

import asyncio
import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec
import pytest

from deploy.sandbox import planning, scenario_files
from deploy.sandbox.notifications import SignedDelivery
from deploy.sandbox.world import World
from tests.acceptance import dumps
from tests.support.paths import ROOT
from tests.support.processes import Engine, eventually


def post(engine: Engine, delivery: SignedDelivery) -> tuple[int, bytes]:
    """One delivery to the public port; the answer's status and body."""
    address = urlsplit(engine.public)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    try:
        connection.request("POST", delivery.path, delivery.body, dict(delivery.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def deliveries(world: World, name: str, account: str, order: str) -> list[SignedDelivery]:
    """What Alipay sends in a scenario, in its order."""
    courses = planning.Planner(Random(1)).plan(
        scenario_files.load_all()[name],
        world.account(account),
        now=datetime.now(UTC),
        base_url="http://127.0.0.1:1",
        wishes=planning.Wishes(order=order),
    )
    now = datetime.now(UTC)
    return [planned.job.notification.delivery(now) for course in courses for planned in course.steps]


def state(engine: Engine, account: str, order: str) -> dict[str, Any]:
    status, answer = engine.get(f"/api/orders/{account}/{order}")
    return answer if status == 200 else {}


def test_payment_is_answered_applied_and_shown(world: World, engine: Engine) -> None:
    engine.start()
    (paid,) = deliveries(world, "paid", "demo-cn", "UP-1")

    assert post(engine, paid) == (200, b"success")
    order = eventually(lambda: state(engine, "demo-cn", "UP-1"))

    assert order["status"] == "PAID"
    assert order["version"] == 1
    assert order["flags"] == []
    (told,) = [entry for entry in order["timeline"] if entry["kind"] == "notification"]
    assert (told["disposition"], told["reason"]) == ("applied", "changed")
    assert engine.stop() == 0


def with_event(url: str) -> str:
    """The page, once an event has been sent."""
    with urlopen(url, timeout=30) as answer:
        page: str = answer.read().decode()
    return page if "order.paid" in page else ""


def with_partition(engine: Engine) -> dict[str, Any]:
    """The engine's state, once it has looked at its journal."""
    _, process = engine.get("/api/process")
    return process if process["partitions"] else {}


def test_engine_shows_itself_and_what_it_has_just_done(world: World, engine: Engine) -> None:
    engine.start()
    (paid,) = deliveries(world, "paid", "demo-cn", "UP-9")
    assert post(engine, paid) == (200, b"success")
    forged = msgspec.structs.replace(paid, body=paid.body.replace(b"UP-9", b"UP-8"))
    assert post(engine, forged)[0] == 401
    eventually(lambda: state(engine, "demo-cn", "UP-9"))

    page = eventually(lambda: with_event(f"{engine.admin}/tail"))
    process = eventually(lambda: with_partition(engine))

    assert process["identity"]["role"] == "engine"
    assert [each["partition"] for each in process["partitions"]] == ["0"]
    counted = process["counts"]
    assert (counted["accepted"], counted["refused"], counted["applied"]) == (1, 1, 1)
    assert [each["order"] for each in process["refused"]] == ["UP-8"]
    assert all(part in page for part in ("settled", "refused", "/orders/demo-cn/UP-8"))
    assert engine.stop() == 0


def test_antom_is_answered_in_its_own_words(world: World, engine: Engine) -> None:
    engine.start()
    (paid,) = deliveries(world, "paid", "demo-antom", "UP-2")

    status, body = post(engine, paid)

    assert status == 200
    assert json.loads(body)["result"]["resultStatus"] == "S"
    eventually(lambda: state(engine, "demo-antom", "UP-2").get("status") == "PAID")


def test_payment_waits_for_its_registration_and_is_applied_with_it(tmp_path: Path, world: World) -> None:
    text = world.accounts_file.read_text()
    at = text.index("[accounts.demo-cn]")
    registered = world.accounts_file.with_name("registered.toml")
    registered.write_text(text[:at] + text[at:].replace('orders = "any"', 'orders = "registered"', 1))
    engine = Engine(registered, tmp_path / "engine")
    try:
        engine.start()
        (paid,) = deliveries(world, "paid", "demo-cn", "UP-3")
        assert post(engine, paid) == (200, b"success")
        waiting = eventually(lambda: state(engine, "demo-cn", "UP-3"))
        assert (waiting["status"], waiting["version"]) == (None, 0)
        assert waiting["timeline"][0]["disposition"] == "parked"

        with ThreadPoolExecutor(1) as pool:
            polled = pool.submit(engine.get, "/api/orders/demo-cn/UP-3?wait=20s&version=0")
            time.sleep(0.2)
            status, _ = engine.put("/api/orders/demo-cn/UP-3", {"amount": "12.80", "currency": "CNY"})
            assert status in (200, 201)
            _, told = polled.result(timeout=20)

        assert told["version"] >= 1 or state(engine, "demo-cn", "UP-3")["version"] == 1
        eventually(lambda: state(engine, "demo-cn", "UP-3")["status"] == "PAID")
    finally:
        engine.end()


def test_wrong_amount_is_quarantined_and_listed_as_held(world: World, engine: Engine) -> None:
    engine.start()
    engine.put("/api/orders/demo-cn/UP-4", {"amount": "99.00", "currency": "CNY"})
    (paid,) = deliveries(world, "paid", "demo-cn", "UP-4")

    assert post(engine, paid) == (200, b"success")
    order = eventually(lambda: (found := state(engine, "demo-cn", "UP-4")).get("version") and found)

    assert order["status"] == "WAITING"
    assert order["flags"] == ["amount_mismatch"]
    _, held = engine.get("/api/held?reason=amount_mismatch")
    (row,) = held["held"]
    assert row["order"] == "UP-4"
    status, _ = engine.post(f"/api/held/{row['id']}/discard", {"reason": "agreed with the shop", "by": "test"})
    assert status == 200
    assert engine.get("/api/held")[1]["held"] == []


def test_refused_request_leaves_only_a_line_in_the_timeline(world: World, engine: Engine) -> None:
    engine.start()
    (forged, *_) = deliveries(world, "forged_signature", "demo-cn", "UP-5")

    assert post(engine, forged)[0] == 401
    order = eventually(lambda: state(engine, "demo-cn", "UP-5"))

    assert order["status"] is None
    (refused,) = order["timeline"]
    assert (refused["kind"], refused["delivery"], refused["is_accepted"]) == ("refused", 1, False)
    came, next_, last = [datetime.fromisoformat(refused[name]) for name in ("at", "next_at", "gives_up_at")]
    assert (next_ - came, last - came) == (timedelta(minutes=4), timedelta(hours=24, minutes=24))


def test_restart_continues_where_the_last_run_ended(world: World, engine: Engine) -> None:
    engine.start()
    (paid, *_) = deliveries(world, "paid", "demo-cn", "UP-6")
    assert post(engine, paid) == (200, b"success")
    engine.kill()
    engine.start()

    order = eventually(lambda: state(engine, "demo-cn", "UP-6"))
    assert order["status"] == "PAID"
    assert post(engine, paid) == (200, b"success")
    eventually(
        lambda: (
            [entry["disposition"] for entry in state(engine, "demo-cn", "UP-6")["timeline"] if "disposition" in entry]
            == ["applied", "duplicate"]
        )
    )
    assert engine.stop() == 0


def test_second_engine_on_the_same_files_is_refused_naming_the_first(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    engine.start()
    second = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "up", "--accounts", world.accounts_file, "--data-dir",
         tmp_path / "engine", "--port", "0", "--admin-port", "0"],
        capture_output=True, text=True, timeout=30, check=False, cwd=ROOT,
    )  # fmt: skip
    assert second.returncode == 1
    assert str(engine.pid) in second.stderr


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("family", "family must be one of"),
        ("keys", "does not exist"),
    ],
)
def test_faulty_account_prevents_the_start_and_is_named(world: World, tmp_path: Path, broken: str, said: str) -> None:
    accounts = world.accounts_file.with_name("faulty.toml")
    text = world.accounts_file.read_text()
    faulty = {"family": text.replace('family = "openapi"', 'family = "paypal"'), "keys": text.replace(".pem", ".gone")}
    accounts.write_text(faulty[broken])

    refused = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "up", "--accounts", accounts, "--data-dir", tmp_path / "engine"],
        capture_output=True, text=True, timeout=30, check=False, cwd=ROOT,
    )  # fmt: skip

    assert refused.returncode == 1
    assert "account demo-cn" in refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_sigterm_under_load_drops_no_answer(world: World, engine: Engine, tmp_path: Path) -> None:
    """Open requests are finished: every written record was answered.

    A connection that the kernel accepted and the receiver has not read may be reset when the port closes.
    """
    engine.start()
    (paid,) = deliveries(world, "paid", "demo-cn", "UP-7")
    answers: list[bool] = []

    def send_on() -> None:
        while True:
            try:
                answers.append(post(engine, paid) == (200, b"success"))
            except (ConnectionRefusedError, ConnectionResetError):
                return

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send_on) for _ in range(4)]
        await asyncio.sleep(1.0)
        assert await asyncio.to_thread(engine.stop) == 0
        for sender in senders:
            sender.result(timeout=10)
    assert len(answers) > 20
    assert all(answers)
    assert len(dumps.of_files(tmp_path / "engine").bodies) == len(answers)
