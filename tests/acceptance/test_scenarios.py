"""Every scenario, for every account that it suits, through a real engine: it ends as its file promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import main
from deploy.sandbox import scenario_files
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.world import World
from tests.acceptance import town
from tests.support.paths import ROOT
from tests.support.processes import Engine

SCENARIOS = scenario_files.load_all()
# One scenario of many orders is enough for one account.
CASES = [
    (name, one.name)
    for name, scenario in SCENARIOS.items()
    for one in IDENTITIES
    if scenario.suits_identity(one) and (scenario.orders == 1 or one.name == "demo-cn")
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, World]]:
    with town.running(tmp_path_factory.mktemp("scenarios"), IDENTITIES) as both:
        yield both


def play(engine: tuple[Engine, World], *arguments: str) -> None:
    running, world = engine
    command = ["trigger", *arguments, "--dir", str(world.directory), "--admin", running.admin, "--check"]
    played = CliRunner().invoke(main.application(), command)
    assert played.exit_code == 0, played.output
    assert "(it is so)" in " ".join(played.output.split())


@pytest.mark.parametrize(("name", "account"), CASES)
def test_scenario_ends_as_it_promises(engine: tuple[Engine, World], name: str, account: str) -> None:
    play(engine, name, "--account", account)


def test_scenario_in_the_docs_ends_as_it_promises(engine: tuple[Engine, World], tmp_path: Path) -> None:
    text = (ROOT / "deploy/docs/sandbox.md").read_text()
    file = tmp_path / "my.toml"
    file.write_text(text.split("```toml\n")[1].split("```")[0])
    play(engine, "--file", str(file))


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_promises_an_end_for_each_account(name: str) -> None:
    scenario = SCENARIOS[name]
    assert all(scenario.end(one) is not None for one in IDENTITIES if scenario.suits_identity(one))
