"""What a run says at its end: for programs one object whose fields stay, for people a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deploy.load.judge import Discrepancy, Wrong
from deploy.load.run import Result

SHOWN_MAX = 20
BEHIND_MS_MAX = 5.0


def stable(result: Result) -> dict[str, object]:
    """The result as JSON; every field is always there."""
    plan, figures, verified = result.plan, result.figures, result.verified
    return {
        "passed": passed(result),
        "to": plan.to,
        "seed": plan.seed,
        "rate_asked": plan.rate,
        "duration_s": plan.duration_s,
        "processes": plan.processes,
        "connections": plan.limits.connections,
        "retry": plan.repeat,
        "told": dict(result.told),
        "calls": figures.calls,
        "repeats": figures.repeats,
        "seconds": round(figures.seconds, 3),
        "rate": round(figures.rate, 1),
        "acknowledged_per_s": round(figures.acknowledged_rate, 1),
        "sender_behind_p99_ms": round(figures.behind_ms, 3),
        "answers": {
            "ok": figures.ok,
            "refused": sum(figures.refused.values()),
            "silent": sum(figures.silent.values()),
            "unsent": figures.unsent,
        },
        "refused_by_status": {str(status): count for status, count in sorted(figures.refused.items())},
        "silent_by_cause": dict(sorted(figures.silent.items())),
        "latency_ms": {name: round(value, 3) for name, value in percentiles(result)},
        "verification": None
        if verified is None
        else {
            "orders": verified.orders,
            "records": verified.records,
            "records_beyond_answers": verified.records_beyond_answers,
            "events": verified.events,
            "copies_of_events": verified.copies_of_events,
            "seconds": round(verified.seconds, 3),
        },
        "findings": totals(result.findings),
        "first_findings": [_plain(finding) for finding in result.findings[:SHOWN_MAX]],
    }


def passed(result: Result) -> bool:
    """Whether all is as it has to be. A run of which nothing was acknowledged has shown nothing."""
    return not result.findings and result.figures.ok > 0


def totals(findings: Sequence[Discrepancy]) -> dict[str, int]:
    """How many of each; those of which there are none too."""
    counts = Counter(finding.what for finding in findings)
    return {what.value: counts[what] for what in Wrong}


def percentiles(result: Result) -> list[tuple[str, float]]:
    """The latencies by their names."""
    latency = result.figures.latency_ms
    return [(name, getattr(latency, name)) for name in ("p50", "p90", "p99", "p99_9", "max")]


def facts(result: Result) -> list[tuple[str, str]]:
    """The result in lines for people."""
    plan, figures, verified = result.plan, result.figures, result.verified
    told = result.told
    told_of = f"{told['new']:,} new, {told['duplicates']:,} duplicates, {told['forged']:,} forged"
    lines = [
        ("told", f"{told_of}; {told['orders']:,} orders"),
        ("rate", f"{figures.rate:,.1f}/s of {plan.rate:,g}/s asked, {figures.acknowledged_rate:,.1f}/s acknowledged"),
        ("latency", ", ".join(f"{name.replace('_', '.')} {value:,.1f} ms" for name, value in percentiles(result))),
        ("answers", _answers(result)),
    ]
    if verified is not None:
        looked = f"{verified.orders:,} orders, {verified.records:,} records, {verified.events:,} events"
        lines.append(("verified", f"{looked} in {verified.seconds:,.1f} s"))
    return lines


def _answers(result: Result) -> str:
    figures = result.figures
    parts = [f"{figures.ok:,} success"]
    parts += [f"{count:,} {status}" for status, count in sorted(figures.refused.items())]
    parts += [f"{count:,} {why}" for why, count in sorted(figures.silent.items())]
    parts += [f"{figures.unsent:,} never sent"] if figures.unsent else []
    parts += [f"{figures.repeats:,} of them sent again"] if figures.repeats else []
    return ", ".join(parts)


def warnings(result: Result) -> list[str]:
    """What makes the figures worth less than they look."""
    figures, told = result.figures, []
    if figures.behind_ms > BEHIND_MS_MAX:
        told.append(
            f"The sender itself was {figures.behind_ms:,.1f} ms late at p99: latencies are partly its own. "
            "More --processes, or less else on this machine."
        )
    if figures.unsent:
        told.append(f"{figures.unsent:,} requests found no free connection: the receiver could not keep the rate.")
    if result.verified is None:
        told.append("Only the answers were judged. --admin URL looks at what became of each notification.")
    return told


def _plain(finding: Discrepancy) -> dict[str, str]:
    return {
        "what": finding.what.value,
        "account": finding.account,
        "order": finding.order,
        "notification_id": finding.notification_id,
        "detail": finding.detail,
    }
