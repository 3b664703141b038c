"""Make the JSON of a board with Grafana's own library: the classic format, which Grafana 10 to 13 import."""

import itertools
from collections.abc import Iterator

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard

from deploy.monitoring.boards.business import BUSINESS
from deploy.monitoring.boards.overview import OVERVIEW
from deploy.monitoring.boards.pipeline import PIPELINE
from deploy.monitoring.boards.reliability import RELIABILITY
from deploy.monitoring.boards.shapes import Board, Panel, Row

BOARDS = (OVERVIEW, PIPELINE, RELIABILITY, BUSINESS)
TAG = "alipay-notify"
SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
STAT_HEIGHT = 5
WIDTH = 24  # Grafana's grid
REF_IDS = "ABCDEFGH"

AnyPanel = timeseries.Panel | stat.Panel


def json(board: Board) -> str:
    """Return the board's JSON."""
    made = (
        dashboards.Dashboard(f"alipay-notify: {board.title}")
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_links())
        .annotation(_releases())
    )
    for variable in _variables():
        made = made.with_variable(variable)
    ids, height = itertools.count(1), 0
    for row in board.rows:
        height = _add(made, row, ids, height)
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _add(made: dashboards.Dashboard, row: Row, ids: Iterator[int], at: int) -> int:
    """Add a row with its panels at this height; return the height below it."""
    title = dashboards.Row(row.title).id(next(ids)).grid_pos(dashboard.GridPos(h=1, w=WIDTH, x=0, y=at))
    panels, below = [], at + 1
    x = tallest = 0
    for panel in row.panels:
        if x + panel.width > WIDTH:
            x, below, tallest = 0, below + tallest, 0
        height = STAT_HEIGHT if panel.kind == "stat" else HEIGHT
        place = dashboard.GridPos(h=height, w=panel.width, x=x, y=below)
        panels.append(_panel(panel).id(next(ids)).grid_pos(place))
        x, tallest = x + panel.width, max(tallest, height)
    if row.is_collapsed:
        for each in panels:
            title = title.with_panel(each)
        made.with_row(title)
        return at + 1  # its panels take no room until it is opened
    made.with_row(title)
    for each in panels:
        made.with_panel(each)
    return below + tallest


def _panel(panel: Panel) -> AnyPanel:
    made: AnyPanel = _stat() if panel.kind == "stat" else _curve(panel)
    made = made.title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE)
    made = made.thresholds(_thresholds(panel))
    for ref_id, query in zip(REF_IDS, panel.queries, strict=False):
        made = made.with_target(
            prometheus.Dataquery()
            .ref_id(ref_id)  # empty by default, and Grafana needs one
            .datasource(SOURCE)
            .expr(query.text)
            .legend_format(query.legend or "__auto")
            .range()
        )
    return made


def _stat() -> stat.Panel:
    return stat.Panel().color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.AREA)


def _curve(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().fill_opacity(30 if panel.is_stacked else 5).line_width(1)
    made = made.show_points(common.VisibilityMode.NEVER)
    made = made.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    if not panel.is_signed:
        made = made.min(0)
    if panel.is_stacked:
        made = made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.limits:
        mode = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        made = made.thresholds_style(mode)
    return made


def _thresholds(panel: Panel) -> dashboards.ThresholdsConfig:
    colours = ("red", "orange", "green") if panel.is_low_bad else ("green", "orange", "red")
    steps = [dashboard.Threshold(value=None, color=colours[0])]
    steps += [
        dashboard.Threshold(value=limit, color=colour) for limit, colour in zip(panel.limits, colours[1:], strict=False)
    ]
    return dashboards.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _links() -> dashboards.DashboardLink:
    return (
        dashboards.DashboardLink("alipay-notify")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )


def _releases() -> dashboards.AnnotationQuery:
    """A mark where a version appears: releases explain many curves."""
    return (
        dashboards.AnnotationQuery()
        .name("Releases")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("blue")
        .expr("sum by (job, version) (alipay_notify_build_info unless alipay_notify_build_info offset 5m)")
    )


def _variables() -> Iterator[dashboards.DatasourceVariable | dashboards.QueryVariable]:
    yield dashboards.DatasourceVariable("datasource").label("Data Source").type("prometheus")
    yield _scraped("job", "Job", "label_values(alipay_notify_build_info, job)")
    yield _scraped("instance", "Instance", 'label_values(alipay_notify_build_info{job=~"$job"}, instance)')


def _scraped(name: str, label: str, query: str) -> dashboards.QueryVariable:
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": name})
        .definition(query)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
