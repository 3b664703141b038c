"""`held replay` with filters starts a replay in the worker; `held replays` lists, shows, cancels and resumes them."""

import pytest

from tests.support.admin import form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed

START = ("held", "replay", "--all", "--yes", "--why", "registered", "--rate", "500")


@pytest.fixture(autouse=True)
def rows(server: Server) -> None:
    for number in ("B1", "B2"):
        server.do(server.world.deliver(form(number), "strict"))


def test_replay_is_started_shown_cancelled_and_resumed(server: Server) -> None:
    started = against(server, *START, "--no-wait")
    assert (started.exit_code, "0 of 2" in started.stdout) == (0, True)
    assert "cancelled" in against(server, "held", "replays", "cancel", "1").stdout
    again = against(server, "held", "replays", "cancel", "1")
    assert (again.exit_code, "not running" in again.stderr) == (1, True)
    assert "running" in against(server, "held", "replays", "resume", "1").stdout
    loop = server.world.replayer()
    for _ in range(2):
        server.do(loop.run_once())
    shown = parsed(against(server, "held", "replays", "show", "1", "--output", "json"))
    assert (shown["state"], shown["done"], shown["held_again"]) == ("finished", 2, 2)
    assert "2/2" in against(server, "held", "replays").stdout


def test_replay_is_followed_to_its_end(server: Server) -> None:
    loop = server.world.replayer()
    running = server.start(loop.run())
    done = against(server, *START)
    server.world_call(loop.stop)
    running.result(10)
    assert (done.exit_code, "2 of 2" in done.stdout) == (3, True), "they are held again"


def test_list_of_replays_is_empty_at_first(server: Server) -> None:
    assert "No replay was started" in against(server, "held", "replays").stderr
    assert against(server, "held", "replays", "show", "9").exit_code == 1


def test_id_and_all_together_are_wrong_usage(server: Server) -> None:
    assert against(server, "held", "replay", "0-1", "--all").exit_code == 2


def test_held_replay_with_id_and_yes_works_as_the_readme_prints_it(server: Server) -> None:
    against(server, "order", "register", "B1", "--account", "strict", "--amount", "12.80")
    done = against(server, "held", "replay", "0-1", "--yes")
    assert (done.exit_code, "applied" in done.stdout) == (0, True)
