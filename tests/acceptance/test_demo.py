"""The demo after its start: its output, and the result of each scenario."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner

from deploy.cli import main
from deploy.sandbox import scenario_files
from tests.support.processes import Demo, eventually


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "here"


@pytest.fixture(scope="module")
def demo(directory: Path) -> Iterator[Demo]:
    demo = Demo(directory)
    try:
        yield demo
    finally:
        code = demo.stop()
    assert code == 0


def order(demo: Demo, number: str) -> Any:
    with urlopen(f"{demo.addresses['admin']}/api/find?number={number}", timeout=10) as answer:
        matches = json.load(answer)["matches"]
    if not matches:
        return None
    with urlopen(f"{demo.addresses['admin']}/api/orders/{matches[0]['account']}/{number}", timeout=10) as answer:
        return json.load(answer)


def test_demo_prints_its_addresses_in_lines_of_eighty_columns(demo: Demo) -> None:
    log = eventually(lambda: "Ctrl-C ends it" in demo.log() and demo.log())
    output = "\n".join(line for line in log.splitlines() if not line.startswith("{"))
    for name in ("shop", "admin", "sandbox"):
        assert demo.addresses[name] in output
    assert "see it turn PAID" in output
    commands = [line for line in output.splitlines() if line.startswith("  alipay-notify ")]
    assert len(commands) == 2
    assert all(len(line) <= 80 for line in output.splitlines() if line not in commands)


@pytest.mark.parametrize("name", sorted(scenario_files.load_all()))
def test_every_scenario_gets_its_expected_answers(demo: Demo, directory: Path, name: str) -> None:
    played = CliRunner().invoke(
        main.application(),
        ["trigger", name, "--dir", f"{directory}/world", "--admin", demo.addresses["admin"], "--order", f"D-{name}"],
    )
    assert played.exit_code == 0, played.output


def test_wrong_amount_leaves_the_order_unpaid_for_an_operator(demo: Demo) -> None:
    shown = eventually(lambda: (found := order(demo, "D-wrong_amount")) and found["flags"] and found)
    assert (shown["status"], shown["amount"], shown["flags"]) == ("WAITING", "12.80", ["amount_mismatch"])


def test_batch_refund_finds_its_order_by_the_trade(demo: Demo) -> None:
    shown = eventually(lambda: (found := order(demo, "D-batch_refund")) and found["refunded_minor"] and found)
    assert (shown["refunded_minor"], shown["flags"]) == (640, [])


def test_shop_of_a_demo_whose_operators_have_tokens_sells(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# those of today\nalice: {'a' * 32}\nbob: {'b' * 32}\n")
    demo = Demo(tmp_path / "here", ALIPAY_NOTIFY_ADMIN_TOKEN_FILE=str(tokens))
    try:
        with urlopen(Request(f"{demo.addresses['shop']}/pay", method="POST"), timeout=20) as cashier:
            assert "/cashier/" in cashier.url
    finally:
        assert demo.stop() == 0
