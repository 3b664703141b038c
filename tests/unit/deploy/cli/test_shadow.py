"""`alipay-notify shadow`: imports, the report in eighty columns, exit codes, and folders that are not its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import main
from deploy.shadow import importing
from schemas.accounts import SignType
from tests.support import alipay
from tests.support.paths import ROOT
from tests.unit.deploy.cli.commands import parsed, run

PAID = {
    "notify_type": "trade_status_sync", "app_id": alipay.APP, "auth_app_id": alipay.APP, "seller_id": alipay.SELLER,
    "notify_time": "2026-11-30 08:00:00", "trade_status": "TRADE_SUCCESS", "total_amount": "12.80",
    "gmt_payment": "2026-11-30 08:00:00",
}  # fmt: skip


class Shop:
    """A folder with accounts.toml, in which the commands run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"ALIPAY_NOTIFY_ACCOUNTS": str(alipay.accounts_file(home))}

    def run(self, *arguments: str, columns: str = "220") -> Result:
        environ = {**self.environ, "COLUMNS": columns}
        return run(environ, "shadow", *arguments, "--dir", str(self.home / "shadow"))

    def file(self, *lines: str) -> str:
        path = self.home / "lines"
        path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
        return str(path)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def line(order: str, *, signer: str = "alipay", **more: Any) -> str:
    fields = PAID | {"out_trade_no": order, "trade_no": f"T-{order}", "notify_id": f"N-{order}"}
    body = alipay.form(fields, alipay.rsa_key(signer), SignType.RSA2.value).decode()
    return json.dumps({"time": "1764500000.0", "status": "200", "account": "shop-cn", "body": body, **more})


def test_lines_that_cannot_be_read_are_named_and_the_others_are_imported(shop: Shop) -> None:
    bad = [f"bad {number}" for number in range(importing.BAD_LINES_NAMED)]
    done = shop.run("import", shop.file(line("A"), "", line("B", account="nowhere"), line("C", account=""), *bad))
    assert done.exit_code == 3
    assert done.stdout.startswith("1 notifications, 0 answers")
    assert "22 lines were left out:" in done.stderr
    assert "line 3 account 'nowhere' is not in accounts.toml" in done.stderr
    assert "line 4 has no account: --account, --route" in done.stderr
    assert "line 5 is not JSON" in done.stderr
    assert "and 2 more" in done.stderr


def test_half_of_a_character_spoils_its_line_only(shop: Shop) -> None:
    done = shop.run("import", shop.file(line("A"), line("B", request="\ud800"), line("C")))
    assert (done.exit_code, done.stdout[:15]) == (3, "2 notifications")
    assert "line 2 request is not text" in done.stderr
    done = shop.run("orders", shop.file('{"order":"A"}', '{"order":"\\ud800"}'), "--account", "shop-cn")
    assert (done.exit_code, done.stdout) == (3, "1 orders\n")


def test_requests_of_scanners_are_counted_and_aborted_ones_are_not_acknowledged(shop: Shop) -> None:
    scanners = [line("X", method="GET", body=""), line("X", body=""), line("X", method="<BADREQ>", body="", account="")]
    aborted = [line("A", status="-1", answer=""), line("B", status="499"), line("C", status="000")]
    done = shop.run("import", shop.file(*scanners, *aborted))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "3 notifications, 0 answers to known ones, 0 lines known from before, 3 other requests\n"
    report = parsed(shop.run("report", "--json"))
    assert [(each["order"], each["kind"], each["reason"]) for each in report["shown"]] == [
        ("A", "not_acknowledged", "no_answer"),
        ("B", "not_acknowledged", "status_499"),
        ("C", "not_acknowledged", "no_answer"),
    ]


def test_route_and_default_give_the_account_of_a_line(shop: Shop) -> None:
    lines = [line("A", account="", path="/pay/ali?x=1"), line("B", account="", path="/notify/shop-cn")]
    done = shop.run("import", shop.file(*lines), "--route", "/pay/ali=shop-cn")
    assert (done.exit_code, done.stdout[:15]) == (0, "2 notifications")


def test_standard_input_is_read(shop: Shop) -> None:
    arguments = ["shadow", "import", "-", "--dir", str(shop.home / "shadow")]
    done = CliRunner().invoke(main.application(), arguments, env=shop.environ, input=line("A").encode())
    assert (done.exit_code, done.stdout[:15]) == (0, "1 notifications")


def test_report_says_what_to_do_in_eighty_columns_and_exits_with_3(shop: Shop) -> None:
    shop.run("import", shop.file(line("ORDER-2026-11-30-000000001", signer="forger"), line("B", status="500")))
    report = shop.run("report", columns="80")
    assert report.exit_code == 3
    assert "ORDER-2026-11-30-000000001" in report.stdout
    assert "Look the trade up in Alipay's merchant portal" in report.stdout
    assert [each for each in report.stdout.splitlines() if len(each) > 80] == []
    found = parsed(shop.run("report", "--json", "--limit", "1"))
    assert found["counts"] == {"accepted_refused": 1, "not_acknowledged": 1}
    assert [each["kind"] for each in found["shown"]] == ["accepted_refused"]


