"""The metric families of callbacks. Only the process that sends them, the leading worker, has them.

The label `endpoint` is a name of `callbacks.toml`.
"""

from schemas.metric_family import MetricFamily

ATTEMPTS = MetricFamily(
    name="alipay_notify_callback_attempts",
    kind="counter",
    help="Attempts at callbacks: delivered, refused, gone, timeout, unreachable, forbidden; and events given up.",
    labels=("endpoint", "outcome"),
)
OLDEST = MetricFamily(
    name="alipay_notify_callback_oldest_timestamp_seconds",
    kind="gauge",
    help="Time at which the oldest event that an endpoint has not taken was written; 0 if there is none.",
    labels=("endpoint",),
)
PENDING = MetricFamily(
    name="alipay_notify_callback_pending_events",
    kind="gauge",
    help="Events that wait for an endpoint, counted up to 10,000; more of them may wait in the outbox.",
    labels=("endpoint",),
)
DISABLED = MetricFamily(
    name="alipay_notify_callback_disabled",
    kind="gauge",
    help="1 if the endpoint is disabled and gets no callbacks, else 0.",
    labels=("endpoint",),
)

FAMILIES = (ATTEMPTS, OLDEST, PENDING, DISABLED)
