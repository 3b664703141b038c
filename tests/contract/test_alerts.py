"""Rules and alerts with the real promtool: each alert fires, stays silent, and clears."""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local import programs
from deploy.local.machine import Machine, Missing
from deploy.monitoring import alerts, files, objectives, rules
from deploy.monitoring.rules import PREFIX, Alert, Group, Links
from tests.contract.alert_cases import ALL, Case, http
from tests.support import monitored, real_servers

ALERTS = {alert.name: alert for alert in alerts.table()}


@pytest.fixture(scope="module")
def promtool() -> Path:
    machine = Machine(environ=dict(os.environ))
    try:
        return asyncio.run(machine.find(programs.PROMETHEUS)).with_name("promtool")
    except Missing as missing:
        real_servers.absent(missing)


def run(promtool: Path, *arguments: str | Path) -> str:
    """Run promtool, which has to succeed."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_have_no_fault(promtool: Path) -> None:
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", files.RECORDINGS, files.ALERTS)


def test_rules_with_shorter_durations_have_no_fault_either(promtool: Path, tmp_path: Path) -> None:
    for name, text in monitored.shorter_rules().items():
        (tmp_path / name).write_text(text)
    run(promtool, "check", "rules", *sorted(tmp_path.iterdir()))


def test_every_alert_is_tried() -> None:
    assert ALL.keys() == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_alert_fires_stays_silent_and_clears(name: str, promtool: Path, tmp_path: Path) -> None:
    alert, tried = ALERTS[name], ALL[name]
    # The alert alone, as the committed file has it, because promtool evaluates every rule at every step.
    rule_file = tmp_path / "rules.yml"
    only = Group(name="tried", rules=[alert])
    rule_file.write_text(rules.yaml([*(objectives.recordings() if "BudgetBurn" in name else ()), only]))
    file = tmp_path / "test.json"  # JSON is YAML
    tests = [group(alert, case) for case in tried.cases()]
    assert len(tests) >= 3
    file.write_text(
        json.dumps({"rule_files": [str(rule_file)], "evaluation_interval": tried.step, "tests": tests}), "utf-8"
    )
    run(promtool, "test", "rules", file)


def test_share_of_bad_events_is_never_negative(promtool: Path, tmp_path: Path) -> None:
    """A process that has just started, and whose first answer was slow."""
    good, all_, *_ = http("")
    name = objectives.ACK.ratio("1h")
    test = {
        "interval": "1m",
        "input_series": [{"series": good, "values": "10+10x10"}, {"series": all_, "values": "12+10x10"}],
        "promql_expr_test": [
            {
                "expr": name,
                "eval_time": "10m",
                "exp_samples": [{"labels": f'{name}{{job="ingest"}}', "value": 0}],
            }
        ],
    }
    file = tmp_path / "test.json"
    whole = {"rule_files": [str(files.RECORDINGS)], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(json.dumps(whole), "utf-8")
    run(promtool, "test", "rules", file)


def group(alert: Alert, case: Case) -> Mapping[str, object]:
    """Return a test group of promtool."""
    return {
        "name": f"{alert.name} {case.what}",
        "interval": case.step,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": f"{PREFIX}{alert.name}",
                "exp_alerts": [
                    {
                        "exp_labels": dict(labels) | {"severity": alert.severity},
                        "exp_annotations": shown(alert, labels),
                    }
                    for labels in fired
                ],
            }
            for at, fired in case.alerts.items()
        ],
    }


def shown(alert: Alert, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations as Prometheus renders them."""
    found = rules.annotations(alert, Links())
    for label, value in labels.items():
        found = {key: text.replace(f"{{{{ $labels.{label} }}}}", value) for key, text in found.items()}
    return found
