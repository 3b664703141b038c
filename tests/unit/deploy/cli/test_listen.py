"""`listen` against an admin port: its output, its begin and its end. `contract/test_listen.py` has the topic."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.cli import listen
from deploy.cli.admin import AdminApiError, AdminClient
from tests.support.admin import form
from tests.support.paths import ROOT
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_oldest_events_are_shown_as_lines_orders_and_cloudevents(server: Server) -> None:
    server.do(server.world.deliver(form("A1", "WAIT_BUYER_PAY")))
    server.do(server.world.deliver(form("A1")))
    command = ("listen", "--from-start", "--limit", "2")
    shown = against(server, *command)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert [line.split()[2:6] for line in shown.stdout.splitlines()] == [
        ["waiting", "shop:A1", "v1", "WAITING"],
        ["paid", "shop:A1", "v2", "PAID"],
    ]
    orders = lines(against(server, *command, "--output", "json").stdout)
    assert [(order["version"], order["status"]) for order in orders] == [(1, "WAITING"), (2, "PAID")]
    events = lines(against(server, *command, "--output", "event").stdout)
    assert [event["id"] for event in events] == ["shop:A1:1", "shop:A1:2"]
    assert [event["data"] for event in events] == orders
    assert events[0]["specversion"] == "1.0"


def test_filters_leave_other_events_out(server: Server) -> None:
    server.do(server.world.deliver(form("A1", "WAIT_BUYER_PAY")))
    server.do(server.world.deliver(form("A1")))
    shown = against(server, "listen", "--from-start", "--limit", "1", "--type", "paid", "--account", "shop")
    assert "shop:A1  v2" in shown.stdout
    other = against(server, "listen", "--from-start", "--limit", "1", "--type", "order.waiting")
    assert "shop:A1  v1" in other.stdout, "as callbacks.toml names it"


def test_it_begins_with_the_next_event(server: Server) -> None:
    server.do(server.world.deliver(form("A1")))
    with ThreadPoolExecutor() as threads:
        listening = threads.submit(against, server, "listen", "--limit", "1", "--output", "json")
        number = 1
        while not listening.done():
            number += 1
            server.do(server.world.deliver(form(f"A{number}")))
            threads.submit(listening.exception, 0.2).exception()
        (order,) = lines(listening.result().stdout)
    assert order["order"] != "A1"


def test_server_that_is_not_there_ends_it_and_one_that_goes_away_does_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = against("http://127.0.0.1:1", "listen")
    assert (absent.exit_code, "No server answers" in absent.stderr) == (1, True)
    monkeypatch.setattr(listen, "AGAIN_S", 0.01)
    server.do(server.world.deliver(form("A1")))
    real, asked = AdminClient.get, []

    def get(self: AdminClient, *path: str, **query: str | int | None) -> dict[str, object]:
        asked.append(query)
        if len(asked) < 3:
            raise AdminApiError("it restarts", status=503)
        return real(self, *path, **query)

    monkeypatch.setattr(AdminClient, "get", get)
    shown = against(server, "listen", "--from-start", "--limit", "1")
    assert (shown.exit_code, "shop:A1" in shown.stdout) == (0, True)
    assert shown.stderr.count("it restarts") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--type", "piad"),
        ("--forward-to", "127.0.0.1:1"),
        ("--forward-to", "ftp://x"),
        ("--limit", "0"),
        ("--output", "table"),
    ],
)
def test_wrong_options_are_wrong_usage(server: Server, wrong: tuple[str, str]) -> None:
    assert against(server, "listen", *wrong).exit_code == 2


def test_forwarding_is_told_on_stderr_and_goes_on_after_a_failure(server: Server) -> None:
    for order in ("A1", "A2"):
        server.do(server.world.deliver(form(order)))
    shown = against(
        server, "listen", "--from-start", "--limit", "2", "--output", "json", "--forward-to", "http://127.0.0.1:1"
    )
    assert len(lines(shown.stdout)) == 2
    assert shown.stderr.count("→ failed: ") == 2


def _as_in_a_terminal() -> None:
    """Let Ctrl-C end the program also if the tests run in the background of a shell, which ignores it for them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_and_a_reader_that_has_enough_end_it_quietly(server: Server) -> None:
    for order in ("A1", "A2"):
        server.do(server.world.deliver(form(order)))
    for ending in (signal.SIGINT, None):
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", "listen", "--from-start", "--admin", server.url],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            preexec_fn=_as_in_a_terminal,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert "shop:A1" in process.stdout.readline()
        if ending is None:
            process.stdout.close()
            server.do(server.world.deliver(form("A3")))
        else:
            process.send_signal(ending)
        assert (process.wait(60), process.stderr.read()) == (0, "")
        process.stdout.close()
        process.stderr.close()
