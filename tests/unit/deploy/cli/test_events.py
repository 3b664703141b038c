"""`events resend`: which events, what is printed, and what is refused."""

import pytest

from deploy.cli import events
from tests.support.admin import form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed


@pytest.mark.parametrize(
    ("which", "order", "version"),
    [("A1", "A1", None), ("A1:2", "A1", 2), ("A:1:2", "A:1", 2), ("A:1:", "A:1", None), ("812:10", "812", 10)],
)
def test_version_stands_after_the_last_colon(which: str, order: str, version: int | None) -> None:
    assert events.parsed(which) == (order, version)


def test_versions_are_published_again_with_the_reason(server: Server) -> None:
    for status in ("WAIT_BUYER_PAY", "TRADE_SUCCESS"):
        server.do(server.world.deliver(form("A1", status)))
    server.do(server.world.store.mark_sent([1, 2]))
    command = ("events", "resend", "A1:1", "--account", "shop", "--reason", "lost")
    shown = against(server, *command)
    assert (shown.exit_code, shown.stdout.count("is published again")) == (0, 2)
    assert [(row[1], row[3]) for row in server.world.store.audit] == [("shop:A1:1", "lost"), ("shop:A1:2", "lost")]
    busy = against(server, *command)
    assert (busy.exit_code, "on its way already" in busy.stderr) == (1, True)
    server.do(server.world.store.mark_sent([1, 2]))
    newest = against(server, "events", "resend", "A1", "--account", "shop", "--reason", "x", "--output", "json")
    assert parsed(newest) == {"account": "shop", "order": "A1", "versions": [2]}
    told = " ".join(against(server, "order", "show", "A1").stdout.split())
    assert told.count("events sent again") == 2
    assert "1–2" in told


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("A9", "--account", "shop", "--reason", "x"), 1),
        (("A1:0", "--account", "shop", "--reason", "x"), 2),
        (("A1:x", "--account", "shop", "--reason", "x"), 2),
        (("A1", "--account", "shop"), 2),
        (("A1", "--account", "shop", "--reason", " "), 2),
    ],
)
def test_wrong_ones_are_told(server: Server, arguments: tuple[str, ...], code: int) -> None:
    assert against(server, "events", "resend", *arguments).exit_code == code
