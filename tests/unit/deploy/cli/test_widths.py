"""Every table of every command, with long numbers, large amounts and Chinese, in narrow terminals and in pipes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from rich.cells import cell_len
from typer.testing import Result

from deploy.cli import topics
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.topic_diff import AddPartitions, ApplyOutcome, ApplyReport, ByHand
from tests.support.admin import NOW_MS, Refused, form
from tests.support.bills import bill_in_dollars
from tests.unit.deploy.cli import admin_server
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, run
from workers.callbacks.schedule import EndpointState

PAID, HELD = "PAID-" + "1234567890" * 5, "HELD-" + "0987654321" * 5
AMOUNT, SUBJECT = "88888888.88", "演唱会门票（内场）两张，请勿转让给他人"
WHY = "买家用了优惠券，金额以支付宝账单为准，门店已经打电话确认过，不需要再退款；the shop has confirmed it by phone"
HAN = "\u3400-\u9fff"
WORD = re.compile(rf"[^\s{HAN}]+")

OF_SERVER = (
    ("order", "show", PAID),
    ("order", "show", HELD),
    ("find", PAID),
    ("find", f"20251009{PAID}"),
    ("held", "list"),
    ("held", "list", "--resolved"),
    ("held", "show", "0-1"),
    ("held", "tasks"),
    ("held", "tasks", "show", "1"),
    ("held", "replay", "--reason", "amount_mismatch"),
    ("audit",),
    ("callbacks", "list"),
    ("callbacks", "deliveries", "hooks"),
    ("bill", "list"),
    ("bill", "show", "1"),
)
LOCAL = (
    ("keys", "list"),
    ("keys", "check"),
    ("config", "show"),
    ("trigger", "--list"),
    ("topics", "plan"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has something to show in each table."""
    with admin_server.running() as running:
        _fill(running, tmp_path_factory.mktemp("bills") / "账单-20251009.csv")
        yield running


def _fill(server: Server, bill: Path) -> None:
    world = server.world
    against(server, "order", "register", HELD, "--account", "shop", "--amount", "99999999.99")
    for order in (HELD, PAID, PAID):
        server.do(world.deliver(form(order, total_fee=AMOUNT, subject=SUBJECT)))
    parked = server.do(world.deliver(form("B1", subject=SUBJECT), "strict"))
    against(server, "held", "discard", str(parked), "--reason", WHY)
    world.refusals.requests.append(Refused("shop", PAID, "bad_signature", notification_id="n" * 64))
    against(server, "held", "replay", "--all", "--yes", "--no-wait", "--why", WHY)
    bill.write_bytes(bill_in_dollars((PAID, {"amount": "1.00", "subject": SUBJECT}), ("ONLY-" + "7" * 50, {})))
    against(server, "bill", "import", str(bill), "--account", "shop")
    state = EndpointState(disabled_at_ms=NOW_MS, disabled_why=WHY)
    url = f"https://shop.example.com/{'callbacks/' * 6}of-alipay"
    world.callbacks.page = structs.replace(world.callbacks.page, url=url, state=state)
    world.callbacks.log = [
        structs.replace(row, event_id=f"shop:{PAID}:{row.number}", detail="证书已过期，请先更换证书再启用这个地址")
        for row in world.callbacks.log
    ]


def too_wide(text: str, width: int) -> list[str]:
    """Return the lines that are wider than the terminal; one word alone may be."""
    return [line for line in text.splitlines() if cell_len(line) > width and len(line.split()) > 1]


def numbers(text: str) -> set[str]:
    """Return the words with a digit, which people copy."""
    return {word for word in WORD.findall(text) if any(map(str.isdigit, word))}


def check(narrow: Result, piped: Result, width: int) -> None:
    assert narrow.exit_code == piped.exit_code, narrow.output
    assert too_wide(narrow.stdout, width) == []
    assert numbers(piped.stdout) - numbers(narrow.stdout) == set(), narrow.stdout


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", OF_SERVER, ids=" ".join)
def test_tables_of_a_server_fit_and_fold_no_number(server: Server, command: tuple[str, ...], width: int) -> None:
    piped = against(server, *command, columns=None)
    assert piped.stdout, piped.stderr
    check(against(server, *command, columns=width), piped, width)


@pytest.mark.parametrize("command", OF_SERVER, ids=" ".join)
def test_json_is_valid_and_has_the_exit_code_of_the_table(server: Server, command: tuple[str, ...]) -> None:
    table, as_json = against(server, *command), against(server, *command, "--output", "json", columns=40)
    assert (json.loads(as_json.stdout) != {}, as_json.exit_code) == (True, table.exit_code)


def test_row_of_a_pipe_is_one_line_with_all_its_cells(server: Server) -> None:
    piped = against(server, "held", "list", columns=None).stdout
    (row,) = [line for line in piped.splitlines() if HELD in line]
    assert all(part in row for part in (f"{AMOUNT} USD", "quarantined", "amount_mismatch", "99999999.99", "0-1"))


@pytest.fixture
def differing_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "payments.alipay.notification.v1"
    how = "kafka-reassign-partitions.sh --bootstrap-server k1:9092 --reassignment-json-file 方案.json --execute"
    reports = [
        ApplyReport(
            difference=AddPartitions(name=name, now=3, wanted=12),
            outcome=ApplyOutcome.FAILED,
            detail="权限不足：" + WHY,
        ),
        ApplyReport(
            difference=ByHand(name=name, setting="replicas", now="1", wanted="3", how=how), outcome=ApplyOutcome.BY_HAND
        ),
    ]

    async def compare(settings: ClusterSettings, *, yes: bool) -> list[ApplyReport]:
        return reports

    monkeypatch.setattr(topics, "_compare", compare)


@pytest.mark.usefixtures("differing_topics")
@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", LOCAL, ids=" ".join)
def test_other_tables_fit_and_fold_no_number(environ: dict[str, str], command: tuple[str, ...], width: int) -> None:
    piped = run(environ | {"COLUMNS": None}, *command)
    assert piped.stdout, piped.stderr
    check(run(environ | {"COLUMNS": str(width)}, *command), piped, width)


@pytest.mark.parametrize("width", [60, 80])
def test_findings_of_doctor_fit(environ: dict[str, str], width: int) -> None:
    findings = run(environ | {"COLUMNS": str(width)}, "doctor")
    assert (findings.exit_code, too_wide(findings.stdout, width)) == (0, [])
