"""The table of alerts: names, severities, and metrics that exist."""

import re

from deploy.monitoring import alerts
from deploy.monitoring.rules import SEVERITIES
from schemas import telemetry
from schemas.dispositions import Disposition, Outcome, Reason
from workers.callbacks.schedule import CallbackOutcome
from workers.reconciliation import AnswerKind
from workers.restarts import FailureKind

STANDARD = {"up", "process_start_time_seconds", "kafka_consumergroup_lag"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def names() -> set[str]:
    """Every series that is exported."""
    return {
        family.name + suffix for family in telemetry.CATALOGUE for suffix in SUFFIXES.get(family.kind, ("",))
    } | STANDARD


def test_alerts_have_different_names_and_known_severities() -> None:
    table = alerts.table()
    assert len({alert.name for alert in table}) == len(table)
    assert {alert.severity for alert in table} == {*SEVERITIES}


def test_every_series_that_an_alert_reads_is_exported() -> None:
    for alert in alerts.table():
        read = set(re.findall(r"\b((?:alipay_notify|http_server|kafka|process)_\w+|up)\b", alert.expr))
        read = {name for name in read if f"job:{name}:" not in alert.expr}
        assert read <= names(), alert.name
        assert read or "job:" in alert.expr, alert.name


def test_every_label_value_that_an_alert_reads_exists() -> None:
    known: dict[str, set[str]] = {
        "outcome": {*Outcome, *AnswerKind, *CallbackOutcome, "acquired", "contended_then_acquired", "timeout", "error"},
        "reason": {*Reason, *FailureKind},
        "disposition": {*Disposition},
        "dependency": {"kafka", "journal", "store", "worker"},
    }
    for alert in alerts.table():
        for label, values in known.items():
            for found in re.findall(rf'\b{label}[!=~]+"([^"]+)"', alert.expr):
                assert set(found.split("|")) <= values, alert.name


def test_annotations_name_only_labels_that_the_expression_keeps() -> None:
    scraped = {"job", "instance"}
    for alert in alerts.table():
        named = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", alert.expr) for label in group.split(",")}
        made = set(re.findall(r'label_replace\([^"]*"(\w+)"', alert.expr.replace("\n", " ")))
        aggregated = re.search(r"\b(?:sum|min|max)\b", alert.expr) is not None
        assert named <= kept | made | (set() if aggregated else scraped) | ({"job"} & scraped), alert.name


def test_no_alert_on_a_single_event_misses_one_before_the_first_scrape() -> None:
    """An `increase` alone sees nothing that was counted before a process's first scrape."""
    for alert in alerts.table():
        bare = re.findall(r"increase\(([^()]*)\[\w+\]\)\)? > 0", alert.expr)
        for counter in bare:
            young = f"{counter.strip()} > 0 and on (job, instance) time() - process_start_time_seconds < "
            assert young in alert.expr, alert.name
