"""`held replay` with filters starts a task in the worker; `held tasks` lists, shows, cancels and resumes them."""

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
    assert "cancelled" in against(server, "held", "tasks", "cancel", "1").stdout
    again = against(server, "held", "tasks", "cancel", "1")
    assert (again.exit_code, "not running" in again.stderr) == (1, True)
    assert "running" in against(server, "held", "tasks", "resume", "1").stdout
    loop = server.world.replayer()
    for _ in range(2):
        server.do(loop.run_once())
    shown = parsed(against(server, "held", "tasks", "show", "1", "--output", "json"))
    assert (shown["state"], shown["done"], shown["held_again"]) == ("finished", 2, 2)
    assert "2/2" in against(server, "held", "tasks").stdout
    assert "2/2" in against(server, "held", "replays").stdout, "the older name"


@pytest.mark.parametrize("filter_", ["--account", "--order", "--since"])
def test_empty_filter_is_wrong_usage_and_not_all(server: Server, filter_: str) -> None:
    refused = against(server, "held", "replay", filter_, "", "--yes", "--why", "registered", "--no-wait")
    assert refused.exit_code == 2
    assert server.world.store.tasks == {}


def test_replay_is_followed_to_its_end(server: Server) -> None:
    loop = server.world.replayer()
    running = server.start(loop.run())
    done = against(server, *START)
    server.world_call(loop.stop)
    running.result(10)
    assert (done.exit_code, "2 of 2" in done.stdout) == (3, True), "they are held again"


def test_list_of_tasks_is_empty_at_first(server: Server) -> None:
    assert "No task was started" in against(server, "held", "tasks").stderr
    assert against(server, "held", "tasks", "show", "9").exit_code == 1


def test_list_of_tasks_says_how_many_more_there_are(server: Server) -> None:
    for _ in range(3):
        against(server, *START, "--no-wait")
    cut = against(server, "held", "tasks", "--limit", "2")
    assert (cut.exit_code, cut.stderr) == (0, "1 more: --before 2\n")
    rest = against(server, "held", "tasks", "--before", "2")
    assert (rest.stdout.count("running"), rest.stderr) == (1, "")
    assert parsed(against(server, "held", "tasks", "--limit", "1", "--output", "json"))["more"] == 2


def test_id_and_all_together_are_wrong_usage(server: Server) -> None:
    assert against(server, "held", "replay", "0-1", "--all").exit_code == 2


def test_held_replay_with_id_and_yes_works_as_the_readme_prints_it(server: Server) -> None:
    against(server, "order", "register", "B1", "--account", "strict", "--amount", "12.80")
    done = against(server, "held", "replay", "0-1", "--yes")
    assert (done.exit_code, "applied" in done.stdout) == (0, True)


def test_several_are_discarded_by_a_task_only_with_yes(server: Server) -> None:
    discard = ("held", "discard", "0-1", "0-2", "--reason", "tests")
    dry = against(server, *discard)
    assert (dry.exit_code, "nothing was done" in dry.stdout, server.world.store.decided) == (0, True, [])
    loop = server.world.replayer()
    running = server.start(loop.run())
    done = against(server, *discard, "--yes", "--rate", "500")
    assert (done.exit_code, "2 of 2" in done.stdout, "discarded 2" in " ".join(done.stdout.split())) == (0, True, True)
    refused = against(server, "held", "accept", "0-1", "0-2", "--reason", "tests", "--yes", "--output", "json")
    assert (refused.exit_code, parsed(refused)["total"]) == (0, 0), "there is nothing left to decide"
    server.world_call(loop.stop)
    running.result(10)


def test_several_that_are_refused_exit_with_3_and_say_why(server: Server) -> None:
    loop = server.world.replayer()
    running = server.start(loop.run())
    refused = against(server, "held", "accept", "0-1", "0-2", "--reason", "tests", "--yes")
    server.world_call(loop.stop)
    running.result(10)
    assert (refused.exit_code, "2 accept is for another amount" in " ".join(refused.stdout.split())) == (3, True)
