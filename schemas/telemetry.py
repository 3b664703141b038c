"""Names of all metric families and log fields. The processes build their instruments from these specifications.

Metric names and labels are a contract with dashboards and alerts: if one changes, the changelog needs a line. Label
values come from closed sets (`schemas.dispositions`, the configured accounts), and never from an order, a trade, a
buyer or a notification.
"""

from schemas import callback_metrics
from schemas.metric_family import MetricFamily as MetricFamily

ACK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STEP_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
LOCK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
END_TO_END_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 240.0, 900.0, 3600.0, 21600.0, 86400.0)

UNKNOWN_ACCOUNT = "unknown"  # label for accounts that are not configured, because the sender chooses their names

# receiver
HTTP_DURATION = MetricFamily(
    name="http_server_request_duration_seconds",
    kind="histogram",
    help="Time from the end of a request's header to its answer.",
    labels=("http_request_method", "http_route", "http_response_status_code"),
    buckets=ACK_BUCKETS,
)
HTTP_ACTIVE = MetricFamily(
    name="http_server_active_requests",
    kind="gauge",
    help="Requests in flight on the public port.",
    labels=("http_request_method",),
)
RECEIVED = MetricFamily(
    name="alipay_notify_received",
    kind="counter",
    help="Requests to the notification endpoint, by outcome.",
    labels=("account", "outcome"),
)
SIGNATURE_FAILURES = MetricFamily(
    name="alipay_notify_signature_failures",
    kind="counter",
    help="Requests refused because of their signature, by reason.",
    labels=("account", "reason"),
)
KEY_VERIFICATIONS = MetricFamily(
    name="alipay_notify_key_verifications",
    kind="counter",
    help="Verified signatures, by key. A key whose counter stands still for two days may be removed.",
    labels=("account", "key_id"),
)
HTTP_PARSE_ERRORS = MetricFamily(
    name="alipay_notify_http_parse_errors", kind="counter", help="Requests that were not valid HTTP."
)
STALE_REQUEST_TIME = MetricFamily(
    name="alipay_notify_stale_request_time",
    kind="counter",
    help="Authentic Antom messages whose request-time is more than 25 hours off; they are accepted.",
    labels=("account",),
)
REFUSED_GIVES_UP = MetricFamily(
    name="alipay_notify_refused_gives_up_timestamp_seconds",
    kind="gauge",
    help="Time at which Alipay first gives up on a notification that it sends again because it was refused.",
    labels=("account",),
)
APPEND_DURATION = MetricFamily(
    name="alipay_notify_append_duration_seconds",
    kind="histogram",
    help="Time to append a record to the log until it is durable, by result.",
    labels=("result",),
    buckets=STEP_BUCKETS,
)
PRODUCER_REBUILDS = MetricFamily(
    name="alipay_notify_producer_rebuilds",
    kind="counter",
    help="Kafka producers replaced, by fault. No acknowledged record is lost.",
    labels=("reason",),
)
UNDER_REPLICATED = MetricFamily(
    name="alipay_notify_under_replicated_partitions",
    kind="gauge",
    help="Partitions of the log of which a broker has no copy that is in sync. One broker more, and appends may fail.",
    labels=("topic",),
)

