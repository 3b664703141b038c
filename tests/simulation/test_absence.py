"""What an outage of the receiver costs with Alipay's real schedule: delays, and nothing lost within a day."""

from pathlib import Path

import pytest

from deploy.sandbox.delivery import PROFILES
from deploy.sandbox.world import World
from tests.simulation import absence
from tests.simulation.absence import Outage
from tests.support.paths import ROOT

H = 60
PAGE = ROOT / "deploy" / "docs" / "guarantees.md"
CHINESE = PROFILES["cn-4m"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place: Path = tmp_path_factory.mktemp("absence") / "world"
    return World.create(place, gateway_url="http://127.0.0.1:1", notify_base="http://127.0.0.1:1")


# Minutes: away, the worst delay, the mean delay, the last one after the return; and the peak, in times of the usual
# rate. Computed from the gaps alone, without this program.
COSTS = [
    (1, 4, 4, 4, 2),
    (10, 14, 10, 10, 2),
    (30, H + 24, 30, H, 4),
    (H, H + 24, 57, H, 4),
    (2 * H, 3 * H + 24, H + 47, 2 * H, 5),
    (4 * H, 9 * H + 24, 3 * H + 29, 6 * H, 6),
    (10 * H, 24 * H + 24, 7 * H + 56, 15 * H, 7),
    (24 * H, 24 * H + 24, 17 * H + 32, 15 * H, 7),
]


@pytest.mark.parametrize(("away", "worst", "mean", "last", "peak"), COSTS, ids=lambda minutes: str(minutes))
def test_outage_costs_what_the_page_says_and_loses_nothing(
    world: World, away: int, worst: int, mean: int, last: int, peak: int
) -> None:
    cost = absence.cost(Outage(away), CHINESE, world)
    assert (cost.wrong, cost.lost, len(cost.delays_s)) == ([], 0, away)
    assert (cost.worst_min, cost.mean_min, cost.last_min, cost.peak) == (worst, mean, last, peak)
    row = f"| {_said(away)} | {_said(worst)} | {_said(mean)} | {_said(last)} | {peak} × |"
    assert row in PAGE.read_text(encoding="utf-8")


def test_only_an_outage_beyond_the_last_retry_loses_some(world: World) -> None:
    cost = absence.cost(Outage(25 * H), CHINESE, world)
    assert cost.wrong == []
    assert cost.lost == 25 * H - (24 * H + 24), "those of the first 36 minutes"


@pytest.mark.parametrize("away", [10, 2 * H, 4 * H])
def test_receiver_whose_log_is_away_refuses_and_works_again_by_itself(world: World, away: int) -> None:
    cost = absence.cost(Outage(away, is_up=True), CHINESE, world)
    assert (cost.wrong, cost.lost, len(cost.delays_s)) == ([], 0, away)


@pytest.mark.parametrize("name", ["global-2m", "odoo", "alt-5s", "cn-immediate3"])
def test_no_schedule_of_alipay_loses_any_in_ten_hours(world: World, name: str) -> None:
    cost = absence.cost(Outage(10 * H), PROFILES[name], world)
    assert (cost.wrong, cost.lost) == ([], 0)


def _said(minutes: int) -> str:
    """Return the minutes as the page has them: 14 min, 3 h, 1 h 24 min."""
    hours, rest = divmod(minutes, H)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
