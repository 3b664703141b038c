"""Objectives: their recording rules, and the alerts that read them."""

import re

from deploy.monitoring import objectives
from ingest.metrics import ROUTE
from schemas import telemetry


def test_every_window_that_an_alert_reads_is_recorded() -> None:
    recorded = {rule.record for group in objectives.recordings() for rule in group.rules if hasattr(rule, "record")}
    read = {name for alert in objectives.burns() for name in re.findall(r"job:\w+:\w+", alert.expr)}
    assert read == recorded


def test_budget_is_what_the_objective_leaves() -> None:
    assert objectives.ACK.budget == 0.001
    assert objectives.END_TO_END.budget == 0.01


def test_bounds_of_good_events_are_buckets() -> None:
    """A bound that is no bucket would have no series."""
    assert 'le="1.0"' in objectives.ACK.good
    assert 1.0 in telemetry.HTTP_DURATION.buckets
    assert 'le="5.0"' in objectives.END_TO_END.good
    assert 5.0 in telemetry.END_TO_END.buckets
    assert ROUTE == "/notify/{account}"


def test_each_objective_has_a_page_and_a_ticket() -> None:
    found = {alert.name: alert.severity for alert in objectives.burns()}
    assert found == {
        "AckBudgetBurn": "critical",
        "AckBudgetBurnSlow": "warning",
        "EndToEndBudgetBurn": "critical",
        "EndToEndBudgetBurnSlow": "warning",
    }
