"""A merchant compares Alipay's bill with a real engine, with the commands, over a SIGKILL."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from deploy.sandbox import planning, scenario_files
from deploy.sandbox.world import World
from schemas import times
from tests.acceptance.test_up import post, state
from tests.support import bills
from tests.support.bills import trade_bill, trade_row
from tests.support.paths import ROOT
from tests.support.processes import Engine, eventually

ACCOUNT = "demo-cn"


def bill(engine: Engine, *arguments: str, given: bytes = b"") -> tuple[int, Any]:
    """Run `alipay-notify bill`; its exit code, and its JSON or what it wrote as an error."""
    command = [sys.executable, "-m", "deploy.cli.main", "bill", *arguments, "--admin", engine.admin, "--output", "json"]
    ended = subprocess.run(command, input=given, capture_output=True, cwd=ROOT, timeout=120, check=False)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else ended.stderr.decode()


def paid(engine: Engine, world: World, number: str) -> dict[str, Any]:
    """Deliver the notification of a payment, with numbers of its own; the order."""
    planner = planning.Planner(Random(number))
    wishes = planning.Wishes(order=number)
    scenario, now = scenario_files.load_all()["paid"], datetime.now(UTC)
    (course,) = planner.plan(scenario, world.account(ACCOUNT), now=now, base_url="http://127.0.0.1:1", wishes=wishes)
    (planned,) = course.steps
    delivery = planned.job.notification.delivery(now)
    assert post(engine, delivery) == (200, b"success")
    found: dict[str, Any] = eventually(lambda: state(engine, ACCOUNT, number))
    return found


def test_bill_is_compared_and_its_report_outlives_a_kill(tmp_path: Path, world: World, engine: Engine) -> None:
    engine.start()
    same, cheap = paid(engine, world, "SAME-1"), paid(engine, world, "CHEAP-1")
    paid(engine, world, "MINE-1")
    now = datetime.now(UTC).astimezone(times.BEIJING)
    at = now.strftime("%Y-%m-%d %H:%M:%S")
    rows = [
        trade_row("SAME-1", same["amount"], trade=same["trade"], at=at),
        trade_row("CHEAP-1", "0.01", trade=cheap["trade"], at=at),
        trade_row("THEIRS-1", "9.90", trade="2088000000000000000000000001", at=at),
    ]
    seller = world.account(ACCOUNT).identity.seller_id
    detail = trade_bill(rows, merchant=seller, day=now.strftime("%Y年%m月%d日"), until="2099年01月01日").encode("gbk")
    file = bills.archive(tmp_path / "bill.zip", detail=detail)

    code, result = bill(engine, "import", str(file), "--account", ACCOUNT)

    assert code == 3, result
    found = {each["order"]: each["kind"] for each in result["differences"]}
    only_here = found.pop("MINE-1")  # near midnight in China it cannot be decided
    assert only_here in ("payment_only_here", "uncertain")
    assert found == {"CHEAP-1": "payment_amount", "THEIRS-1": "payment_only_in_bill"}
    assert state(engine, ACCOUNT, "SAME-1")["version"] == same["version"]
    assert state(engine, ACCOUNT, "THEIRS-1") == {}

    engine.kill()
    engine.start()
    number = result["import"]["number"]
    assert [each["number"] for each in bill(engine, "list")[1]["imports"]] == [number]
    code, again = bill(engine, "import", "-", "--account", ACCOUNT, given=file.read_bytes())
    assert (code, again["replaces"] is not None) == (3, True)
    assert [each["number"] for each in bill(engine, "list")[1]["imports"]] == [again["import"]["number"]]

    other = trade_bill(rows[:1], merchant="2088999999999999").encode("gbk")
    code, refused = bill(engine, "import", "-", "--account", ACCOUNT, given=other)
    assert (code, "2088999999999999" in str(refused)) == (2, True)
