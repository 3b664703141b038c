"""`order` and `held`: what a person and a program read, against a real admin port on a real socket."""

import json
import socket
from collections.abc import Iterator
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import admin, main
from tests.support.admin import TOKEN, Refused, form
from tests.unit.deploy.cli import admin_server
from tests.unit.deploy.cli.admin_server import Server

MARKUP = "<script>[bold]"


@pytest.fixture
def server() -> Iterator[Server]:
    with admin_server.running() as running:
        yield running


def run(server: Server | str, *arguments: str, token: str = TOKEN) -> Result:
    url = server if isinstance(server, str) else server.url
    environment = {"ALIPAY_NOTIFY_ADMIN": url, "COLUMNS": "200", "NO_COLOR": "1"}
    with NamedTemporaryFile("w") as file:
        file.write(token + "\n")
        file.flush()
        environment["ALIPAY_NOTIFY_ADMIN_TOKEN_FILE"] = file.name if token else ""
        return CliRunner().invoke(main.application(), list(arguments), env=environment)


def said(result: Result) -> Any:
    return json.loads(result.stdout)


def test_order_show_answers_on_one_screen(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    server.do(server.world.deliver(form("A1")))
    shown = run(server, "order", "show", "A1")
    assert shown.exit_code == 0
    for told in ("PAID", "12.80 USD", "TRADE_SUCCESS", "applied", "duplicate", "alipay_notify.order.paid.v1"):
        assert told in shown.stdout


def test_l10_a_token_comes_from_a_file_and_from_nowhere_that_others_can_read(server: Server) -> None:
    wish = ("order", "register", "A1", "--account", "shop", "--amount", "12.80")
    assert run(server, *wish, "--token", TOKEN, token="").exit_code == 2
    without = CliRunner().invoke(
        main.application(), list(wish), env={"ALIPAY_NOTIFY_ADMIN": server.url, "ALIPAY_NOTIFY_ADMIN_TOKEN": TOKEN}
    )
    assert without.exit_code == 1
    lost = run(server, *wish, "--token-file", "/nowhere/token")
    assert (lost.exit_code, "/nowhere/token cannot be read" in lost.stderr) == (2, True)
    assert run(server, *wish).exit_code == 0


def test_order_show_finds_by_any_number_and_gives_programs_the_api_s_own_answer(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    for number in ("A1", "20251009A1", "A1-TRADE_SUCCESS"):
        order = said(run(server, "order", "show", number, "--output", "json"))
        assert (order["status"], order["version"], order["timeline"][0]["disposition"]) == ("PAID", 1, "applied")


def test_order_show_ends_with_3_where_something_stands_against_the_order(server: Server) -> None:
    assert run(server, "order", "register", "A1", "--account", "shop", "--amount", "99.00").exit_code == 0
    server.do(server.world.deliver(form("A1")))
    shown = run(server, "order", "show", "A1")
    assert (shown.exit_code, "amount_mismatch" in shown.stdout) == (3, True)


def test_order_show_of_what_nobody_knows_says_what_else_to_try(server: Server) -> None:
    unknown = run(server, "order", "show", "A1")
    assert (unknown.exit_code, "Nothing is known of A1" in unknown.stderr) == (1, True)
    assert run(server, "order", "show", "A1", "--account", "shop").exit_code == 1
    server.world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))
    refused = run(server, "order", "show", "A1", "--account", "shop")
    assert (refused.exit_code, "bad_signature" in refused.stdout) == (0, True)


