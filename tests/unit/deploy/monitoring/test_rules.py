"""The YAML of rules: what another parser reads is what the table has."""

from typing import Any

import msgspec
import pytest

from deploy.monitoring import rules
from deploy.monitoring.durations import Timing
from deploy.monitoring.rules import Alert, Group, Links, Recording

ALERT = Alert(
    name="Late",
    expr="\nmax(x) > 1\nand\n  y[5m]\n",
    severity="warning",
    for_="2m",
    summary='{{ $labels.job }} is "late": 验签失败 # no comment',
    description="-",
)


def read(*made: Recording | Alert, **options: Any) -> list[dict[str, Any]]:
    text = rules.yaml([Group(name="some", rules=made)], **options)
    assert text.startswith("# Written by")
    (group,) = msgspec.yaml.decode(text.encode())["groups"]
    assert group["name"] == "some"
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_alert_is_read_as_it_was_meant() -> None:
    (alert,) = read(ALERT)
    assert alert["alert"] == "AlipayNotifyLate"
    assert alert["expr"] == ALERT.expr.strip()
    assert (alert["for"], alert["keep_firing_for"]) == ("2m", "5m")
    assert alert["labels"] == {"severity": "warning"}
    assert alert["annotations"]["summary"] == ALERT.summary
    assert alert["annotations"]["runbook_url"] == "deploy/runbooks/Late.md"


def test_recording_is_read_as_it_was_meant() -> None:
    assert read(Recording(record="a:b", expr='x{y="z"}')) == [{"record": "a:b", "expr": 'x{y="z"}'}]


def test_alert_without_wait_has_none() -> None:
    (alert,) = read(msgspec.structs.replace(ALERT, for_="0s", keep="0s"))
    assert not {"for", "keep_firing_for"} & alert.keys()


def test_shorter_durations_are_rendered() -> None:
    (alert,) = read(ALERT, timing=Timing(divisor=60))
    assert (alert["for"], alert["expr"]) == ("2s", "max(x) > 1\nand\n  y[5s]")


def test_shorter_rules_are_evaluated_each_second() -> None:
    group = Group(name="some", rules=[ALERT])
    assert "    interval: 1s\n" in rules.yaml([group], timing=Timing(divisor=60))
    assert "interval" not in rules.yaml([group])


@pytest.mark.parametrize(("grafana", "shown"), [("", ""), ("https://g.example", "https://g.example")])
def test_links_lead_to_the_given_addresses(grafana: str, shown: str) -> None:
    (alert,) = read(ALERT, links=Links(runbooks="https://w.example/r", grafana=grafana))
    assert alert["annotations"]["runbook_url"] == "https://w.example/r/Late.md"
    assert alert["annotations"]["dashboard_url"] == f"{shown}/d/alipay-notify-overview"
