"""`audit`: the actions of operators, by subject, action, name and time."""

import pytest

from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed


@pytest.fixture(autouse=True)
def registered(server: Server) -> None:
    for number in range(3):
        against(server, "order", "register", f"A{number}", "--account", "shop", "--amount", "12.80")


def test_newest_actions_are_listed_with_name_and_subject(server: Server) -> None:
    shown = against(server, "audit", "--limit", "2")
    assert (shown.exit_code, shown.stdout.index("shop:A2") < shown.stdout.index("shop:A1")) == (0, True)
    assert "shop:A0" not in shown.stdout
    assert "--all" in shown.stderr
    assert "shop:A0" in against(server, "audit", "--all").stdout


def test_filters_narrow_the_list(server: Server) -> None:
    entries = parsed(against(server, "audit", "--subject", "shop:A1", "--output", "json"))["entries"]
    assert [(entry["action"], entry["order"]) for entry in entries] == [("register", "A1")]
    nothing = against(server, "audit", "--action", "discard")
    assert (nothing.exit_code, nothing.stdout, "No recorded action matches" in nothing.stderr) == (0, "", True)


@pytest.mark.parametrize("filter_", [("--action", "guess"), ("--since", "yesterday")])
def test_unknown_filter_is_wrong_usage(server: Server, filter_: tuple[str, str]) -> None:
    refused = against(server, "audit", *filter_)
    assert (refused.exit_code, "must" in refused.stderr) == (2, True)
