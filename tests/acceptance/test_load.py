"""`alipay-notify load` against a running engine: it passes where all is well, and fails where one order is not.

A verification that cannot fail proves nothing, so the same run is judged against a store in which one thing was changed
behind its back, and across a kill.
"""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.sandbox.world import World
from tests.support.paths import ROOT
from tests.support.processes import Engine, eventually

ENOUGH = 60  # orders, of the two hundred or so that a run has


def command(world: World, engine: Engine, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "deploy.cli.main", "load", "--sandbox", str(world.directory), "--to", engine.public,
        "--admin", engine.admin, "--rate", "150", "--duration", "4s", "--duplicates", "0.2", "--lifecycles", "0.6",
        "--forgeries", "0.05", "--output", "json", *more,
    ]  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, 3), err
    told: dict[str, Any] = json.loads(out)
    return process.returncode, told


@contextmanager
def loading(world: World, engine: Engine, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(world, engine, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def settled_orders(engine: Engine) -> int:
    _, told = engine.get("/api/orders?limit=1000")
    return len(told["orders"])


def test_run_against_a_sound_engine_passes_with_every_check(world: World, engine: Engine) -> None:
    engine.start()
    with loading(world, engine, "--processes", "2") as process:
        code, told = ended(process)
    assert (code, told["passed"], told["first_findings"]) == (0, True, [])
    assert told["calls"] == 600
    assert told["told"]["forged"] == told["refused_by_status"]["401"] == 30
    looked = told["verification"]
    assert looked["records"] == told["answers"]["ok"] == 570
    assert looked["orders"] >= told["told"]["orders"]
    assert looked["events"] >= told["told"]["orders"]


def test_second_run_against_the_same_engine_is_judged_alone(world: World, engine: Engine) -> None:
    engine.start()
    for _ in range(2):
        with loading(world, engine, "--duration", "1s") as process:
            code, told = ended(process)
        assert code == 0, told["first_findings"]
        assert told["verification"]["events"] < 300


# Changes to the rows of the run, and the finding that each must cause. No later event of the run may overwrite them: so
# a FINISHED order, or a row of its own.
TAMPERING = {
    "a state that is another": (
        "UPDATE orders SET status = 'WAITING' WHERE order_number = "
        "(SELECT min(order_number) FROM orders WHERE status = 'FINISHED')",
        "wrong",
    ),
    "a notification that is gone": (
        "DELETE FROM deliveries WHERE log_offset = "
        "(SELECT min(log_offset) FROM deliveries WHERE disposition = 'duplicate')",
        "lost",
    ),
    "an event that is gone": ("DELETE FROM outbox WHERE number = (SELECT min(number) FROM outbox)", "missing_event"),
}


@pytest.mark.parametrize("defect", TAMPERING)
def test_one_changed_value_in_the_store_fails_the_run(
    world: World, engine: Engine, tmp_path: Path, defect: str
) -> None:
    statement, name = TAMPERING[defect]
    engine.start()
    with (
        tampering(engine, tmp_path / "engine" / "orders.sqlite3", statement),
        loading(world, engine, "--verify-within", "6s") as process,
    ):
        code, told = ended(process)
    assert (code, told["passed"]) == (3, False), told
    assert told["findings"][name] >= 1
    assert any(finding["what"] == name and finding["order"] for finding in told["first_findings"])


@contextmanager
def tampering(engine: Engine, store: Path, statement: str) -> Iterator[None]:
    """Change the store once the run's first orders are in it, so that the changed order is of this run."""
    over = threading.Event()

    def tamper() -> None:
        while not over.wait(0.2):
            if settled_orders(engine) > ENOUGH and changed(store, statement):
                return

    thread = threading.Thread(target=tamper)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def changed(store: Path, statement: str) -> bool:
    """Whether there was such a thing to change already."""
    connection = sqlite3.connect(store, timeout=10)
    try:
        with connection:
            return connection.execute(statement).rowcount == 1
    finally:
        connection.close()


def test_run_across_a_kill_loses_no_acknowledged_notification(world: World, engine: Engine) -> None:
    # The ports stay the same over the restart, as behind a load balancer.
    engine.start()
    ports = {"ALIPAY_NOTIFY_PORT": port_of(engine.public), "ALIPAY_NOTIFY_ADMIN_PORT": port_of(engine.admin)}
    with loading(world, engine, "--retry", "--retry-for", "30s") as process:
        eventually(lambda: settled_orders(engine) > 50, within_s=30)
        engine.kill()
        time.sleep(0.5)
        engine.start(**ports)
        code, told = ended(process)
    assert (code, told["first_findings"]) == (0, [])
    assert told["silent_by_cause"], "the kill has to have been felt"
    assert told["repeats"] > 0
    assert told["answers"]["ok"] == told["told"]["new"] + told["told"]["duplicates"]


def port_of(url: str) -> str:
    return url.rpartition(":")[2]
