"""`whoami`: the name by which actions are recorded, and the commands that record it."""

import json
from pathlib import Path

import pytest

from deploy.cli import admin
from tests.support.admin import TOKEN, form
from tests.unit.deploy.cli import admin_server
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against
from workers.admin.operators import Operator
from workers.audit import AuditQuery

ALICE = Operator("alice", b"the-token-of-alice")
OPERATORS = (ALICE, Operator("bob", b"the-token-of-bob"))


@pytest.mark.parametrize("line", ["alice: the-token-of-alice\n", "the-token-of-alice"])
def test_actions_are_recorded_by_the_name_of_the_token_not_of_the_user(line: str, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(line)
    option = ("--token-file", str(file))
    with admin_server.running(operators=OPERATORS) as server:
        server.do(server.world.deliver(form("B1"), "strict"))
        shown = against(server, "whoami", *option, token="")
        assert (shown.exit_code, shown.stdout) == (0, "alice, by the name of your token\n")
        answer = json.loads(against(server, "whoami", *option, "--output", "json", token="").stdout)
        assert answer == {"operator": "alice", "signed_in": True, "token_needed": True}
        for command in (
            ("order", "register", "A1", "--account", "shop", "--amount", "12.80"),
            ("held", "show", "0-1", "--reveal", "--reason", "asked"),
            ("held", "snooze", "0-1", "--until", "4h", "--reason", "asked"),
            ("held", "discard", "0-1", "--reason", "asked"),
        ):
            done = against(server, *command, *option, token="")
            assert done.exit_code == 0, done.output
        found = server.do(server.world.audit.audit_list(AuditQuery()))
    assert {each.by for each in found.entries} == {"alice (token, 127.0.0.1)"}


def test_file_with_several_tokens_is_wrong_usage_and_none_of_them_is_printed(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "all"
    file.write_text(f"alice: the-token-of-alice\nbob: {TOKEN}\n")
    refused = against(server, "whoami", "--token-file", str(file), token="")
    assert (refused.exit_code, "a file of your own" in " ".join(refused.output.split())) == (2, True)
    assert TOKEN not in refused.output


def test_without_a_name_it_is_the_user_of_this_machine(server: Server) -> None:
    shown = against(server, "whoami")
    assert (shown.exit_code, shown.stdout) == (0, f"{admin.user()}, the user of this machine: your token has no name\n")
    with admin_server.running(operators=()) as open_:
        shown = against(open_, "whoami", token="")
    assert shown.stdout == f"{admin.user()}, the user of this machine: the server needs no token\n"


def test_missing_or_wrong_token_fails_with_the_option_for_it(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "old"
    file.write_text("the-token-of-last-year")
    for option, text in (((), "Writes need a token"), (("--token-file", str(file)), "is another one")):
        refused = against(server, "whoami", *option, token="")
        assert (refused.exit_code, text in refused.stderr) == (1, True)


def test_server_that_does_not_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = against("http://127.0.0.1:1", "whoami", token="")
    assert (refused.exit_code, "No server answers" in refused.stderr) == (1, True)
