"""`find` against a real admin port on a real socket."""

from tests.support.admin import form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed, run

MANDATE = {
    "notify_type": "dut_user_sign",
    "notify_id": "m1",
    "agreement_no": "A1",
    "external_agreement_no": "E1\x1b[31m",
    "status": "NORMAL",
    "alipay_user_id": "2088102008779321",
}


def test_single_notification_is_printed_in_full(server: Server) -> None:
    server.do(server.world.deliver(MANDATE))
    for number in ("m1", "A1"):
        shown = against(server, "find", number)
        assert shown.exit_code == 0
        for part in ("shop", "agreement", "dut_user_sign NORMAL", "A1 (agreement)", "status = NORMAL", "0-1"):
            assert part in shown.stdout
        assert "2088102008779321" not in shown.stdout
        assert "\x1b" not in shown.stdout


def test_several_notifications_are_a_table_in_eighty_columns(server: Server) -> None:
    server.do(server.world.deliver(MANDATE))
    server.do(server.world.deliver(MANDATE | {"notify_id": "m2", "notify_type": "dut_user_unsign"}))
    shown = run({"ALIPAY_NOTIFY_ADMIN": server.url, "COLUMNS": "80"}, "find", "A1")
    assert all(part in shown.stdout for part in ("dut_user_sign", "dut_user_un", "m1", "m2"))
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_json_has_orders_and_the_single_notification(server: Server) -> None:
    server.do(server.world.deliver(form("N1")))
    server.do(server.world.deliver(MANDATE))
    found = parsed(against(server, "find", "A1", "--output", "json"))
    assert (found["matches"], found["notifications"][0]["kind"]) == ([], "agreement")
    order = parsed(against(server, "find", "N1", "--output", "json"))
    assert (order["matches"], order["notifications"]) == ([{"account": "shop", "order": "N1"}], [])


def test_order_is_printed_with_its_account(server: Server) -> None:
    server.do(server.world.deliver(form("N1")))
    assert "shop : N1" in against(server, "find", "N1").stdout


def test_unknown_number_exits_with_1(server: Server) -> None:
    unknown = against(server, "find", "A1")
    assert (unknown.exit_code, "Nothing has the number A1" in unknown.stderr) == (1, True)


AMBIGUOUS = form("N1", subject="S&total_fee=9&out_trade_no=N2", notify_id="c")


def test_form_with_two_readings_is_found_by_the_orders_that_it_may_name(server: Server) -> None:
    server.do(server.world.deliver(AMBIGUOUS))
    for number in ("N1", "N2"):
        shown = against(server, "find", number)
        assert shown.exit_code == 0
        for part in ("Claim only", f"{number} (claimed_order)", "quarantined: ambiguous"):
            assert part in shown.stdout


def test_claim_is_told_apart_in_a_table(server: Server) -> None:
    server.do(server.world.deliver(AMBIGUOUS))
    server.do(server.world.deliver(AMBIGUOUS | {"sign": "b3RoZXI="}))
    shown = against(server, "find", "N1")
    assert shown.stdout.count("a claim only") == 2
