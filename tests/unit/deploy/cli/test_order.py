"""`order show` and `order register` against a real admin port on a real socket."""

from typing import Any

import msgspec
import pytest

from deploy.cli import admin, order
from schemas.orders import Claim, Order, State
from tests.support.admin import NOW_MS, Refused, form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed
from workers.admin import shapes
from workers.queries import OrderPage
from workers.settlement import order_view

MARKUP = "<script>[bold]"


def test_show_prints_the_whole_order_on_one_screen(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    server.do(server.world.deliver(form("A1")))
    shown = against(server, "order", "show", "A1")
    assert shown.exit_code == 0
    for part in ("PAID", "12.80 USD", "TRADE_SUCCESS", "applied", "duplicate", "→ order.paid "):
        assert part in shown.stdout


def test_copies_of_a_notification_are_one_row_with_their_number(server: Server) -> None:
    for id_ in ("n1", "n1", "n1", "n1", "n2", "n2"):
        server.do(server.world.deliver(form("A1", notify_id=id_)))
    rows = against(server, "order", "show", "A1").stdout.splitlines()
    assert [", 3 times until 20" in row for row in rows if "duplicate" in row and "n1" in row] == [True]
    assert sum("n2" in row for row in rows) == 2
    timeline = parsed(against(server, "order", "show", "A1", "--output", "json"))["timeline"]
    assert sum(entry.get("notification_id") == "n1" for entry in timeline) == 4


@pytest.mark.parametrize("number", ["A1", "20251009A1", "A1-TRADE_SUCCESS"])
def test_show_finds_order_trade_and_notification_numbers(server: Server, number: str) -> None:
    server.do(server.world.deliver(form("A1")))
    shown = parsed(against(server, "order", "show", number, "--output", "json"))
    assert (shown["status"], shown["version"], shown["timeline"][0]["disposition"]) == ("PAID", 1, "applied")


def test_show_exits_with_3_if_the_order_has_a_flag(server: Server) -> None:
    assert against(server, "order", "register", "A1", "--account", "shop", "--amount", "99.00").exit_code == 0
    server.do(server.world.deliver(form("A1")))
    shown = against(server, "order", "show", "A1")
    assert (shown.exit_code, "amount_mismatch" in shown.stdout) == (3, True)


def test_show_of_an_unknown_order_suggests_the_next_commands(server: Server) -> None:
    unknown = against(server, "order", "show", "A1")
    assert unknown.exit_code == 1
    assert "Nothing is known of A1" in unknown.stderr
    assert "alipay-notify held list" in unknown.stderr
    assert against(server, "order", "show", "A1", "--account", "shop").exit_code == 1


def test_show_of_a_mandate_names_the_command_that_shows_it(server: Server) -> None:
    server.do(server.world.deliver({"notify_type": "dut_user_sign", "notify_id": "m1", "agreement_no": "A1"}))
    mandate = against(server, "order", "show", "A1")
    assert (mandate.exit_code, "`alipay-notify find A1`" in mandate.stderr) == (1, True)


def test_show_with_an_account_also_shows_refused_requests(server: Server) -> None:
    server.world.refusals.requests.append(Refused("shop", "A1", "bad_signature"))
    refused = against(server, "order", "show", "A1", "--account", "shop")
    assert (refused.exit_code, "bad_signature" in refused.stdout) == (0, True)
    shown = " ".join(refused.stdout.split())
    assert "if it is Alipay's, it comes again at" in shown
    assert "Alipay sends it again" not in shown, "a refused request may be forged"


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"reason": "bad_signature"}, "bad_signature"),
        ({"reason": "bad_signature", "is_accepted": True}, "bad_signature; accepted later"),
        ({"reason": "bad_signature", "is_accepted": False, "next_at": None}, "bad_signature"),
    ],
)
def test_refused_request_is_shown_also_of_a_server_of_an_earlier_release(entry: dict[str, Any], shown: str) -> None:
    assert order._refused(entry) == shown