def test_report_without_differences_exits_with_0(shop: Shop) -> None:
    shop.run("import", shop.file(line("A")))
    report = shop.run("report")
    assert (report.exit_code, "differences   none" in report.stdout) == (0, True)


def test_prune_says_what_it_deleted(shop: Shop) -> None:
    """The line is of November 2025, and what is imported without a time is of now."""
    nothing = shop.run("prune")
    assert (nothing.exit_code, "begin with shadow run or shadow import" in nothing.stderr) == (1, True)
    shop.run("import", shop.file(line("A"), line("B", time=None)))
    assert shop.run("prune", "--keep-days", "0").exit_code == 2
    done = shop.run("prune", "--keep-days", "1")
    assert (done.exit_code, done.stdout) == (0, "1 notifications and 0 orders deleted\n")
    assert parsed(shop.run("report", "--json"))["notifications"] == 1


def test_orders_say_how_many_and_an_unknown_state_is_named(shop: Shop) -> None:
    shop.run("import", shop.file(line("A"), line("B")))
    done = shop.run("orders", shop.file("order,state,amount", "A,shipped,12.80", "B,odd,12.80"), "--account", "shop-cn",
                    "--state", "shipped=paid")  # fmt: skip
    assert (done.exit_code, done.stdout) == (3, "1 orders\n")
    assert "line 3 state 'odd' is not known" in done.stderr
    report = parsed(shop.run("report", "--json"))
    assert [(each["order"], each["reason"]) for each in report["shown"]] == [("B", "not_in_books")]


def test_orders_are_not_compared_with_notifications_after_their_export(shop: Shop) -> None:
    shop.run("import", shop.file(line("A")))
    columns = shop.file("order,state", "A,unpaid")
    shop.run("orders", columns, "--account", "shop-cn", "--as-of", "2025-11-30T18:53:19+08:00")
    assert shop.run("report").exit_code == 0
    shop.run("orders", columns, "--account", "shop-cn", "--as-of", "2025-11-30T18:53:21+08:00")
    assert shop.run("report").exit_code == 3


def test_file_without_orders_leaves_everything_as_it_was(shop: Shop) -> None:
    shop.run("import", shop.file(line("A")))
    done = shop.run("orders", shop.file("id;state", "A;paid"))
    assert (done.exit_code, "neither a JSON object nor a column" in done.stderr) == (1, True)
    assert shop.run("report").exit_code == 0


def test_report_without_a_book_could_not_compare(shop: Shop) -> None:
    report = shop.run("report")
    assert (report.exit_code, "begin with shadow run or shadow import" in report.stderr) == (1, True)
    assert not (shop.home / "shadow").exists()


def test_files_are_their_owners_alone_in_a_folder_that_everybody_may_read(shop: Shop) -> None:
    folder = shop.home / "shadow"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    shop.run("import", shop.file(line("A")))
    shop.run("orders", shop.file("order,state", "A,paid"), "--account", "shop-cn")
    (folder / "shadow.sqlite3").chmod(0o644)
    assert shop.run("report").exit_code == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert set(modes) >= {"shadow.sqlite3", "decided-2.sqlite3", "lock"}
    assert set(modes.values()) == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_folder_of_an_engine_is_refused(shop: Shop) -> None:
    (shop.home / "shadow").mkdir()
    (shop.home / "shadow" / "journal.sqlite3").touch()
    done = shop.run("import", shop.file(line("A")))
    assert (done.exit_code, "holds an engine's files" in done.stderr) == (1, True)


@pytest.mark.parametrize("option", [["--state", "a"], ["--state", "a=b"], ["--route", "x"]])
def test_half_of_a_pair_is_wrong_usage(shop: Shop, option: list[str]) -> None:
    assert shop.run("import", shop.file(line("A")), *option).exit_code == 2


def test_missing_file_fails_with_its_name(shop: Shop) -> None:
    done = shop.run("import", str(shop.home / "nothing"))
    assert (done.exit_code, "nothing cannot be read" in done.stderr) == (1, True)


def test_walk_through_of_the_page_runs_as_it_stands(shop: Shop) -> None:
    page = (ROOT / "deploy/docs/moving.md").read_text(encoding="utf-8").partition("## Shadow mode")[2]
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (example,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    fields = json.loads(example)
    log = [json.loads(line("A")), json.loads(line("B", signer="forger")), json.loads(line("C"))]
    lines = [fields | {"request": f"r{number}", "body": each["body"]} for number, each in enumerate(log)]
    (shop.home / "access.log").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    (shop.home / "orders.csv").write_text("order,state,amount\nA,shipped,12.80\nC,unpaid,12.80\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", commands], cwd=shop.home, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PATH": path},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "differences   1 accepted_refused, 1 state_differs" in done.stdout
    assert "3 notifications, 0 answers" in done.stdout
