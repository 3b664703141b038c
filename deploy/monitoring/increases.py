"""Increases of counters of which a single event matters."""

from deploy.monitoring.durations import seconds


def increased(counter: str, window: str) -> str:
    """Return an expression of the series that counted something within the window. Aggregate it by the labels to keep.

    `increase` compares scrapes, so it does not see what a process counted before its first one. But counters begin with
    0 at each start: all that a process has counted that started within the window, it counted within the window.
    """
    return f"""\
increase({counter}[{window}]) > 0
  or
  {counter} > 0 and on (job, instance) time() - process_start_time_seconds < {seconds(window)}"""


def any_increased(counter: str, window: str, *, by: str = "") -> str:
    """Return an expression that has a result for each value of the labels `by` of which something was counted."""
    kept = f" by ({by})" if by else ""
    return f"""\
sum{kept} (
  {increased(counter, window)}
)"""