def test_show_of_a_number_in_two_accounts_asks_for_the_account(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    against(server, "order", "register", "A1", "--account", "strict", "--amount", "12.80")
    both = against(server, "order", "show", "A1")
    assert (both.exit_code, "--account" in both.stderr) == (1, True)


def test_l09_sender_text_is_printed_as_plain_text(server: Server) -> None:
    server.do(server.world.deliver(form(f"A1{MARKUP}")))
    shown = against(server, "order", "show", f"A1{MARKUP}")
    assert MARKUP in shown.stdout
    assert "\x1b" not in shown.stdout


def test_register_names_the_right_form_of_an_amount(server: Server) -> None:
    wrong = against(server, "order", "register", "A1", "--account", "shop", "--amount", "12.8")
    assert (wrong.exit_code, "12.80" in wrong.stderr) == (2, True)


def test_register_takes_an_amount_in_another_currency(server: Server) -> None:
    amount = ("--amount", "1280", "--currency", "JPY")
    done = against(server, "order", "register", "A1", "--account", "shop", *amount, "--output", "json")
    assert (parsed(done)["expected_minor"], parsed(done)["expected_currency"]) == (1280, "JPY")


def test_register_takes_one_amount_per_currency(server: Server) -> None:
    amounts = ("--amount", "80.00 CNY", "--amount", "11.20 USD")
    done = against(server, "order", "register", "A1", "--account", "shop", *amounts)
    assert (done.exit_code, "80.00 CNY, 11.20 USD" in done.stdout) == (0, True)
    one = against(server, "order", "register", "A1", "--account", "shop", "--amount", "9.00 EUR", "--output", "json")
    assert (parsed(one)["expected"], parsed(one)["expected_currency"]) == ("9.00", "EUR")
    twice = against(server, "order", "register", "A1", "--account", "shop", "--amount", "9.00 EUR", "--currency", "EUR")
    assert (twice.exit_code, "not both" in twice.stderr) == (2, True)


def test_register_accepts_every_amount_if_asked_to(server: Server) -> None:
    done = against(server, "order", "register", "A1", "--account", "strict", "--any-amount")
    assert (done.exit_code, "any amount" in done.stdout) == (0, True)
    both = against(server, "order", "register", "A1", "--account", "strict", "--any-amount", "--amount", "1.00")
    assert both.exit_code == 2


def test_registration_is_recorded_with_the_user_of_the_command(server: Server) -> None:
    against(server, "order", "register", "A1", "--account", "shop", "--refund", "REF-1")
    ((deed, subject, by, why),) = server.world.store.audit
    assert (deed, subject, why) == ("register", "shop:A1", "refund REF-1")
    assert by.startswith(f"{admin.user()} (")


def test_register_of_another_orders_refund_names_that_order(server: Server) -> None:
    against(server, "order", "register", "A1", "--account", "shop", "--refund", "REF-1")
    taken = against(server, "order", "register", "A2", "--account", "shop", "--refund", "REF-1")
    assert taken.exit_code == 1
    assert "REF-1" in taken.stderr
    assert "A1" in taken.stderr


@pytest.mark.parametrize("arguments", [("show",), ("register", "A1", "--account", "shop")])
def test_missing_arguments_are_wrong_usage(server: Server, arguments: tuple[str, ...]) -> None:
    assert against(server, "order", *arguments).exit_code == 2


def test_authorised_amount_is_printed_with_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    claim = Claim(trade="T1", amount_minor=1280, currency="USD", state=State.AUTHORIZED, authorized_until_ms=NOW_MS)
    known = Order(account="shop", number="A1", version=1, claims=(claim,))
    page = OrderPage(account="shop", number="A1", order=known, view=order_view.view(known), deliveries=(), events=())
    order._print(msgspec.to_builtins(shapes.summary(page)))
    shown = capsys.readouterr().out
    assert "WAITING" in shown
    assert "12.80 USD, until 2025-10-09 08:53:20 UTC" in shown


def test_show_mentions_a_form_with_two_readings_as_a_claim_only(server: Server) -> None:
    server.do(server.world.deliver(form("A1", subject="S&total_fee=9&out_trade_no=A2", notify_id="c")))
    only = against(server, "order", "show", "A2", "--account", "shop")
    assert (only.exit_code, "has no order A2" in only.stderr, "`alipay-notify find`" in only.stderr) == (1, True, True)
    server.do(server.world.deliver(form("A1")))
    shown = against(server, "order", "show", "A1")
    assert shown.exit_code == 0
    assert all(part in shown.stdout for part in ("a claim only", "ambiguous", "quarantined", "PAID"))


def test_accepted_refunds_are_printed_beside_the_refunded_amount(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    over = {"refund_fee": "15.00", "gmt_refund": "2025-10-10 08:00:00", "notify_id": "r"}
    server.do(server.world.deliver(form("A1", **over)))
    assert "accepted" not in against(server, "order", "show", "A1").stdout
    assert against(server, "held", "accept", "0-2", "--reason", "we refunded the postage").exit_code == 0
    shown = against(server, "order", "show", "A1")
    assert "12.80 USD of 15.00 USD that were accepted as refunded" in shown.stdout
    assert (shown.exit_code, "we refunded the postage" in shown.stdout) == (0, True)
    answer = parsed(against(server, "order", "show", "A1", "--output", "json"))
    assert (answer["refunded"], answer["refund_accepted_minor"], answer["refund_accepted"]) == ("12.80", 1500, "15.00")


def test_show_of_an_order_whose_held_notification_was_discarded_exits_with_0(server: Server) -> None:
    assert against(server, "order", "register", "A1", "--account", "shop", "--amount", "99.00").exit_code == 0
    server.do(server.world.deliver(form("A1")))
    server.do(server.world.deliver(form("A1", notify_id="b")))
    for id_, code in (("0-1", 3), ("0-2", 0)):
        assert against(server, "held", "discard", id_, "--reason", "a test order").exit_code == 0
        shown = against(server, "order", "show", "A1")
        assert (shown.exit_code, "discarded" in shown.stdout) == (code, True)


def test_show_tells_how_a_notification_was_held_and_who_replayed_it(server: Server) -> None:
    position = server.do(server.world.deliver(form("B7"), "strict"))
    against(server, "order", "register", "B7", "--account", "strict", "--amount", "12.80")
    against(server, "held", "replay", str(position), "--why", "it is registered")
    shown = against(server, "order", "show", "B7", "--account", "strict").stdout
    for part in ("· held", "unknown_order", "· replayed", "it is registered", "· settled by a retry", "registered"):
        assert part in shown


def test_erase_counts_until_it_is_told_and_then_says_what_is_gone(server: Server) -> None:
    position = server.do(server.world.deliver(form("A1")))
    command = ("order", "erase", "A1", "--account", "shop")
    assert "1 notifications still have personal data" in against(server, *command).stdout
    assert parsed(against(server, *command, "--output", "json")) == {"dry_run": True, "notifications": 1}
    assert against(server, *command, "--yes").exit_code == 2
    assert server.world.store.audit == []
    erased = against(server, *command, "--yes", "--reason", "asked")
    assert (erased.exit_code, "1 notifications" in erased.stdout) == (0, True)
    shown = against(server, "order", "show", "A1").stdout
    assert "personal data erased" in shown
    assert "cannot be verified" in shown
    record = server.world.store.ledger["shop", "A1-TRADE_SUCCESS"].record
    assert (position.offset, b"somebody" in record.value) == (1, False)


def test_erase_names_held_ones_that_keep_their_bytes(server: Server) -> None:
    position = server.do(server.world.deliver(form("B1"), "strict"))
    erased = against(server, "order", "erase", "B1", "--account", "strict", "--yes", "--reason", "asked")
    assert f"{position}: they keep their bytes" in erased.stdout


def test_entry_of_a_newer_server_is_shown_by_its_kind() -> None:
    entry = {"kind": "merged", "at": "2025-10-09T08:53:20Z", "into": "A2"}
    assert order._row(entry) == ("2025-10-09 08:53:20", "merged", "", "", "", "")
