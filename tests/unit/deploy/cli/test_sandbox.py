"""`sandbox` and `trigger` from outside: arguments, output, exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import typer
from typer.testing import CliRunner, Result

from deploy.cli import sandbox, trigger
from deploy.sandbox.world import World


class Shopkeeper(ThreadingHTTPServer):
    """A receiver in a thread: commands run a loop of their own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.answer = (200, b"success")
        self.asked: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(body.decode())) for _, _, body in self.asked]


class _Request(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Shopkeeper)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.command, self.path, body))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_PUT = do_POST  # noqa: N815 - the library calls it by this name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        pass


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    World.create(path, gateway_url="http://127.0.0.1:9", notify_base="http://127.0.0.1:9")
    return path


@pytest.fixture
def shop() -> Iterator[Shopkeeper]:
    with Shopkeeper() as shopkeeper:
        thread = threading.Thread(target=shopkeeper.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield shopkeeper
        shopkeeper.shutdown()
        thread.join()


def program() -> typer.Typer:
    app = typer.Typer()
    sandbox.register(app)
    trigger.register(app)
    return app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program(), arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_a_payment_that_is_answered_ends_well(directory: Path, shop: Shopkeeper) -> None:
    done = run("trigger", "paid", "--dir", str(directory), "--to", shop.url, "--account", "demo-cn", "--order", "OP-1")
    assert done.exit_code == 0, done.output
    assert [path for _, path, _ in shop.asked] == ["/notify/demo-cn"]
    assert shop.forms()[0]["out_trade_no"] == "OP-1"
    assert "stop sending" in done.output


def test_an_answer_other_than_expected_is_exit_code_3(directory: Path, shop: Shopkeeper) -> None:
    shop.answer = (503, b"fail")
    done = run("trigger", "paid", "--dir", str(directory), "--to", shop.url)
    assert done.exit_code == 3
    assert "send again" in done.output


def test_a_forgery_that_is_believed_is_exit_code_3_and_one_that_is_refused_is_0(
    directory: Path, shop: Shopkeeper
) -> None:
    arguments = ("trigger", "forged_signature", "--dir", str(directory), "--to", shop.url)
    assert run(*arguments).exit_code == 3
    shop.answer = (401, b"fail")
    assert run(*arguments).exit_code == 0


def test_nobody_there_is_exit_code_3(directory: Path) -> None:
    done = run("trigger", "paid", "--dir", str(directory), "--to", "http://127.0.0.1:1", "--output", "json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)[0]["outcome"] == "silent"


def test_retries_are_followed_at_the_speed_asked_for(directory: Path, shop: Shopkeeper) -> None:
    shop.answer = (200, b"success ")
    done = run(
        "trigger", "paid", "--dir", str(directory), "--to", shop.url, "--profile", "cn-4m",
        "--time-scale", "10000000", "--output", "json",
    )  # fmt: skip
    attempts = json.loads(done.stdout)
    assert [one["number"] for one in attempts] == list(range(1, 9))
    assert attempts[0]["again_in_s"] == 240
    assert attempts[-1]["again_in_s"] is None
    assert "seven" in attempts[0]["why"]


def test_duplicates_are_one_notification_with_eight_signatures(directory: Path, shop: Shopkeeper) -> None:
    assert run("trigger", "duplicate_x8", "--dir", str(directory), "--to", shop.url).exit_code == 0
    assert len({one["notify_id"] for one in shop.forms()}) == 1
    assert len({one["sign"] for one in shop.forms()}) == 8


def test_a_whole_url_is_used_as_it_is(directory: Path, shop: Shopkeeper) -> None:
    run("trigger", "paid", "--dir", str(directory), "--to", f"{shop.url}/alipay/async", "--account", "demo-antom")
    assert [path for _, path, _ in shop.asked] == ["/alipay/async"]


def test_fields_are_overridden_added_and_removed_before_signing(directory: Path, shop: Shopkeeper) -> None:
    done = run(
        "trigger", "paid", "--dir", str(directory), "--to", shop.url, "--account", "demo-cn",
        "--override", "total_amount=88.88", "--add", "promo=a=b", "--remove", "subject",
    )  # fmt: skip
    assert done.exit_code == 0
    (form,) = shop.forms()
    assert (form["total_amount"], form["promo"]) == ("88.88", "a=b")
    assert "subject" not in form


@pytest.mark.parametrize(("account", "currency"), [("demo-web", "USD"), ("demo-cn", "CNY")])
def test_an_order_is_registered_first_where_it_is_asked_for(
    directory: Path, shop: Shopkeeper, account: str, currency: str
) -> None:
    run(
        "trigger", "paid", "--dir", str(directory), "--to", shop.url, "--account", account, "--order", "T-1",
        "--admin", shop.url,
    )  # fmt: skip
    assert [(method, path) for method, path, _ in shop.asked] == [
        ("PUT", f"/api/orders/{account}/T-1"),
        ("POST", f"/notify/{account}"),
    ]
    assert json.loads(shop.asked[0][2]) == {"amount": "12.80", "currency": currency}


def test_without_a_directory_the_keys_are_those_of_the_sandbox_that_was_started_last(
    shop: Shopkeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALIPAY_NOTIFY_SANDBOX_DIR", raising=False)
    assert run("trigger", "paid", "--to", shop.url).exit_code == 0
    assert Path(".sandbox/world.json").exists(), "there was none, so one was made"
    demo = World.create(Path(".demo/world"), gateway_url="http://127.0.0.1:9", notify_base=shop.url)
    asks_demo = demo.directory / "issued.log"
    os.utime(demo.directory / "world.json", (1_000_000_000, 1_000_000_000))
    assert run("trigger", "paid", "--to", shop.url).exit_code == 0
    assert not asks_demo.exists(), "the demo's is the older"
    os.utime(demo.directory / "world.json")
    os.utime(".sandbox/world.json", (1_000_000_000, 1_000_000_000))
    assert run("trigger", "paid", "--to", shop.url).exit_code == 0
    assert asks_demo.exists()


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "ALIPAY_NOTIFY_ACCOUNTS="), (404, "ALIPAY_NOTIFY_ACCOUNTS="), (503, "")]
)
def test_an_answer_that_surprises_says_what_may_be_the_reason(
    directory: Path, shop: Shopkeeper, status: int, advice: str
) -> None:
    shop.answer = (status, b"fail")
    played = run("trigger", "paid", "--dir", str(directory), "--to", shop.url)
    assert played.exit_code == 3
    assert advice in played.stderr
    assert bool(advice) == bool(played.stderr)


