"""Report the result of a run: one JSON object with stable fields, or lines for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deploy.load.judge import Discrepancy, DiscrepancyKind
from deploy.load.run import Result

SHOWN_MAX = 20
BEHIND_MS_MAX = 5.0


def as_json(result: Result) -> dict[str, object]:
    """Return the result as a JSON object; every field is always present."""
    plan, figures, verified = result.plan, result.figures, result.verified
    return {
        "passed": passed(result),
        "to": plan.to,
        "seed": plan.seed,
        "rate_asked": plan.rate,
        "duration_s": plan.duration_s,
        "processes": plan.processes,
        "connections": plan.limits.connections,
        "retry": plan.retry,
        "told": dict(result.sent),
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
    """Return whether the run has no findings. A run without any acknowledged request proves nothing and fails."""
    return not result.findings and result.figures.ok > 0


def totals(findings: Sequence[Discrepancy]) -> dict[str, int]:
    """Return the number of findings of each kind, including zeros."""
    counts = Counter(finding.kind for finding in findings)
    return {kind.value: counts[kind] for kind in DiscrepancyKind}


def percentiles(result: Result) -> list[tuple[str, float]]:
    """Return the latencies in milliseconds, by name."""
    latency = result.figures.latency_ms
    return [(name, getattr(latency, name)) for name in ("p50", "p90", "p99", "p99_9", "max")]


def facts(result: Result) -> list[tuple[str, str]]:
    """Return the result as labels and values for the terminal."""
    plan, figures, verified, sent = result.plan, result.figures, result.verified, result.sent
    requests = f"{sent['new']:,} new, {sent['duplicates']:,} duplicates, {sent['forged']:,} forged"
    lines = [
        ("requests", f"{requests}; {sent['orders']:,} orders"),
        ("rate", f"{figures.rate:,.1f}/s of {plan.rate:,g}/s, {figures.acknowledged_rate:,.1f}/s acknowledged"),
        ("latency", ", ".join(f"{name.replace('_', '.')} {value:,.1f} ms" for name, value in percentiles(result))),
        ("answers", _answers(result)),
    ]
    if verified is not None:
        counts = f"{verified.orders:,} orders, {verified.records:,} records, {verified.events:,} events"
        lines.append(("verified", f"{counts} in {verified.seconds:,.1f} s"))
    return lines


def _answers(result: Result) -> str:
    figures = result.figures
    parts = [f"{figures.ok:,} success"]
    parts += [f"{count:,} {status}" for status, count in sorted(figures.refused.items())]
    parts += [f"{count:,} {why}" for why, count in sorted(figures.silent.items())]
    parts += [f"{figures.unsent:,} never sent"] if figures.unsent else []
    parts += [f"{figures.repeats:,} of them retries"] if figures.repeats else []
    return ", ".join(parts)


def warnings(result: Result) -> list[str]:
    """Return the reasons to trust the figures less."""
    figures, found = result.figures, []
    if figures.behind_ms > BEHIND_MS_MAX:
        found.append(
            f"The sender itself was {figures.behind_ms:,.1f} ms late at p99, which is part of the latencies. "
            "Give it more --processes, or run less on this machine."
        )
    if figures.unsent:
        found.append(f"{figures.unsent:,} requests found no free connection: the receiver could not keep the rate.")
    if result.verified is None:
        found.append("Only the answers were judged. Give --admin URL to verify the orders and events too.")
    return found


def _plain(finding: Discrepancy) -> dict[str, str]:
    return {
        "what": finding.kind.value,
        "account": finding.account,
        "order": finding.order,
        "notification_id": finding.notification_id,
        "detail": finding.detail,
    }
