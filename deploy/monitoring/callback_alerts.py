"""The alerts on callbacks: an endpoint that takes nothing, and one that refuses some events."""

from deploy.monitoring.durations import HOUR_S
from deploy.monitoring.increases import any_increased
from deploy.monitoring.rules import Alert

_OLD = f"time() - max by (endpoint) (alipay_notify_callback_oldest_timestamp_seconds > 0) > {HOUR_S}"
_TAKEN = any_increased('alipay_notify_callback_attempts_total{outcome="delivered"}', "1h", by="endpoint")

CALLBACKS = [
    Alert(
        name="CallbacksUndelivered",
        severity="warning",
        for_="5m",
        expr=f"""
max by (endpoint) (alipay_notify_callback_disabled) > 0
or
(
  {_OLD}
  unless
{_TAKEN}
)
""",
        summary="The endpoint {{ $labels.endpoint }} has taken no order event for an hour, or is disabled.",
        description="Its merchant service does not learn of payments. The events are kept for thirty days.",
        board="reliability",
    ),
    Alert(
        name="CallbackRefused",
        severity="warning",
        for_="5m",
        expr=f"""
(
  {_OLD}
  and
{_TAKEN}
)
unless
  max by (endpoint) (alipay_notify_callback_disabled) > 0
""",
        summary="The endpoint {{ $labels.endpoint }} takes order events, but one has waited for over an hour.",
        description="It refuses that event, which is given up after five days, or takes events too slowly.",
        board="reliability",
    ),
]
