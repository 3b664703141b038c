"""`held refund-outside`, `snooze` and `unsnooze` against a real admin port on a real socket."""

import pytest

from tests.support.admin import form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed

ID = "0-1"


@pytest.fixture(autouse=True)
def row(server: Server) -> None:
    """A notification that is held because the merchant has registered another amount."""
    against(server, "order", "register", "A1", "--account", "shop", "--amount", "99.00")
    server.do(server.world.deliver(form("A1")))


def test_refund_outside_is_on_the_order(server: Server) -> None:
    refund = ("held", "refund-outside", ID, "--reason", "paid twice", "--amount")
    wrong = against(server, *refund, "1.00")
    assert (wrong.exit_code, "it reports 12.80 USD" in wrong.stderr) == (1, True)
    done = against(server, *refund, "12.80")
    assert (done.exit_code, "paid twice" in done.stdout) == (0, True)
    shown = " ".join(against(server, "order", "show", "A1").stdout.split())
    assert "refunded outside: 12.80 USD" in shown
    assert parsed(against(server, "held", "show", ID, "--output", "json"))["resolution"] == "refunded_outside"


def test_snoozed_one_is_listed_only_with_the_option(server: Server) -> None:
    snoozed = against(server, "held", "snooze", ID, "--until", "4h", "--reason", "asked")
    assert (snoozed.exit_code, "snoozed until" in snoozed.stdout) == (0, True)
    listed = against(server, "held", "list")
    assert (ID in listed.stdout, "1 snoozed are not listed" in listed.stderr) == (False, True)
    assert ID in against(server, "held", "list", "--snoozed").stdout
    all_ = against(server, "held", "replay", "--all")
    assert ("Would replay" in all_.stdout, ID in all_.stdout, "1 snoozed are left out" in all_.stderr) == (
        True, False, True,
    )  # fmt: skip
    assert "asked" in against(server, "held", "show", ID).stdout
    ended = against(server, "held", "unsnooze", ID, "--output", "json")
    assert (ended.exit_code, parsed(ended)["id"]) == (0, ID)
    assert ID in against(server, "held", "list").stdout


def test_order_tells_of_a_snooze_and_of_its_end(server: Server) -> None:
    against(server, "held", "snooze", ID, "--until", "4h", "--reason", "the shop is asked")
    against(server, "held", "unsnooze", ID, "--reason", "it answered")
    shown = " ".join(against(server, "order", "show", "A1").stdout.split())
    for part in ("· snoozed", "until 2025-10-09 12:53:20", "the shop is asked", "· snooze ended", "it answered"):
        assert part in shown


def test_wrong_id_or_time_is_refused(server: Server) -> None:
    assert against(server, "held", "snooze", "1234", "--until", "4h", "--reason", "r").exit_code == 2
    assert against(server, "held", "snooze", ID, "--until", "60d", "--reason", "r").exit_code == 2
    assert against(server, "held", "refund-outside", ID, "--reason", "r").exit_code == 2
