"""The shapes of a board: rows of panels, and their queries.

A query is PromQL in which `{@}`, or `@` after other matchers, stands for the board's variables `job` and `instance`.
"""

from collections.abc import Iterator

from msgspec import Struct

SCRAPED = 'job=~"$job",instance=~"$instance"'
RATE = "[$__rate_interval]"


class Query(Struct, frozen=True):
    """One query of a panel, and the legend of its series."""

    expr: str
    legend: str = ""

    @property
    def text(self) -> str:
        """The PromQL as it is in the board."""
        return self.expr.replace("@", SCRAPED)


class Panel(Struct, frozen=True, kw_only=True):
    """A panel. `unit` is Grafana's; `limits` are the values from which it turns orange and red."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"  # or "stat"
    limits: tuple[float, ...] = ()
    is_low_bad: bool = False
    is_stacked: bool = False
    is_signed: bool = False  # values below 0 mean something, too
    width: int = 8


class Row(Struct, frozen=True, kw_only=True):
    """Panels below a title. Rows below the first screen are collapsed."""

    title: str
    panels: tuple[Panel, ...]
    is_collapsed: bool = False


class Board(Struct, frozen=True, kw_only=True):
    """A board. Its uid is `alipay-notify-` and this id."""

    id: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def uid(self) -> str:
        return f"alipay-notify-{self.id}"

    def panels(self) -> Iterator[Panel]:
        """Yield all panels."""
        for row in self.rows:
            yield from row.panels


def quantiles(family: str, by: str = "") -> tuple[Query, ...]:
    """Return the median and the 99th percentile of a histogram, by a label if one is given."""
    grouped, shown = (f", {by}", f"{{{{{by}}}}} ") if by else ("", "")
    return tuple(
        Query(f"histogram_quantile({share}, sum by (le{grouped}) (rate({family}_bucket{{@}}{RATE})))", f"{shown}{name}")
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )


def rate(counter: str, *by: str, matchers: str = "") -> Query:
    """Return the rate of a counter, by labels."""
    grouped = f" by ({', '.join(by)}) " if by else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return Query(f"sum{grouped}(rate({counter}{{{matchers}@}}{RATE}))", legend or "all")


def counted(counter: str, *by: str, matchers: str = "") -> Query:
    """Return the increase of a rare counter over the shown interval, by labels."""
    grouped = f" by ({', '.join(by)}) " if by else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return Query(f"sum{grouped}(increase({counter}{{{matchers}@}}{RATE}))", legend or "all")


def counted_or_none(counter: str, *by: str) -> Query:
    """Return `counted` for a counter that most engines do not have; 0 without it."""
    query = counted(counter, *by)
    return Query(f"{query.expr} or on () vector(0)", query.legend)
