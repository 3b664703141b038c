"""Each account: accepted, refused, paid, late and contradictory notifications; and the keys."""

from deploy.monitoring.boards.shapes import Board, Panel, Query, Row, counted, counted_or_none, quantiles, rate

CONTRADICTIONS = 'reason=~"amount_mismatch|currency_mismatch|second_trade|paid_and_expired|over_refunded",'

BUSINESS = Board(
    id="business",
    title="Business",
    description="By account: accepted, refused and contradictory notifications, and the keys that Alipay uses.",
    rows=(
        Row(
            title="Accounts",
            panels=(
                Panel(
                    title="Accepted",
                    description="Notifications accepted per second, by account.",
                    unit="reqps",
                    queries=(rate("alipay_notify_received_total", "account", matchers='outcome="accepted",'),),
                    is_stacked=True,
                ),
                Panel(
                    title="Refused",
                    description="Requests refused per second, by account and outcome.",
                    unit="reqps",
                    queries=(
                        rate("alipay_notify_received_total", "account", "outcome", matchers='outcome!="accepted",'),
                    ),
                    is_stacked=True,
                ),
                Panel(
                    title="Paid per second",
                    description="Amounts of orders that became paid, in the currency's smallest unit.",
                    unit="short",
                    queries=(rate("alipay_notify_amount_minor_units_total", "account", "currency"),),
                ),
            ),
        ),
        Row(
            title="Trades",
            panels=(
                Panel(
                    title="Trade status",
                    description="Notifications processed per second, by account and Alipay's trade status.",
                    unit="reqps",
                    queries=(rate("alipay_notify_trade_status_total", "account", "trade_status"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Delay of the delivery",
                    description="From the event at Alipay to its receipt. Above 240 s Alipay had to send it again.",
                    unit="s",
                    queries=quantiles("alipay_notify_delivery_delay_seconds"),
                    limits=(60.0, 240.0),
                ),
                Panel(
                    title="Duplicate and stale",
                    description="Share of the processed records that changed nothing.",
                    unit="percentunit",
                    queries=(
                        Query(
                            'sum by (result) (rate(alipay_notify_processed_total{result=~"duplicate|stale",@}'
                            "[$__rate_interval])) / on () group_left ()"
                            " sum(rate(alipay_notify_processed_total{@}[$__rate_interval]))",
                            "{{result}}",
                        ),
                    ),
                ),
                Panel(
                    title="Contradictions",
                    description="Authentic notifications that contradict their order, by reason.",
                    unit="short",
                    queries=(counted("alipay_notify_held_total", "reason", matchers=CONTRADICTIONS),),
                    is_stacked=True,
                ),
                Panel(
                    title="Recovered orders",
                    description="Orders that Alipay's answer changed, by account: their notifications were lost.",
                    unit="short",
                    queries=(counted_or_none("alipay_notify_recovered_total", "account"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Questions about unpaid orders",
                    description="Questions to Alipay, by account and outcome; none without queries = true.",
                    unit="short",
                    queries=(counted_or_none("alipay_notify_questions_total", "account", "outcome"),),
                    is_stacked=True,
                ),
            ),
        ),
        Row(
            title="Signatures and keys",
            is_collapsed=True,
            panels=(
                Panel(
                    title="Signatures that fail",
                    description="Requests refused because of their signature (验签失败), by account and reason.",
                    unit="short",
                    queries=(counted("alipay_notify_signature_failures_total", "account", "reason"),),
                    is_stacked=True,
                ),
                Panel(
                    title="Keys in use",
                    description="Verified signatures per second, by key. One that stands still for two days may go.",
                    unit="reqps",
                    queries=(rate("alipay_notify_key_verifications_total", "account", "key_id"),),
                ),
                Panel(
                    title="Certificates expire in",
                    description="Time until a certificate that serves as a key expires.",
                    unit="s",
                    queries=(
                        Query(
                            "min by (account, key_id) (alipay_notify_public_key_expiry_timestamp_seconds{@}) - time()",
                            "{{account}} {{key_id}}",
                        ),
                    ),
                    limits=(259_200.0, 1_209_600.0),
                    is_low_bad=True,
                    is_signed=True,
                ),
                Panel(
                    title="Retiring keys end in",
                    description="Time until a key of a retiring algorithm verifies nothing new.",
                    unit="s",
                    queries=(
                        Query(
                            "min by (account, key_id) (alipay_notify_retiring_key_until_timestamp_seconds{@}) - time()",
                            "{{account}} {{key_id}}",
                        ),
                    ),
                    limits=(259_200.0, 1_209_600.0),
                    is_low_bad=True,
                    is_signed=True,
                ),
                Panel(
                    title="Alipay gives up in",
                    description="Time until the last try of a refused notification that is sent again; 25 h if none.",
                    unit="s",
                    queries=(
                        Query(
                            "(min by (account) (alipay_notify_refused_gives_up_timestamp_seconds{@}) - time())"
                            " or on () vector(90000)",
                            "{{account}}",
                        ),
                    ),
                    limits=(54_000.0, 86_400.0),
                    is_low_bad=True,
                    is_signed=True,
                ),
                Panel(
                    title="Requests with an old time",
                    description="Authentic Antom messages whose request-time is more than 25 hours off; accepted.",
                    unit="short",
                    queries=(counted("alipay_notify_stale_request_time_total", "account"),),
                ),
                Panel(
                    title="No valid HTTP",
                    description="Requests to the public port that were not valid HTTP.",
                    unit="short",
                    queries=(counted("alipay_notify_http_parse_errors_total"),),
                ),
            ),
        ),
    ),
)