def test_nobody_at_the_address_is_told_in_plain_words(directory: Path) -> None:
    played = run("trigger", "paid", "--dir", str(directory), "--to", "http://127.0.0.1:9")
    assert played.exit_code == 3
    assert "Connection refused" in played.stdout
    assert "ssl" not in played.stdout
    assert "alipay-notify up" in played.stderr


def test_a_sandbox_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = run("sandbox", "--port", str(port), "--dir", str(tmp_path / "world"))
    assert refused.exit_code == 1
    assert f"127.0.0.1:{port} is taken by another program" in refused.stderr


def test_the_history_is_kept(directory: Path, shop: Shopkeeper, tmp_path: Path) -> None:
    run("trigger", "paid", "--dir", str(directory), "--to", shop.url, "--history", str(tmp_path / "h"))
    assert [json.loads(line)["what"] for line in (tmp_path / "h").read_text().splitlines()] == ["call", "ok"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("trigger",),
        ("trigger", "no_such_scenario"),
        ("trigger", "paid", "--override", "total_fee"),
        ("trigger", "paid", "--override", "no_such_field=1"),
        ("trigger", "paid", "--override", "sign=AAAA"),
        ("trigger", "paid", "--remove", "no_such_field"),
        ("trigger", "paid", "--account", "no-such-account"),
        ("trigger", "paid_then_finished", "--account", "demo-antom"),
        ("trigger", "paid", "--to", "ftp://h"),
        ("trigger", "paid", "--profile", "no-such-profile"),
        ("trigger", "paid", "--amount", "1"),
        ("sandbox", "--profile", "no-such-profile"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(directory: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--dir", str(directory))
    assert done.exit_code == 2, done.output
    assert done.stderr


def test_without_a_sandbox_one_is_made(tmp_path: Path, shop: Shopkeeper) -> None:
    assert run("trigger", "paid", "--dir", str(tmp_path / "new"), "--to", shop.url).exit_code == 0
    assert World.load(tmp_path / "new").notify_base == shop.url


def test_a_directory_that_cannot_be_one_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run("trigger", "paid", "--dir", str(tmp_path / "file")).exit_code == 1


def test_scenarios_are_listed_for_people_and_programs() -> None:
    assert "duplicate_x8" in run("trigger", "--list").output
    listed = json.loads(run("trigger", "--list", "--output", "json").stdout)
    assert {"name", "title", "tells"} == set(listed[0])


def test_a_receivers_answer_is_not_read_as_markup(directory: Path, shop: Shopkeeper) -> None:
    shop.answer = (200, b"[/bold]")
    assert run("trigger", "paid", "--dir", str(directory), "--to", shop.url).exit_code == 3


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, typer\n"
        "from deploy.cli import sandbox, trigger\n"
        "app = typer.Typer(); sandbox.register(app); trigger.register(app)\n"
        "heavy = {'aiohttp', 'cryptography', 'msgspec'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