# worker
TRADE_STATUS = MetricFamily(
    name="alipay_notify_trade_status",
    kind="counter",
    help="Notifications processed, by Alipay's trade status.",
    labels=("account", "trade_status"),
)
AMOUNT = MetricFamily(
    name="alipay_notify_amount_minor_units",
    kind="counter",
    help="Amounts of orders that became paid, in the currency's smallest unit.",
    labels=("account", "currency"),
)
DELIVERY_DELAY = MetricFamily(
    name="alipay_notify_delivery_delay_seconds",
    kind="histogram",
    help="Time from the event at Alipay to its receipt. Large if Alipay had to send the notification again.",
    buckets=END_TO_END_BUCKETS,
)
PROCESSED = MetricFamily(
    name="alipay_notify_processed", kind="counter", help="Records processed, by disposition.", labels=("result",)
)
PROCESSING_DURATION = MetricFamily(
    name="alipay_notify_processing_duration_seconds",
    kind="histogram",
    help="Processing time of a batch, by step.",
    labels=("step",),
    buckets=STEP_BUCKETS,
)
END_TO_END = MetricFamily(
    name="alipay_notify_end_to_end_duration_seconds",
    kind="histogram",
    help="Time from the receipt of a notification until its order event was acknowledged.",
    labels=("trade_status",),
    buckets=END_TO_END_BUCKETS,
)
LAG_MESSAGES = MetricFamily(
    name="alipay_notify_consumer_lag_messages",
    kind="gauge",
    help="Consumer lag: records not yet processed.",
    labels=("topic", "partition", "group"),
)
LAG_SECONDS = MetricFamily(
    name="alipay_notify_consumer_lag_seconds",
    kind="gauge",
    help="Consumer lag: age of the oldest record not yet processed.",
    labels=("topic", "partition", "group"),
)
RETRIES = MetricFamily(
    name="alipay_notify_retries",
    kind="counter",
    help="Retries, by tier: of a batch after a backoff (pause), or of a parked notification that came due.",
    labels=("tier", "reason"),
)
RETRY_PENDING = MetricFamily(
    name="alipay_notify_retry_pending_notifications",
    kind="gauge",
    help="Parked notifications, by the tier of their next retry.",
    labels=("tier",),
)
HELD = MetricFamily(
    name="alipay_notify_held", kind="counter", help="Notifications held.", labels=("disposition", "reason")
)
HELD_NOW = MetricFamily(
    name="alipay_notify_held_notifications", kind="gauge", help="Held, not snoozed.", labels=("disposition",)
)
HELD_OLDEST = MetricFamily(
    name="alipay_notify_held_oldest_timestamp_seconds",
    kind="gauge",
    help="Time at which the oldest of these was first held; 0 if there is none.",
    labels=("disposition",),
)
MONEY_AT_RISK = MetricFamily(
    name="alipay_notify_money_at_risk_minor_units",
    kind="gauge",
    help="Verified payments that are held and not applied, in the currency's smallest unit, by the time they are held.",
    labels=("account", "currency", "age"),
)
MONEY_AT_RISK_COMPLETE = MetricFamily(
    name="alipay_notify_money_at_risk_complete",
    kind="gauge",
    help="0 if the money at risk could not be read, or is that of the oldest 1,000 held notifications; else 1.",
)
REPLAYED = MetricFamily(
    name="alipay_notify_replayed", kind="counter", help="Held notifications replayed by hand.", labels=("result",)
)
CLAIMS = MetricFamily(
    name="alipay_notify_claims",
    kind="counter",
    help="Idempotency locks on orders, by outcome; and redelivered records skipped because they were processed.",
    labels=("outcome",),
)
CLAIM_WAIT = MetricFamily(
    name="alipay_notify_claim_wait_duration_seconds",
    kind="histogram",
    help="Time that a batch waited for idempotency locks: at its start, and again for those of another worker.",
    buckets=LOCK_BUCKETS,
)
CLAIM_HOLD = MetricFamily(
    name="alipay_notify_claim_hold_duration_seconds",
    kind="histogram",
    help="Time from the acquisition of a batch's idempotency locks to their release.",
    buckets=LOCK_BUCKETS,
)
FENCED_WRITES = MetricFamily(
    name="alipay_notify_fenced_writes",
    kind="counter",
    help="Transactions rolled back by the version check because another worker updated the order; they are retried.",
)
QUESTIONS = MetricFamily(
    name="alipay_notify_questions", kind="counter", help="Questions about unpaid orders.", labels=("account", "outcome")
)
RECOVERED = MetricFamily(
    name="alipay_notify_recovered", kind="counter", help="Orders changed by such an answer.", labels=("account",)
)
OUTBOX_PENDING = MetricFamily(
    name="alipay_notify_outbox_pending_events",
    kind="gauge",
    help="Events in the outbox that are not yet published, counted up to 100,000.",
)
OUTBOX_OLDEST = MetricFamily(
    name="alipay_notify_outbox_oldest_timestamp_seconds",
    kind="gauge",
    help="Time at which the oldest unpublished event was written; 0 if there is none.",
)
LOOP_FAILURES = MetricFamily(
    name="alipay_notify_worker_loop_failures",
    kind="counter",
    help="Failures of a worker's loops, by reason: bug, damage, dead_letters. The loop, or the process, is restarted.",
    labels=("loop", "reason"),
)
HANDLING_INTERRUPTED = MetricFamily(
    name="alipay_notify_handling_interrupted",
    kind="counter",
    help="Readings of a record, or decisions of a batch, interrupted because they took longer than HANDLING_LIMIT_S.",
    labels=("step",),
)

