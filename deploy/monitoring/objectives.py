"""Service level objectives, their recording rules, and the alerts on how fast their error budgets burn.

Two windows for each alert: the long one shows that the burn matters, the short one that it goes on. The factors are
those of Google's SRE workbook, chapter 5: 14.4 spends 2 % of a month's budget in an hour, 6 spends 5 % in six hours.
"""

from collections.abc import Iterator

from msgspec import Struct

from deploy.monitoring.rules import Alert, Group, Recording

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
FAST = (("5m", "1h", 14.4), ("30m", "6h", 6.0))
SLOW = (("2h", "1d", 3.0), ("6h", "3d", 1.0))
# Below this, one bad request of a small shop would be a burn rate.
ENOUGH_TRAFFIC = "sum(increase(alipay_notify_received_total[1h])) > 50"
# Refusals that are the sender's fault.
NOT_OURS = "400|401|403|404|405|408|413|415|431"


class Objective(Struct, frozen=True, kw_only=True):
    """An objective: the share `target` of all events is good. `good` and `all_` are rates by job, with `WINDOW`."""

    sli: str
    name: str  # of its alerts
    target: float
    promise: str
    good: str
    all_: str
    board: str

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.target, 6)

    def ratio(self, window: str) -> str:
        """Return the name of the series with the share of bad events in the window."""
        return f"job:alipay_notify_{self.sli}_errors:ratio_rate{window}"


ACK = Objective(
    sli="ack",
    name="AckBudgetBurn",
    target=0.999,
    promise="99.9 % of notifications are answered 200 within a second",
    good='http_server_request_duration_seconds_bucket{http_response_status_code="200",le="1.0"}',
    all_=f'http_server_request_duration_seconds_count{{http_response_status_code!~"{NOT_OURS}"}}',
    board="overview",
)
END_TO_END = Objective(
    sli="end_to_end",
    name="EndToEndBudgetBurn",
    target=0.99,
    promise="99 % of notifications have their order event within five seconds",
    good='alipay_notify_end_to_end_duration_seconds_bucket{le="5.0"}',
    all_="alipay_notify_end_to_end_duration_seconds_count",
    board="pipeline",
)
OBJECTIVES = (ACK, END_TO_END)


def recordings() -> list[Group]:
    """Return the recording rules: the share of bad events, by objective and window."""
    return [Group(name=f"alipay-notify-{each.sli}", rules=list(_ratios(each))) for each in OBJECTIVES]


def burns() -> Iterator[Alert]:
    """Yield a page and a ticket for each objective."""
    for objective in OBJECTIVES:
        yield _burn(objective, "", FAST, severity="critical", speed="fast")
        yield _burn(objective, "Slow", SLOW, severity="warning", speed="slowly")


def _ratios(objective: Objective) -> Iterator[Recording]:
    for window in WINDOWS:
        good = f"sum by (job) (rate({objective.good}[{window}]))"
        all_ = f"sum by (job) (rate({objective.all_}[{window}]))"
        # Without a good event there is no series of good events, and the whole would be no result instead of 1.
        share = f"1 - (\n    {good}\n    or\n    0 * {all_}\n  )\n  / {all_}"
        # Of a process that has just started, Prometheus may estimate more good events than events: a slow first one
        # makes the two series begin with different values, from which it extrapolates back to zero.
        yield Recording(record=objective.ratio(window), expr=f"clamp_min(\n  {share},\n  0\n)")


def _burn(
    objective: Objective, suffix: str, windows: tuple[tuple[str, str, float], ...], *, severity: str, speed: str
) -> Alert:
    pairs = [
        f"    {objective.ratio(short)} > {limit}\n  and\n    {objective.ratio(long)} > {limit}"
        for short, long, factor in windows
        for limit in [f"({factor:g} * {objective.budget:g})"]
    ]
    either = "\n  or\n".join(pairs)
    return Alert(
        name=f"{objective.name}{suffix}",
        expr=f"(\n{either}\n)\nand on ()\n  {ENOUGH_TRAFFIC}",
        severity=severity,
        for_="2m" if not suffix else "15m",
        summary=f"The error budget of {objective.sli.replace('_', ' ')} burns {speed} ({{{{ $labels.job }}}}).",
        description=f"The objective is: {objective.promise}.",
        board=objective.board,
    )
