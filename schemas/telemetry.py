"""The vocabulary of telemetry: every metric family and every log field, named once.

Metrics are a contract with dashboards and alerts: a name or a label here does not change without a line in the
changelog. Values of labels come from closed sets (`schemas.dispositions`, configured accounts); never an order, a
trade, a buyer or a notification number. The processes build their instruments from these specifications.
"""

from msgspec import Struct

ACK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STEP_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
END_TO_END_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 240.0, 900.0, 3600.0, 21600.0, 86400.0)

UNKNOWN_ACCOUNT = "unknown"  # the label for every account name that is not configured: the sender chose it


class MetricFamily(Struct, frozen=True, kw_only=True):
    """One metric family; `kind` is counter, gauge, histogram or info. Counters are named without `_total`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# receiver
HTTP_DURATION = MetricFamily(
    name="http_server_request_duration_seconds",
    kind="histogram",
    help="Time from a request's header to its answer.",
    labels=("http_request_method", "http_route", "http_response_status_code"),
    buckets=ACK_BUCKETS,
)
HTTP_ACTIVE = MetricFamily(
    name="http_server_active_requests",
    kind="gauge",
    help="Requests being answered.",
    labels=("http_request_method",),
)
RECEIVED = MetricFamily(
    name="alipay_notify_received",
    kind="counter",
    help="Requests to the notification endpoint, by how they were answered.",
    labels=("account", "outcome"),
)
SIGNATURE_FAILURES = MetricFamily(
    name="alipay_notify_signature_failures",
    kind="counter",
    help="Requests whose signature could not be accepted, by reason.",
    labels=("account", "reason"),
)
KEY_VERIFICATIONS = MetricFamily(
    name="alipay_notify_key_verifications",
    kind="counter",
    help="Signatures verified, by the key that verified them: a key that stays at zero may be removed.",
    labels=("account", "key_id"),
)
HTTP_PARSE_ERRORS = MetricFamily(
    name="alipay_notify_http_parse_errors", kind="counter", help="Requests that were no HTTP."
)
STALE_REQUEST_TIME = MetricFamily(
    name="alipay_notify_stale_request_time",
    kind="counter",
    help="Authentic Antom messages whose request-time lies outside the span of Antom's own re-sending.",
    labels=("account",),
)
APPEND_DURATION = MetricFamily(
    name="alipay_notify_append_duration_seconds",
    kind="histogram",
    help="Time until the log acknowledged a record as durable.",
    labels=("result",),
    buckets=STEP_BUCKETS,
)
PRODUCER_REBUILDS = MetricFamily(
    name="alipay_notify_producer_rebuilds",
    kind="counter",
    help="Kafka producers that were replaced, by what was wrong with them; nothing is lost by it.",
    labels=("reason",),
)

# worker
TRADE_STATUS = MetricFamily(
    name="alipay_notify_trade_status",
    kind="counter",
    help="Notifications read, by Alipay's own word for the state.",
    labels=("account", "trade_status"),
)
AMOUNT = MetricFamily(
    name="alipay_notify_amount_minor_units",
    kind="counter",
    help="Money of orders that became paid, in the currency's smallest unit.",
    labels=("account", "currency"),
)
DELIVERY_DELAY = MetricFamily(
    name="alipay_notify_delivery_delay_seconds",
    kind="histogram",
    help="Received minus the event's own time; large where Alipay had to send again.",
    buckets=END_TO_END_BUCKETS,
)
PROCESSED = MetricFamily(
    name="alipay_notify_processed", kind="counter", help="Records by their disposition.", labels=("result",)
)
PROCESSING_DURATION = MetricFamily(
    name="alipay_notify_processing_duration_seconds",
    kind="histogram",
    help="Where a batch's time goes.",
    labels=("step",),
    buckets=STEP_BUCKETS,
)
END_TO_END = MetricFamily(
    name="alipay_notify_end_to_end_duration_seconds",
    kind="histogram",
    help="Received until the order event was acknowledged.",
    labels=("trade_status",),
    buckets=END_TO_END_BUCKETS,
)
LAG_MESSAGES = MetricFamily(
    name="alipay_notify_consumer_lag_messages",
    kind="gauge",
    help="Records in the log without a disposition.",
    labels=("topic", "partition", "group"),
)
LAG_SECONDS = MetricFamily(
    name="alipay_notify_consumer_lag_seconds",
    kind="gauge",
    help="Age of the oldest record without a disposition.",
    labels=("topic", "partition", "group"),
)
RETRIES = MetricFamily(
    name="alipay_notify_retries",
    kind="counter",
    help="Waits: a batch for infrastructure (pause), or a held row that came due.",
    labels=("tier", "reason"),
)
RETRY_PENDING = MetricFamily(
    name="alipay_notify_retry_pending_notifications",
    kind="gauge",
    help="Parked notifications, by the tier of their next try.",
    labels=("tier",),
)
HELD = MetricFamily(
    name="alipay_notify_held",
    kind="counter",
    help="Notifications held, by disposition and reason.",
    labels=("disposition", "reason"),
)
HELD_NOW = MetricFamily(
    name="alipay_notify_held_notifications",
    kind="gauge",
    help="Held notifications that nobody resolved yet.",
    labels=("disposition",),
)
HELD_OLDEST = MetricFamily(
    name="alipay_notify_held_oldest_timestamp_seconds",
    kind="gauge",
    help="When the oldest unresolved held notification was first held.",
    labels=("disposition",),
)
REPLAYED = MetricFamily(
    name="alipay_notify_replayed", kind="counter", help="Held notifications tried again by hand.", labels=("result",)
)
CLAIMS = MetricFamily(
    name="alipay_notify_claims",
    kind="counter",
    help="Claims on orders, by outcome; records that were done before.",
    labels=("outcome",),
)
FENCED_WRITES = MetricFamily(
    name="alipay_notify_fenced_writes",
    kind="counter",
    help="Writes that the version check turned away: another worker had been there.",
)
OUTBOX_PENDING = MetricFamily(
    name="alipay_notify_outbox_pending_events", kind="gauge", help="Events not yet acknowledged by their topic."
)
OUTBOX_OLDEST = MetricFamily(
    name="alipay_notify_outbox_oldest_timestamp_seconds",
    kind="gauge",
    help="When the oldest unacknowledged event was written; 0 where there is none.",
)

# worker of a cluster
REBALANCES = MetricFamily(
    name="alipay_notify_rebalances",
    kind="counter",
    help="Times that the consumer group gave this worker its partitions.",
    labels=("group",),
)
CONSUMER_REBUILDS = MetricFamily(
    name="alipay_notify_consumer_rebuilds",
    kind="counter",
    help="Members of the consumer group that were replaced since they no longer did their work, by reason.",
    labels=("reason",),
)
COMMITS_DROPPED = MetricFamily(
    name="alipay_notify_commits_dropped",
    kind="counter",
    help="Batches whose position was not committed since the group had moved on: they come again, as duplicates.",
)
PARTITIONS_REWOUND = MetricFamily(
    name="alipay_notify_partitions_rewound",
    kind="counter",
    help="Partitions read again from where an older store ended: it was restored from a backup.",
)

# both
DEPENDENCY_UP = MetricFamily(
    name="alipay_notify_dependency_up", kind="gauge", help="1 while it answers.", labels=("dependency",)
)
READY = MetricFamily(name="alipay_notify_ready", kind="gauge", help="1 while /readyz says so; 0 first on drain.")
LOOP_LAG = MetricFamily(
    name="alipay_notify_event_loop_lag_seconds", kind="gauge", help="How late the event loop ran its last timer."
)
LOG_LINES_DROPPED = MetricFamily(
    name="alipay_notify_log_lines_dropped",
    kind="counter",
    help="Log lines given up because their reader was too slow.",
)
KEY_EXPIRY = MetricFamily(
    name="alipay_notify_public_key_expiry_timestamp_seconds",
    kind="gauge",
    help="When a certificate that is used as a key ends.",
    labels=("account", "key_id"),
)
BUILD_INFO = MetricFamily(
    name="alipay_notify_build_info",
    kind="info",
    help="What is running.",
    labels=("version", "python", "commit"),
)

CATALOGUE: tuple[MetricFamily, ...] = tuple(value for value in globals().values() if isinstance(value, MetricFamily))


class Field:
    """The keys of a log line. One line per notification and process, at the end, with the outcome."""

    TIMESTAMP = "timestamp"
    LEVEL = "level"
    EVENT = "event"
    ACCOUNT = "account"
    NOTIFY_ID = "notify_id"
    OUT_TRADE_NO = "out_trade_no"
    OUTCOME = "outcome"
    REASON = "reason"
    STATUS = "status"
    KEY_ID = "key_id"
    DISPOSITION = "disposition"
    VERSION = "version"
    PARTITION = "partition"
    OFFSET = "offset"
    ATTEMPT = "attempt"
    DURATION_MS = "duration_ms"
    COUNT = "count"
    ERROR = "error"


# Values of these keys never reach a log line whole, wherever they come from.
REDACTED = frozenset(
    {"buyer_logon_id", "buyer_id", "buyer_email", "buyer_open_id", "sign", "signature", "passback_params", "body",
     "subject", "authCode", "accessToken", "pspCustomerInfo", "userLoginId", "userId"}
)  # fmt: skip
