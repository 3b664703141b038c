"""The board to begin with: are the objectives met, is money arriving, what alerts?"""

from deploy.monitoring.boards.shapes import Board, Panel, Query, Row, quantiles, rate
from deploy.monitoring.objectives import ACK, END_TO_END, Objective

_AT_RISK = "max by (account, currency, age) (alipay_notify_money_at_risk_minor_units{@})"
# Without a payment at risk there is no series.
AT_RISK_BY_CURRENCY = Query(f"sum by (currency) ({_AT_RISK}) or on () vector(0)", "{{currency}}")
AT_RISK_BY_AGE = Query(f"sum by (currency, age) ({_AT_RISK}) or on () vector(0)", "{{currency}} {{age}}")


def _budget_left(objective: Objective, title: str) -> Panel:
    return Panel(
        title=title,
        description=f"Objective: {objective.promise}. At 0 the budget of the last three days is spent.",
        unit="percentunit",
        queries=(
            Query(f'1 - max({objective.ratio("3d")}{{job=~"$job"}}) / {objective.budget:g}', "left of three days"),
        ),
        kind="stat",
        limits=(0.0, 0.5),
        is_low_bad=True,
        width=3,
    )


def _burn(objective: Objective, title: str) -> Panel:
    return Panel(
        title=title,
        description="1 spends exactly the budget. A page comes above 14.4 (5 m and 1 h) or 6 (30 m and 6 h).",
        unit="x",
        queries=tuple(
            Query(
                f'max by (job) ({objective.ratio(window)}{{job=~"$job"}}) / {objective.budget:g}',
                f"{{{{job}}}} {window}",
            )
            for window in ("5m", "1h", "6h")
        ),
        limits=(6.0, 14.4),
    )


OVERVIEW = Board(
    id="overview",
    title="Overview and objectives",
    description="Are notifications answered and applied in time, is money arriving, and what alerts?",
    rows=(
        Row(
            title="Now",
            panels=(
                _budget_left(ACK, "Budget left: answers"),
                _budget_left(END_TO_END, "Budget left: orders"),
                Panel(
                    title="Accepted",
                    description="Notifications accepted per second.",
                    unit="reqps",
                    queries=(rate("alipay_notify_received_total", matchers='outcome="accepted",'),),
                    kind="stat",
                    width=3,
                ),
                Panel(
                    title="Longest wait",
                    description="Age of the oldest unprocessed notification. Alipay's second try comes at 240 s.",
                    unit="s",
                    queries=(Query("max(alipay_notify_consumer_lag_seconds{@})", "oldest"),),
                    kind="stat",
                    limits=(30.0, 240.0),
                    width=3,
                ),
                Panel(
                    title="Money at risk",
                    description="Payments that are held and not applied, in the currency's smallest unit.",
                    unit="short",
                    queries=(AT_RISK_BY_CURRENCY,),
                    kind="stat",
                    limits=(1.0,),
                    width=6,
                ),
                Panel(
                    title="Held",
                    description="Notifications that wait for a person or for their order.",
                    unit="short",
                    queries=(Query("max by (disposition) (alipay_notify_held_notifications{@})", "{{disposition}}"),),
                    kind="stat",
                    width=3,
                ),
                Panel(
                    title="Ready",
                    description="Processes that are ready, by job.",
                    unit="short",
                    queries=(Query("sum by (job) (alipay_notify_ready{@})", "{{job}}"),),
                    kind="stat",
                    width=3,
                ),
            ),
        ),
        Row(
            title="Objectives",
            panels=(
                _burn(ACK, "Burn rate of answers"),
                _burn(END_TO_END, "Burn rate of orders"),
                Panel(
                    title="Alerts",
                    description="Alerts that fire. Each has a runbook of its name in deploy/runbooks.",
                    unit="short",
                    queries=(
                        Query(
                            'count by (alertname, severity) (ALERTS{alertname=~"AlipayNotify.+",alertstate="firing"})'
                            " or on () vector(0)",
                            "{{alertname}} {{severity}}",
                        ),
                    ),
                    is_stacked=True,
                ),
            ),
        ),
        Row(
            title="Requests",
            panels=(
                Panel(
                    title="Answers by status",
                    description="200 is accepted; 503 is overload or an outage; the others are refusals.",
                    unit="reqps",
                    queries=(rate("http_server_request_duration_seconds_count", "http_response_status_code"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Time to answer",
                    description="From the end of a request's header to its answer. Alipay waits for some seconds.",
                    unit="s",
                    queries=quantiles("http_server_request_duration_seconds"),
                    limits=(1.0, 3.0),
                ),
                Panel(
                    title="Requests in flight",
                    description="Requests that are being answered.",
                    unit="short",
                    queries=(Query("sum by (instance) (http_server_active_requests{@})", "{{instance}}"),),
                ),
            ),
        ),
        Row(
            title="Money and trades",
            is_collapsed=True,
            panels=(
                Panel(
                    title="Paid per second",
                    description="Amounts of orders that became paid, in the currency's smallest unit.",
                    unit="short",
                    queries=(rate("alipay_notify_amount_minor_units_total", "currency"),),
                    width=12,
                ),
                Panel(
                    title="Money at risk by age",
                    description="Held for less than 1 h, less than 24 h, or longer, in the currency's smallest unit.",
                    unit="short",
                    queries=(AT_RISK_BY_AGE,),
                    is_stacked=True,
                    width=12,
                ),
                Panel(
                    title="Money at risk is complete",
                    description="0: it could not be read, or is that of the oldest 1,000 held notifications.",
                    unit="short",
                    queries=(Query("min(alipay_notify_money_at_risk_complete{@})", "complete"),),
                    limits=(1.0,),
                    is_low_bad=True,
                    width=12,
                ),
                Panel(
                    title="Trade status",
                    description="Notifications processed, by Alipay's trade status.",
                    unit="reqps",
                    queries=(rate("alipay_notify_trade_status_total", "trade_status"),),
                    is_stacked=True,
                    width=12,
                ),
            ),
        ),
        Row(
            title="Processes",
            is_collapsed=True,
            panels=(
                Panel(
                    title="Releases",
                    description="Processes by version.",
                    unit="short",
                    queries=(
                        Query("count by (version, python) (alipay_notify_build_info{@})", "{{version}}, {{python}}"),
                    ),
                ),
                Panel(
                    title="CPU",
                    description="Processor time per second; 1 is a whole processor.",
                    unit="percentunit",
                    queries=(rate("process_cpu_seconds_total", "job", "instance"),),
                ),
                Panel(
                    title="Memory",
                    description="Resident memory.",
                    unit="bytes",
                    queries=(Query("process_resident_memory_bytes{@}", "{{job}} {{instance}}"),),
                ),
                Panel(
                    title="Open files",
                    description="Share of the file descriptors that the process may open.",
                    unit="percentunit",
                    queries=(Query("process_open_fds{@} / process_max_fds{@}", "{{job}} {{instance}}"),),
                    limits=(0.7, 0.9),
                ),
                Panel(
                    title="Since the start",
                    description="How long each process has run.",
                    unit="s",
                    queries=(Query("time() - process_start_time_seconds{@}", "{{job}} {{instance}}"),),
                ),
                Panel(
                    title="Garbage collections",
                    description="Collections per second, by generation.",
                    unit="ops",
                    queries=(rate("python_gc_collections_total", "generation"),),
                ),
            ),
        ),
    ),
)
