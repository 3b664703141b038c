"""The alerts on held notifications, and on the money that they report."""

from deploy.monitoring.durations import DAY_S
from deploy.monitoring.increases import any_increased
from deploy.monitoring.rules import Alert

WRONG_AMOUNTS = 'alipay_notify_held_total{disposition="quarantined",reason=~"amount_mismatch|currency_mismatch"}'
CONTRADICTED = (
    'alipay_notify_held_total{disposition="quarantined",reason=~"second_trade|paid_and_expired|over_refunded"}'
)
AT_RISK = "max by (account, currency, age) (alipay_notify_money_at_risk_minor_units"


def at_risk(before: str = "") -> str:
    """Return the money at risk by account and currency, now or so long before."""
    offset = f" offset {before}" if before else ""
    return f"sum by (account, currency) ({AT_RISK}{offset}))"


HELD = [
    Alert(
        name="AmountMismatch",
        severity="critical",
        # Until nothing is quarantined, or for a day; then QuarantineOpen and HeldOld still stand.
        expr=f"""
{any_increased(WRONG_AMOUNTS, "1d", by="reason")}
and on ()
  max(alipay_notify_held_notifications{{disposition="quarantined"}}) > 0
""",
        keep="0s",
        summary="A payment is of another amount or currency than its order ({{ $labels.reason }}).",
        description="It is authentic and has changed no order. A person has to accept or discard it.",
        board="reliability",
    ),
    Alert(
        name="IllegalTransition",
        severity="warning",
        expr=any_increased(CONTRADICTED, "1h", by="reason"),
        summary="Authentic notifications contradict their order: {{ $labels.reason }}.",
        description="An order was paid twice, paid after its end, or refunded by more than was paid.",
        board="business",
    ),
    Alert(
        name="DeadOpen",
        severity="warning",
        for_="15m",
        expr='max(alipay_notify_held_notifications{disposition="dead"}) > 0',
        summary="There are dead letters.",
        description="Records that are no authentic notification, or that the program could not process.",
        board="reliability",
    ),
    Alert(
        name="QuarantineOpen",
        severity="warning",
        for_="15m",
        expr='max(alipay_notify_held_notifications{disposition="quarantined"}) > 0',
        summary="Quarantined notifications wait for a person.",
        description="They are authentic, but incomplete or wrong. Their orders did not change.",
        board="reliability",
    ),
    Alert(
        name="HeldOld",
        severity="warning",
        for_="5m",
        expr=(f"time() - min by (disposition) (alipay_notify_held_oldest_timestamp_seconds > 0) > {DAY_S}"),
        summary="A {{ $labels.disposition }} notification has waited for more than a day.",
        description="Alipay has its acknowledgement and does not send it again.",
        board="reliability",
    ),
    Alert(
        name="MoneyAtRiskGrowing",
        severity="critical",
        # It grew in each of the last three quarters of an hour: one payment that waits for its order does not page.
        expr=f"""
{at_risk()} > {at_risk("15m")}
and
  {at_risk("15m")} > {at_risk("30m")}
and
  {at_risk("30m")} > {at_risk("45m")}
""",
        keep="15m",
        summary="Ever more paid money of {{ $labels.account }} ({{ $labels.currency }}) is held and not applied.",
        description="Its payments are verified and acknowledged, but their orders do not change.",
    ),
    Alert(
        name="MoneyAtRiskOld",
        severity="warning",
        for_="5m",
        expr=f"""
sum by (account, currency) ({AT_RISK}{{age!="1h"}})) > 0
""",
        summary="Paid money of {{ $labels.account }} ({{ $labels.currency }}) has been held for more than an hour.",
        description="Alipay has its acknowledgement and will not send it again; the order has not changed.",
    ),
    Alert(
        name="MoneyAtRiskUnknown",
        severity="warning",
        for_="15m",
        expr="min(alipay_notify_money_at_risk_complete) == 0",
        summary="The money at risk is more than is shown: over a thousand notifications are held, or cannot be read.",
        description="Its amounts are those of the oldest thousand, and may stand still while others arrive.",
    ),
]