def test_order_show_asks_which_where_two_accounts_have_the_number(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    run(server, "order", "register", "A1", "--account", "strict", "--amount", "12.80")
    both = run(server, "order", "show", "A1")
    assert (both.exit_code, "--account" in both.stderr) == (1, True)


def test_order_register_says_what_is_wrong_with_an_amount(server: Server) -> None:
    wrong = run(server, "order", "register", "A1", "--account", "shop", "--amount", "12.8")
    assert (wrong.exit_code, "12.80" in wrong.stderr) == (2, True)
    without = run(server, "order", "register", "A1", "--account", "shop", "--amount", "12.80", token="")
    assert (without.exit_code, "--token-file" in without.stderr) == (1, True)
    done = run(
        server,
        "order",
        "register",
        "A1",
        "--account",
        "shop",
        "--amount",
        "1280",
        "--currency",
        "JPY",
        "--output",
        "json",
    )
    assert (said(done)["expected_minor"], said(done)["expected_currency"]) == (1280, "JPY")


def test_held_list_show_replay_and_discard(server: Server) -> None:
    for number in ("A1", "A2"):
        run(server, "order", "register", number, "--account", "shop", "--amount", "99.00")
        server.do(server.world.deliver(form(number)))
    listed = run(server, "held", "list", "--reason", "amount_mismatch")
    assert (listed.exit_code, listed.stdout.count("amount_mismatch")) == (0, 2)
    first, second = (row["id"] for row in said(run(server, "held", "list", "--output", "json"))["held"])

    shown = run(server, "held", "show", first)
    assert (shown.exit_code, "som***" in shown.stdout, "somebody%40example.com" in shown.stdout) == (0, True, True)
    still = run(server, "held", "replay", first)
    assert (still.exit_code, "still quarantined" in still.stdout) == (3, True)

    run(server, "order", "register", "A1", "--account", "shop", "--amount", "12.80")
    dry = run(server, "held", "replay", "--reason", "amount_mismatch")
    assert (dry.exit_code, "nothing was done" in dry.stdout) == (0, True)
    assert len(server.world.store.decided) == 1
    done = run(server, "held", "replay", "--reason", "amount_mismatch", "--yes", "--why", "corrected", "--rate", "500")
    assert (done.exit_code, "applied" in done.stdout, "quarantined" in done.stdout) == (3, True, True)

    discarded = run(server, "held", "discard", second, "--reason", "refunded by hand")
    assert (discarded.exit_code, "refunded by hand" in discarded.stdout) == (0, True)
    assert run(server, "held", "discard", second, "--reason", "again").exit_code == 1
    assert "Nothing is held" in run(server, "held", "list").stderr


def test_held_show_ends_with_3_where_the_signature_does_not_hold(server: Server) -> None:
    position = server.do(server.world.deliver(form("B1"), "strict"))
    server.world.is_authentic = False
    shown = run(server, "held", "show", str(position))
    assert (shown.exit_code, "验签失败" in shown.stdout) == (3, True)


def test_wrong_usage_is_2(server: Server) -> None:
    for arguments in (
        ("held", "replay"),
        ("held", "replay", "0-1", "--reason", "amount_mismatch"),
        ("held", "replay", "--reason", "amount_mismatch", "--yes"),
        ("held", "list", "--reason", "because"),
        ("held", "discard", "0-1"),
        ("held", "show", "nonsense"),
        ("held", "discard", "1234", "--reason", "r"),
        ("held", "replay", "--reason", "because"),
        ("order", "show"),
        ("order", "register", "A1", "--account", "shop"),
        ("nonsense",),
    ):
        assert run(server, *arguments).exit_code == 2, arguments


def test_l09_what_a_sender_wrote_is_neither_markup_nor_a_terminal_s_command(server: Server) -> None:
    server.do(server.world.deliver(form(f"A1{MARKUP}")))
    position = server.do(server.world.deliver(form("B1", subject=f"{MARKUP}\x1b[31m"), "strict"))
    unreadable = server.do(server.world.deliver(form("C1\x1b[31m")))
    for arguments, told in (
        (("order", "show", f"A1{MARKUP}"), MARKUP),
        (("held", "show", str(position)), f"{MARKUP}\\u001b[31m"),
        (("held", "show", str(unreadable)), "C1\\u001b[31m"),
        (("held", "list"), "control_char"),
    ):
        shown = run(server, *arguments)
        assert "\x1b" not in shown.stdout
        assert told in shown.stdout


def test_a_stopped_server_is_1_and_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for arguments in (("order", "show", "A1"), ("held", "list"), ("held", "discard", "0-1", "--reason", "r")):
        stopped = run(url, *arguments)
        assert stopped.exit_code == 1
        assert "alipay-notify up" in stopped.stderr
        assert "Traceback" not in stopped.output


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:99999", "http://[::1", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    refused = run(url, "held", "list")
    assert refused.exit_code == 2
    assert refused.stderr == f"{url} is not a URL like http://127.0.0.1:9464\n"


def test_a_reason_that_is_none_is_answered_with_those_there_are(server: Server) -> None:
    for command in ("list", "replay"):
        refused = run(server, "held", command, "--reason", "because")
        assert refused.stderr.startswith("reason must be one of ")
        assert "amount_mismatch" in refused.stderr


def test_a_registration_is_the_deed_of_whoever_sits_here(server: Server) -> None:
    run(server, "order", "register", "A1", "--account", "shop", "--refund", "REF-1")
    ((deed, subject, by, why),) = server.world.store.audit
    assert (deed, subject, why) == ("register", "shop:A1", "refund REF-1")
    assert by.startswith(f"{admin.operator()} (")
    taken = run(server, "order", "register", "A2", "--account", "shop", "--refund", "REF-1")
    assert (taken.exit_code, taken.stderr) == (1, "refund REF-1 is registered with order A1 already\n")


def test_the_lists_of_commands_are_whole_sentences_in_eighty_columns() -> None:
    for group in ([], ["order"], ["held"], ["keys"], ["config"], ["schema"]):
        text = CliRunner().invoke(main.application(), [*group, "--help"], env={"COLUMNS": "80"}).stdout
        assert "..." not in text.partition("Commands:")[2]


def test_every_command_has_examples_and_says_its_exit_codes() -> None:
    runner = CliRunner()
    for command in (("order", "show"), ("order", "register"), ("held", "list"), ("held", "show"), ("held", "replay"),
                    ("held", "discard"), ("config", "show"), ("doctor",), ("schema", "export")):  # fmt: skip
        text = runner.invoke(main.application(), [*command, "--help"]).stdout
        assert f"    alipay-notify {' '.join(command)}" in text
        assert "Exit codes" in text
