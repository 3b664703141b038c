"""The page about a drill."""

from deploy.monitoring import alerts
from deploy.monitoring.rules import Alert
from tests.drill.run import Drill, Result

_HEAD = """\
# A drill

Five faults on a whole cluster on one machine: what tells of each, after how many seconds, and what to do. Written by
`python -m tests.drill --page deploy/docs/drill.md`, which starts what `make stack` starts, and has these faults for
real; it takes about 20 minutes.

Measured on {date} UTC, on {cores} cores, which also ran the stack, the payments and other work: load average {low:.1f}
to {high:.1f}. Prometheus scrapes every 2 s here (15 s as shipped, which adds up to 13 s to each alert) and evaluates
rules every 15 s. The alerts are the shipped ones, with their full durations. One order was paid each second. Seconds
count from the fault.

| fault | page | command | alert pending | in Alertmanager | |
|---|---|---|---|---|---|
{rows}

*pending*: Prometheus has seen it, and the rule's `for` begins. Alertmanager then waits 10 s (pages) or 30 s (tickets)
before it notifies anybody, so that alerts come in groups (`group_wait` of the shipped configuration; not measured).
Receivers look at the copies in Kafka once a minute, so the last row may come up to a minute later, or sooner.
"""

_ONE = """
## {title}

| | |
|---|---|
| page | {where}: after {page:.1f} s, “{page_words}” |
| command | `{command}`: after {command_s:.1f} s, “{command_words}” |
| alert | [{alert}](../runbooks/{alert}.md), {severity}: {alerted} |
| other alerts | {others} |
| what to do | {todo} |
| payments meanwhile | {payments} |
| then | {ended}{normal} |
"""


def text(drill: Drill) -> str:
    """Return the page."""
    loads = [load for result in drill.results for load in result.load]
    head = _HEAD.format(
        date=f"{drill.began:%Y-%m-%d %H:%M}",
        cores=drill.cores,
        low=min(loads),
        high=max(loads),
        rows="\n".join(map(_row, drill.results)),
    )
    return head + "".join(map(_one, drill.results))


def _row(result: Result) -> str:
    alert = result.fault.alert
    seconds = (f"{each.after_s:.0f} s" for each in (result.page, result.command, result.pending, result.alert))
    return f"| {result.fault.title} | {' | '.join(seconds)} | [{alert}](../runbooks/{alert}.md) |"


def _one(result: Result) -> str:
    fault = result.fault
    (rule,) = (each for each in alerts.table() if each.name == fault.alert)
    return _ONE.format(
        title=fault.title,
        where=fault.where,
        page=result.page.after_s,
        page_words=_cell(result.page.words),
        command=fault.words,
        command_s=result.command.after_s,
        command_words=_cell(result.command.words),
        alert=fault.alert,
        severity="a page" if rule.severity == "critical" else "a ticket",
        alerted=_alerted(result, rule),
        others=", ".join(f"[{name}](../runbooks/{name}.md)" for name in result.others) or "none",
        todo=fault.todo,
        payments=_payments(result),
        ended=fault.ended,
        normal=_normal(result),
    )


def _alerted(result: Result, rule: Alert) -> str:
    for_ = f", then `for: {rule.for_}`" if rule.for_ != "0s" else ""
    return f"pending after {result.pending.after_s:.1f} s{for_}, in Alertmanager after {result.alert.after_s:.1f} s"


def _payments(result: Result) -> str:
    fared = result.fared
    refused = "all acknowledged" if not fared.refused else f"{fared.refused} not acknowledged, which Alipay sends again"
    return (
        f"{fared.count} sent, {refused}, the slowest answer after {fared.answer_s * 1000:.0f} ms; "
        f"the slowest order event {fared.event_s:.1f} s after its receipt"
    )


def _normal(result: Result) -> str:
    after = f"; the command finds it no more after {result.normal.after_s:.1f} s" if result.normal else ""
    return after + (f"; the alert has left Alertmanager after {result.cleared.after_s:.1f} s" if result.cleared else "")


def _cell(words: str) -> str:
    return words.replace("|", r"\|")
