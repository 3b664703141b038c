"""The shapes of recording rules and alerts, and their YAML.

The YAML is written line by line, because a human reads these files in a merge request and at night.
"""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from deploy.monitoring.durations import AS_SHIPPED, Timing

WRITTEN = "# Written by `python -m deploy.monitoring`; do not edit."
PREFIX = "AlipayNotify"
RESOURCE = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: alipay-notify
  labels: {app.kubernetes.io/name: alipay-notify}
spec:
"""
SEVERITIES = ("critical", "warning", "info")  # a page, a ticket, a notice


class Recording(Struct, frozen=True, kw_only=True):
    """A recording rule."""

    record: str
    expr: str


class Alert(Struct, frozen=True, kw_only=True):
    """An alert. `name` is without the prefix that all have; `board` is the id of the board that shows it best."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    for_: str = "0s"
    keep: str = "5m"  # firing goes on for so long, so that an alert that comes and goes is one notification
    board: str = "overview"


class Group(Struct, frozen=True, kw_only=True):
    """Rules that are evaluated together, in order."""

    name: str
    rules: Sequence[Recording | Alert]


class Links(Struct, frozen=True, kw_only=True):
    """Where runbooks and Grafana are: as shipped, paths in the repository and in Grafana."""

    runbooks: str = "deploy/runbooks"
    grafana: str = ""


def yaml(groups: Iterable[Group], *, timing: Timing = AS_SHIPPED, links: Links | None = None) -> str:
    """Return a rule file."""
    lines = [WRITTEN, "", "groups:"]
    for group in groups:
        lines.append(f"  - name: {group.name}")
        if timing.is_shorter:
            lines.append("    interval: 1s")
        lines.append("    rules:")
        for rule in group.rules:
            lines += _recording(rule, timing) if isinstance(rule, Recording) else _alert(rule, timing, links or Links())
    return "\n".join(lines) + "\n"


def resource(groups: Iterable[Group], *, links: Links | None = None) -> str:
    """Return the groups as a PrometheusRule, for the Prometheus Operator on Kubernetes."""
    text = yaml(groups, links=links).removeprefix(WRITTEN)
    return WRITTEN + "\n" + RESOURCE + textwrap.indent(text.lstrip(), "  ")


def _recording(rule: Recording, timing: Timing) -> Iterator[str]:
    yield f"      - record: {rule.record}"
    yield from _expression(rule.expr, timing)


def _alert(rule: Alert, timing: Timing, links: Links) -> Iterator[str]:
    yield f"      - alert: {PREFIX}{rule.name}"
    yield from _expression(rule.expr, timing)
    for key, duration in (("for", rule.for_), ("keep_firing_for", rule.keep)):
        if duration != "0s":
            yield f"        {key}: {timing.duration(duration)}"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield "        annotations:"
    for key, text in annotations(rule, links).items():
        yield f"          {key}: {json.dumps(text, ensure_ascii=False)}"  # a JSON string is a YAML string


def annotations(rule: Alert, links: Links) -> dict[str, str]:
    """Return the annotations of an alert."""
    return {
        "summary": rule.summary,
        "description": rule.description,
        "runbook_url": f"{links.runbooks}/{rule.name}.md",
        "dashboard_url": f"{links.grafana}/d/alipay-notify-{rule.board}",
    }


def _expression(text: str, timing: Timing) -> Iterator[str]:
    lines = timing.expression(text.strip()).splitlines()
    if len(lines) == 1:
        yield f"        expr: {json.dumps(lines[0], ensure_ascii=False)}"
        return
    yield "        expr: |-"
    yield from (f"          {line}".rstrip() for line in lines)
