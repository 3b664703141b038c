"""The queries that tables of boards are written with."""

import pytest

from deploy.monitoring.boards import shapes
from deploy.monitoring.boards.shapes import Board, Panel, Query, Row


def test_variables_of_the_board_stand_for_the_sign() -> None:
    assert Query("up{@}").text == 'up{job=~"$job",instance=~"$instance"}'
    assert Query('up{a="b",@}').text == 'up{a="b",job=~"$job",instance=~"$instance"}'


def test_rates_and_increases_have_grafanas_interval() -> None:
    assert shapes.rate("a_total", "x", "y").expr == "sum by (x, y) (rate(a_total{@}[$__rate_interval]))"
    assert shapes.rate("a_total", "x", "y").legend == "{{x}} {{y}}"
    counted = shapes.counted("a_total", matchers='b="c",')
    assert counted.expr == 'sum(increase(a_total{b="c",@}[$__rate_interval]))'


@pytest.mark.parametrize(("by", "grouped"), [("", "le"), ("step", "le, step")])
def test_quantiles_are_the_median_and_the_99th_percentile(by: str, grouped: str) -> None:
    median, high = shapes.quantiles("a_seconds", by)
    assert median.expr == f"histogram_quantile(0.5, sum by ({grouped}) (rate(a_seconds_bucket{{@}}[$__rate_interval])))"
    assert high.expr.startswith("histogram_quantile(0.99, ")
    assert median.legend.endswith("p50")


def test_board_has_the_panels_of_all_rows() -> None:
    panels = [Panel(title=name, description="", unit="s", queries=()) for name in "abc"]
    rows = (Row(title="1", panels=(panels[0],)), Row(title="2", panels=(panels[1], panels[2])))
    board = Board(id="x", title="", description="", rows=rows)
    assert [panel.title for panel in board.panels()] == ["a", "b", "c"]
    assert board.uid == "alipay-notify-x"


def test_counter_that_most_engines_do_not_have_is_zero_without_it() -> None:
    query = shapes.counted_or_none("alipay_notify_questions_total", "account")
    assert query.expr.startswith("sum by (account) (increase(alipay_notify_questions_total{@}")
    assert query.expr.endswith(" or on () vector(0)")
