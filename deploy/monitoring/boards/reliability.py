"""Retries, held notifications, locks, servers that are down, and failing loops."""

from deploy.monitoring.boards.shapes import Board, Panel, Query, Row, counted, quantiles, rate

CALLBACKS = Row(
    title="Callbacks",
    is_collapsed=True,
    panels=(
        Panel(
            title="Attempts",
            description="Attempts at callbacks by outcome, and events given up after five days.",
            unit="short",
            queries=(counted("alipay_notify_callback_attempts_total", "endpoint", "outcome"),),
        ),
        Panel(
            title="Oldest undelivered event",
            description="How long the oldest event has waited for an endpoint.",
            unit="s",
            queries=(
                Query(
                    "time() - max by (endpoint) (alipay_notify_callback_oldest_timestamp_seconds{@} > 0)",
                    "{{endpoint}}",
                ),
            ),
            limits=(600.0, 3600.0),
        ),
        Panel(
            title="Pending callbacks",
            description="Events that wait for an endpoint. More of them may wait in the outbox.",
            unit="short",
            queries=(Query("max by (endpoint) (alipay_notify_callback_pending_events{@})", "{{endpoint}}"),),
        ),
        Panel(
            title="Disabled endpoints",
            description="1 if the endpoint is disabled and gets no callbacks, else 0.",
            unit="bool_on_off",
            queries=(Query("max by (endpoint) (alipay_notify_callback_disabled{@})", "{{endpoint}}"),),
        ),
    ),
)

RELIABILITY = Board(
    id="reliability",
    title="Reliability",
    description="Retries, held notifications, locks, dependencies, and the processes' own trouble.",
    rows=(
        Row(
            title="Dependencies",
            panels=(
                Panel(
                    title="Dependencies",
                    description="1 if it answers all processes of the job, else 0.",
                    unit="bool_on_off",
                    queries=(
                        Query("min by (job, dependency) (alipay_notify_dependency_up{@})", "{{job}} {{dependency}}"),
                    ),
                ),
                Panel(
                    title="Ready",
                    description="1 if /readyz answers 200, else 0, as in a drain.",
                    unit="bool_on_off",
                    queries=(Query("min by (job, instance) (alipay_notify_ready{@})", "{{job}} {{instance}}"),),
                ),
                Panel(
                    title="Loops that failed",
                    description="Failures of a worker's loops. A bug is restarted; damage needs an operator.",
                    unit="short",
                    queries=(counted("alipay_notify_worker_loop_failures_total", "loop", "reason"),),
                ),
            ),
        ),
        CALLBACKS,
        Row(
            title="Held",
            panels=(
                Panel(
                    title="Held now",
                    description="Unresolved notifications, by disposition.",
                    unit="short",
                    queries=(Query("max by (disposition) (alipay_notify_held_notifications{@})", "{{disposition}}"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Oldest held",
                    description="How long the oldest unresolved one has waited. Alipay does not send it again.",
                    unit="s",
                    queries=(
                        Query(
                            "time() - min by (disposition) (alipay_notify_held_oldest_timestamp_seconds{@} > 0)",
                            "{{disposition}}",
                        ),
                    ),
                    limits=(3600.0, 86_400.0),
                ),
                Panel(
                    title="Became held",
                    description="Notifications held, by disposition and reason.",
                    unit="short",
                    queries=(counted("alipay_notify_held_total", "disposition", "reason"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Parked, by next retry",
                    description="Parked notifications, by the tier of their next retry.",
                    unit="short",
                    queries=(Query("max by (tier) (alipay_notify_retry_pending_notifications{@})", "{{tier}}"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Retries",
                    description="Batches that wait for a server (pause), and parked notifications that came due.",
                    unit="ops",
                    queries=(rate("alipay_notify_retries_total", "tier", "reason"),),
                ),
                Panel(
                    title="Replayed by hand",
                    description="Held notifications that an operator had retried, by result.",
                    unit="short",
                    queries=(counted("alipay_notify_replayed_total", "result"),),
                ),
            ),
        ),
        Row(
            title="Locks",
            is_collapsed=True,
            panels=(
                Panel(
                    title="Locks",
                    description="Idempotency locks by outcome. After timeout and error, work goes on without.",
                    unit="ops",
                    queries=(rate("alipay_notify_claims_total", "outcome"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Waits for locks",
                    description="How long batches waited for their locks.",
                    unit="s",
                    queries=quantiles("alipay_notify_claim_wait_duration_seconds"),
                ),
                Panel(
                    title="Locks held",
                    description="How long batches held their locks. They expire after 30 s.",
                    unit="s",
                    queries=quantiles("alipay_notify_claim_hold_duration_seconds"),
                    limits=(10.0, 30.0),
                ),
                Panel(
                    title="Version conflicts",
                    description="Transactions that the version check turned away; they are decided again.",
                    unit="short",
                    queries=(counted("alipay_notify_fenced_writes_total"),),
                ),
            ),
        ),
        Row(
            title="Processes",
            is_collapsed=True,
            panels=(
                Panel(
                    title="Event loop",
                    description="Delay of the event loop's last timer.",
                    unit="s",
                    queries=(Query("alipay_notify_event_loop_lag_seconds{@}", "{{job}} {{instance}}"),),
                    limits=(0.1, 0.5),
                ),
                Panel(
                    title="Tasks",
                    description="Tasks on the event loop that have not ended. A steady rise is a leak.",
                    unit="short",
                    queries=(Query("alipay_notify_async_tasks{@}", "{{job}} {{instance}}"),),
                ),
                Panel(
                    title="Handling interrupted",
                    description="Readings or decisions that took longer than their limit. Any is a bug.",
                    unit="short",
                    queries=(counted("alipay_notify_handling_interrupted_total", "step"),),
                ),
                Panel(
                    title="Clock",
                    description="How far a machine's clock is ahead of PostgreSQL's, which decides.",
                    unit="s",
                    queries=(Query("alipay_notify_clock_skew_seconds{@}", "{{job}} {{instance}}"),),
                    is_signed=True,
                    limits=(1.0, 2.0),
                ),
                Panel(
                    title="Clock jumps",
                    description="Jumps of a wall clock by two seconds or more.",
                    unit="short",
                    queries=(counted("alipay_notify_clock_jumps_total", "job", "instance"),),
                ),
                Panel(
                    title="Log lines dropped",
                    description="Lines dropped because standard error is read too slowly.",
                    unit="short",
                    queries=(counted("alipay_notify_log_lines_dropped_total", "job", "instance"),),
                ),
                Panel(
                    title="Accounts and keys in use",
                    description="0 if accounts.toml or a key file is faulty, so that older ones are in use.",
                    unit="bool_on_off",
                    queries=(Query("alipay_notify_accounts_last_reload_successful{@}", "{{job}} {{instance}}"),),
                ),
                Panel(
                    title="Age of the accounts in use",
                    description="Time since the accounts and keys in use were read.",
                    unit="s",
                    queries=(
                        Query(
                            "time() - alipay_notify_accounts_last_reload_success_timestamp_seconds{@}",
                            "{{job}} {{instance}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