# worker of a cluster
REBALANCES = MetricFamily(
    name="alipay_notify_rebalances",
    kind="counter",
    help="Rebalances in which the consumer group assigned partitions to this worker.",
    labels=("group",),
)
CONSUMER_REBUILDS = MetricFamily(
    name="alipay_notify_consumer_rebuilds",
    kind="counter",
    help="Consumer group members replaced because they were stuck or needed replacement, by reason.",
    labels=("reason",),
)
COMMITS_DROPPED = MetricFamily(
    name="alipay_notify_commits_dropped",
    kind="counter",
    help="Batches whose offsets were not committed because of a rebalance; they are redelivered as duplicates.",
)
PARTITIONS_REWOUND = MetricFamily(
    name="alipay_notify_partitions_rewound",
    kind="counter",
    help="Partitions read again from an earlier offset because the store was restored from a backup.",
)

# embedded engine
WRITE_AHEAD_LOG_BYTES = MetricFamily(
    name="alipay_notify_write_ahead_log_bytes",
    kind="gauge",
    help="Length of the -wal file of the embedded engine's journal, and of its order store.",
    labels=("database",),
)

# both
DEPENDENCY_UP = MetricFamily(
    name="alipay_notify_dependency_up", kind="gauge", help="1 if it answers, else 0.", labels=("dependency",)
)
READY = MetricFamily(name="alipay_notify_ready", kind="gauge", help="1 if /readyz answers 200, else 0, as in a drain.")
LOOP_LAG = MetricFamily(
    name="alipay_notify_event_loop_lag_seconds", kind="gauge", help="Delay of the event loop's last timer."
)
ASYNC_TASKS = MetricFamily(
    name="alipay_notify_async_tasks", kind="gauge", help="Tasks on the event loop that have not ended."
)
CLOCK_JUMPS = MetricFamily(
    name="alipay_notify_clock_jumps",
    kind="counter",
    help="Jumps of this machine's wall clock, or of PostgreSQL's, by two seconds or more.",
)
CLOCK_SKEW = MetricFamily(
    name="alipay_notify_clock_skew_seconds",
    kind="gauge",
    help="How far this machine's wall clock is ahead of PostgreSQL's, which decides; 0 without PostgreSQL.",
)
LOG_LINES_DROPPED = MetricFamily(
    name="alipay_notify_log_lines_dropped",
    kind="counter",
    help="Log lines dropped because standard error was read too slowly.",
)
KEY_EXPIRY = MetricFamily(
    name="alipay_notify_public_key_expiry_timestamp_seconds",
    kind="gauge",
    help="Time at which a certificate that serves as a key expires.",
    labels=("account", "key_id"),
)
RETIRING_KEY_UNTIL = MetricFamily(
    name="alipay_notify_retiring_key_until_timestamp_seconds",
    kind="gauge",
    help="Time from which a key of a retiring algorithm verifies nothing new. Its use is counted by its key_id.",
    labels=("account", "key_id", "sign_type"),
)
ACCOUNTS_RELOAD_OK = MetricFamily(
    name="alipay_notify_accounts_last_reload_successful",
    kind="gauge",
    help="0 if accounts.toml or a key file is faulty, so that older accounts and keys are in use; else 1.",
)
ACCOUNTS_RELOADED_AT = MetricFamily(
    name="alipay_notify_accounts_last_reload_success_timestamp_seconds",
    kind="gauge",
    help="Time at which the accounts and keys in use were read from their files.",
)
RAW_ERASED = MetricFamily(
    name="alipay_notify_raw_erased",
    kind="counter",
    help="Settled notifications of which personal data was erased after RAW_RETENTION_DAYS.",
)
BUILD_INFO = MetricFamily(
    name="alipay_notify_build_info",
    kind="info",
    help="Version of the running program.",
    labels=("version", "python", "commit"),
)

