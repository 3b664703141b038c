"""The way of a notification: log, lag, batch, order event."""

from deploy.monitoring.boards.shapes import Board, Panel, Query, Row, counted, quantiles, rate

PIPELINE = Board(
    id="pipeline",
    title="Pipeline",
    description="Where a notification spends its time, from the receiver to the order event.",
    rows=(
        Row(
            title="End to end",
            panels=(
                Panel(
                    title="Receipt to order event",
                    description="From the receipt until the order event is acknowledged. The objective is 5 s.",
                    unit="s",
                    queries=quantiles("alipay_notify_end_to_end_duration_seconds"),
                    limits=(5.0, 60.0),
                ),
                Panel(
                    title="Lag in seconds",
                    description="Age of the oldest record without a disposition, by partition.",
                    unit="s",
                    queries=(
                        Query("max by (topic, partition) (alipay_notify_consumer_lag_seconds{@})", "{{partition}}"),
                    ),
                    limits=(30.0, 240.0),
                ),
                Panel(
                    title="Lag in records",
                    description="Records without a disposition, by partition.",
                    unit="short",
                    queries=(
                        Query("max by (topic, partition) (alipay_notify_consumer_lag_messages{@})", "{{partition}}"),
                    ),
                ),
            ),
        ),
        Row(
            title="Receiver and log",
            panels=(
                Panel(
                    title="Append",
                    description="Time until a record is durable in the log, by result.",
                    unit="s",
                    queries=quantiles("alipay_notify_append_duration_seconds", "result"),
                ),
                Panel(
                    title="Append rate",
                    description="Records appended per second, by result.",
                    unit="reqps",
                    queries=(rate("alipay_notify_append_duration_seconds_count", "result"),),
                ),
                Panel(
                    title="Producers replaced",
                    description="Kafka producers replaced, by fault. No acknowledged record is lost.",
                    unit="short",
                    queries=(counted("alipay_notify_producer_rebuilds_total", "reason"),),
                ),
                Panel(
                    title="Under-replicated partitions",
                    description="Partitions of the log of which a broker has no copy that is in sync, by topic.",
                    unit="short",
                    queries=(Query("max by (topic) (alipay_notify_under_replicated_partitions{@})", "{{topic}}"),),
                    limits=(1.0, 1.0),
                ),
            ),
        ),
        Row(
            title="Worker",
            panels=(
                Panel(
                    title="Dispositions",
                    description="Records processed per second, by disposition.",
                    unit="reqps",
                    queries=(rate("alipay_notify_processed_total", "result"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Steps of a batch",
                    description="Mean time of each step of a batch.",
                    unit="s",
                    queries=(
                        Query(
                            "sum by (step) (rate(alipay_notify_processing_duration_seconds_sum{@}[$__rate_interval])) /"
                            " sum by (step) (rate(alipay_notify_processing_duration_seconds_count{@}"
                            "[$__rate_interval]))",
                            "{{step}}",
                        ),
                    ),
                    is_stacked=True,
                ),
                Panel(
                    title="Rebalances and rebuilds",
                    description="Rebalances, group members replaced, and commits dropped by a rebalance.",
                    unit="short",
                    queries=(
                        counted("alipay_notify_rebalances_total", "group"),
                        counted("alipay_notify_consumer_rebuilds_total", "reason"),
                        Query(
                            "sum(increase(alipay_notify_commits_dropped_total{@}[$__rate_interval]))", "commits dropped"
                        ),
                        Query(
                            "sum(increase(alipay_notify_partitions_rewound_total{@}[$__rate_interval]))",
                            "partitions rewound",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Outbox and files",
            is_collapsed=True,
            panels=(
                Panel(
                    title="Outbox",
                    description="Events that are not yet published, counted up to 100,000.",
                    unit="short",
                    queries=(Query("max(alipay_notify_outbox_pending_events{@})", "events"),),
                ),
                Panel(
                    title="Oldest event in the outbox",
                    description="Age of the oldest event that is not yet published; 0 if there is none.",
                    unit="s",
                    queries=(
                        Query(
                            "time() - max(alipay_notify_outbox_oldest_timestamp_seconds{@} > 0) or on () vector(0)",
                            "age",
                        ),
                    ),
                    limits=(10.0, 60.0),
                ),
                Panel(
                    title="Write-ahead logs",
                    description="Embedded engine: length of the -wal files of journal and store.",
                    unit="bytes",
                    queries=(Query("max by (database) (alipay_notify_write_ahead_log_bytes{@})", "{{database}}"),),
                ),
            ),
        ),
    ),
)
