"""`alipay-notify callbacks`: list, deliveries, resend, enable, disable."""

from msgspec import structs

from tests.support.admin import NOW_MS, form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed
from workers.callbacks.schedule import EndpointState


def test_endpoints_are_listed_with_their_state(server: Server) -> None:
    assert "hooks" in (table := against(server, "callbacks", "list").stdout)
    assert "active" in table
    (shown,) = parsed(against(server, "callbacks", "list", "--output", "json"))["endpoints"]
    assert (shown["name"], shown["pending"]) == ("hooks", 2)
    page = server.world.callbacks.page
    server.world.callbacks.page = structs.replace(page, state=EndpointState(failing_since_ms=NOW_MS))
    assert "since 2" in against(server, "callbacks", "list").stdout


def test_deliveries_are_listed_page_by_page(server: Server) -> None:
    first = against(server, "callbacks", "deliveries", "hooks", "--limit", "2")
    assert ("shop:A1:3" in first.stdout, "it answered 500" in first.stdout, "--before 2" in first.stderr) == (True,) * 3
    rest = parsed(against(server, "callbacks", "deliveries", "hooks", "--before", "2", "--output", "json"))
    assert [each["number"] for each in rest["deliveries"]] == [1]
    none = against(server, "callbacks", "deliveries", "hooks", "--state", "given_up")
    assert (none.exit_code, "No such delivery" in none.stderr) == (0, True)
    assert against(server, "callbacks", "deliveries", "nobody").exit_code == 1


def test_events_are_resent(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    by_order = against(server, "callbacks", "resend", "hooks", "--order", "A1", "--why", "lost")
    assert (by_order.exit_code, "1 events to hooks; they go out" in by_order.stdout) == (0, True)
    by_number = against(server, "callbacks", "resend", "hooks", "--number", "7", "--why", "lost", "--output", "json")
    assert parsed(by_number) == {"resent": 1}
    assert server.world.callbacks.resent == [(None, "shop", "A1", None), (7, "", "", None)]
    without_reason = against(server, "callbacks", "resend", "hooks", "--number", "7")
    assert (without_reason.exit_code, "reason" in without_reason.stderr) == (2, True)


def test_events_resent_to_an_endpoint_that_gets_nothing_are_said_to_wait(server: Server) -> None:
    removed = structs.replace(server.world.callbacks.page, is_configured=False)
    server.world.callbacks.page = removed
    resent = against(server, "callbacks", "resend", "hooks", "--number", "7", "--why", "lost")
    assert (resent.exit_code, "they wait, because it is removed" in resent.stdout) == (0, True)


def test_endpoint_is_disabled_and_enabled(server: Server) -> None:
    assert "disabled" in against(server, "callbacks", "disable", "hooks", "--why", "moves").stdout
    assert against(server, "callbacks", "disable", "hooks", "--why", "moves").exit_code == 1
    enabled = against(server, "callbacks", "enable", "hooks", "--why", "moved", "--output", "json")
    assert parsed(enabled)["state"] == "active"
