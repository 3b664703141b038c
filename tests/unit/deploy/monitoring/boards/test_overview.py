"""The objectives on the overview: each has its budget and its burn, from series that are recorded."""

import re

import pytest

from deploy.monitoring import objectives
from deploy.monitoring.boards.overview import OVERVIEW
from deploy.monitoring.objectives import OBJECTIVES, Objective
from deploy.monitoring.rules import Recording


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: each.sli)
def test_objective_has_its_budget_and_its_burn(objective: Objective) -> None:
    queries = [query.expr for panel in OVERVIEW.panels() for query in panel.queries if objective.sli in query.expr]
    left = [each for each in queries if each.startswith("1 - max(job:")]
    burns = [each for each in queries if each.startswith("max by (job) (job:")]
    assert (len(left), len(burns)) == (1, 3)
    assert all(each.endswith(f"/ {objective.budget:g}") for each in left + burns)


def test_every_recorded_series_that_is_shown_exists() -> None:
    recorded = {rule.record for group in objectives.recordings() for rule in group.rules if isinstance(rule, Recording)}
    shown = {
        name
        for panel in OVERVIEW.panels()
        for query in panel.queries
        for name in re.findall(r"job:\w+:\w+", query.expr)
    }
    assert shown <= recorded
    assert len(shown) == 8
