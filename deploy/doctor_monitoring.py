"""The checks of `doctor` on a Prometheus: it scrapes our processes, has the shipped alerts, and sends them on."""

import re
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import msgspec
from msgspec import Struct

from deploy.doctor import Finding, FindingState

ANSWERS_WITHIN_S = 5.0
RULES = Path(__file__).parent / "prometheus" / "rules"
OURS = "count by (job) (alipay_notify_build_info)"
NAMED_MAX = 3  # names in one finding; a terminal's line has no room for all


class _Rule(Struct):
    name: str
    last_error: str = msgspec.field(name="lastError", default="")


class _RuleGroup(Struct):
    rules: list[_Rule]


class _Rules(Struct):
    groups: list[_RuleGroup]


class _Target(Struct):
    labels: dict[str, str]
    health: str
    last_error: str = msgspec.field(name="lastError", default="")


class _Targets(Struct):
    active: list[_Target] = msgspec.field(name="activeTargets", default_factory=list)


class _Alertmanagers(Struct):
    active: list[dict[str, str]] = msgspec.field(name="activeAlertmanagers", default_factory=list)


class _Sample(Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Result(Struct):
    result: list[_Sample]


def examine(url: str) -> list[Finding]:
    """Return the findings about the Prometheus at this address."""
    try:
        return [*_targets(url), *_rules(url), *_alertmanagers(url)]
    except (URLError, HTTPException, OSError, ValueError, msgspec.MsgspecError) as error:
        advice = "start Prometheus, or give --prometheus the address that its web page has"
        return [Finding(name="Prometheus", state=FindingState.WRONG, detail=f"{url}: {error}", advice=advice)]


def shipped_alerts() -> set[str]:
    """Return the names of the alerts in the shipped rule files."""
    texts = (file.read_text(encoding="utf-8") for file in RULES.glob("*.yml"))
    return {name for text in texts for name in re.findall(r"^ *- alert: (\w+)$", text, re.MULTILINE)}


def _targets(url: str) -> Iterator[Finding]:
    seen = _asked(url, f"query?query={quote(OURS)}", _Result).result
    if seen:
        counts = ", ".join(f"{sample.metric.get('job', '')} {sample.value[1]}" for sample in seen)
        yield Finding(name="Prometheus", state=FindingState.OK, detail=f"scrapes our processes: {counts}")
    else:
        advice = "list the admin ports in targets/*.json beside prometheus.yml"
        yield Finding(name="Prometheus", state=FindingState.WRONG, detail="scrapes no process of ours", advice=advice)
    jobs = {sample.metric.get("job", "") for sample in seen}
    for target in _asked(url, "targets?state=active", _Targets).active:
        if target.health == "down" and target.labels.get("job") in jobs:
            where = f"{target.labels.get('job')} {target.labels.get('instance')}"
            advice = "start the process, or remove it from the targets"
            detail = f"{where} cannot be scraped: {target.last_error}"
            yield Finding(name="Prometheus", state=FindingState.WRONG, detail=detail, advice=advice)


def _rules(url: str) -> Iterator[Finding]:
    loaded = [rule for group in _asked(url, "rules", _Rules).groups for rule in group.rules]
    for rule in loaded:
        if rule.last_error:
            advice = "compare the loaded rules with deploy/prometheus/rules of this release"
            detail = f"{rule.name}: {rule.last_error}"
            yield Finding(name="alerts", state=FindingState.WRONG, detail=detail, advice=advice)
    shipped = shipped_alerts()
    missing = sorted(shipped - {rule.name for rule in loaded})
    if not missing:
        yield Finding(name="alerts", state=FindingState.OK, detail=f"all {len(shipped)} are loaded")
        return
    named = ", ".join(missing[:NAMED_MAX]) + (" …" if len(missing) > NAMED_MAX else "")
    state = FindingState.WRONG if len(missing) == len(shipped) else FindingState.NOTE
    advice = "put deploy/prometheus/rules where `rule_files` of prometheus.yml finds them, and reload"
    detail = f"{len(missing)} of {len(shipped)} are not loaded: {named}"
    yield Finding(name="alerts", state=state, detail=detail, advice=advice)


def _alertmanagers(url: str) -> Iterator[Finding]:
    active = _asked(url, "alertmanagers", _Alertmanagers).active
    if active:
        detail = f"alerts go to {', '.join(sorted(each['url'] for each in active))}"
        yield Finding(name="Alertmanager", state=FindingState.OK, detail=detail)
        return
    advice = "list it in alertmanagers/*.json beside prometheus.yml"
    yield Finding(name="Alertmanager", state=FindingState.NOTE, detail="alerts go nowhere", advice=advice)


def _asked(url: str, path: str, shape: type[Any]) -> Any:
    """Return the `data` of an answer of Prometheus' API."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("the address has to begin with http:// or https://")
    with urlopen(f"{url.rstrip('/')}/api/v1/{path}", timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310
        envelope = msgspec.json.decode(answer.read(), type=dict[str, msgspec.Raw])
    return msgspec.json.decode(envelope["data"], type=shape)