CATALOGUE: tuple[MetricFamily, ...] = (
    *(value for value in globals().values() if isinstance(value, MetricFamily)),
    *callback_metrics.FAMILIES,
)


class Field:
    """Keys of a log line. Each process writes one line for each notification, at its end, with the outcome."""

    TIMESTAMP = "timestamp"
    LEVEL = "level"
    EVENT = "event"
    SERVICE = "service"
    VERSION = "version"
    TRACE_ID = "trace_id"
    SPAN_ID = "span_id"
    ACCOUNT = "account"
    AUTH_APP_ID = "auth_app_id"
    NOTIFY_ID = "notify_id"
    OUT_TRADE_NO = "out_trade_no"
    OUTCOME = "outcome"
    REASON = "reason"
    STATUS = "status"
    KEY_ID = "key_id"
    DISPOSITION = "disposition"
    ORDER_VERSION = "order_version"
    PARTITION = "partition"
    OFFSET = "offset"
    ATTEMPT = "attempt"
    DURATION_MS = "duration_ms"
    COUNT = "count"
    LOOP = "loop"
    ENDPOINT = "endpoint"
    STEP = "step"
    ERROR = "error"
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    TASK = "task"
    ACTION = "action"
    DONE = "done"
    TOTAL = "total"


# The meaning of each, for the reference page.
FIELDS = {
    Field.TIMESTAMP: "UTC, to the millisecond. This field, and those down to `version`, are in every line.",
    Field.LEVEL: "`info`, `warning` or `error`.",
    Field.EVENT: "What happened, in words that stay the same: `notification`, `settled`, `paused` …",
    Field.SERVICE: "The process: `alipay-notify-ingest`, `-worker`, `-console`, `-up`; or `OTEL_SERVICE_NAME`.",
    Field.VERSION: "The version of the program.",
    Field.TRACE_ID: "The trace of this notification, if it is sampled. A receiver and a worker have a trace each.",
    Field.SPAN_ID: "The span in that trace.",
    Field.ACCOUNT: "The configured account; `unknown` for a request that names no such account.",
    Field.AUTH_APP_ID: "The order's merchant, at accounts of service providers.",
    Field.NOTIFY_ID: "Alipay's id of the notification.",
    Field.OUT_TRADE_NO: "The order number.",
    Field.OUTCOME: "How a request ended, as in `alipay_notify_received_total`.",
    Field.REASON: "Why it was refused or held, or why a loop failed.",
    Field.STATUS: "Alipay's trade status; in a line of a refused request, the HTTP status.",
    Field.KEY_ID: "The key that verified the signature.",
    Field.DISPOSITION: "`applied`, `duplicate`, `stale`, `parked`, `quarantined` or `dead`.",
    Field.ORDER_VERSION: "The version that the notification gave its order, if it changed it.",
    Field.PARTITION: "Where the record is in the log; the embedded engine has one partition, 0.",
    Field.OFFSET: "Where it is in that partition.",
    Field.ATTEMPT: "1 at the first time; the others are retries.",
    Field.DURATION_MS: "Milliseconds: of the request; from receipt to disposition; or of the wait that begins.",
    Field.COUNT: "1, and the lines like this one that were left out before it.",
    Field.LOOP: "The loop of a worker.",
    Field.ENDPOINT: "The endpoint of callbacks.",
    Field.STEP: "The step that took too long.",
    Field.ERROR: "The text of an error; with a traceback if it is our bug.",
    Field.ADDED: "Accounts that a reload added.",
    Field.CHANGED: "Accounts that it changed.",
    Field.REMOVED: "Accounts that it removed.",
    Field.TASK: "The number of a task over many held notifications.",
    Field.ACTION: "What it does with each: `replay`, `accept` or `discard`.",
    Field.DONE: "The number of rows that it has done with.",
    Field.TOTAL: "The number of rows that matched when it started.",
}

# Values of these keys are never written to a log line in full.
REDACTED = frozenset(
    {"buyer_logon_id", "buyer_id", "buyer_email", "buyer_open_id", "sign", "signature", "passback_params", "body",
     "subject", "authCode", "accessToken", "pspCustomerInfo", "userLoginId", "userId"}
)  # fmt: skip
