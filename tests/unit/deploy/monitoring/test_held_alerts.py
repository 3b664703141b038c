"""The alerts on money at risk compare sums of the same shape at different times."""

from deploy.monitoring import held_alerts
from deploy.monitoring.durations import Timing


def test_money_at_risk_is_by_account_and_currency_and_counts_each_process_once() -> None:
    gauge = "max by (account, currency, age) (alipay_notify_money_at_risk_minor_units"
    assert held_alerts.at_risk() == f"sum by (account, currency) ({gauge}))"
    assert held_alerts.at_risk("15m") == f"sum by (account, currency) ({gauge} offset 15m))"


def test_offsets_can_be_divided_for_tests_on_real_servers() -> None:
    assert "offset 15s" in Timing(divisor=60, offset_divisor=60).expression(held_alerts.at_risk("15m"))
