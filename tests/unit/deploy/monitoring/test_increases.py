"""Expressions of counters that counted something within a window. promtool tries them in the tests of the alerts."""

from deploy.monitoring.increases import any_increased, increased


def test_process_that_started_within_the_window_has_counted_all_within_it() -> None:
    compared, young = increased('a_total{b="c"}', "15m").split("\n  or\n  ")
    assert compared == 'increase(a_total{b="c"}[15m]) > 0'
    assert young == 'a_total{b="c"} > 0 and on (job, instance) time() - process_start_time_seconds < 900'


def test_wanted_labels_are_kept() -> None:
    assert any_increased("a_total", "1d", by="reason").startswith("sum by (reason) (\n")
    assert any_increased("a_total", "1d").startswith("sum (\n")
