"""The alert on callbacks."""

from deploy.monitoring.durations import HOUR_S
from deploy.monitoring.rules import Alert

CALLBACKS = [
    Alert(
        name="CallbacksUndelivered",
        severity="warning",
        for_="5m",
        expr=f"""
max by (endpoint) (alipay_notify_callback_disabled) > 0
or
  time() - max by (endpoint) (alipay_notify_callback_oldest_timestamp_seconds > 0) > {HOUR_S}
""",
        summary="The endpoint {{ $labels.endpoint }} has not taken an order event for an hour, or is disabled.",
        description="Its merchant service does not learn of payments. The events are kept for thirty days.",
        board="reliability",
    ),
]
