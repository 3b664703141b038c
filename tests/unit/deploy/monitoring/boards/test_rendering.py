"""The JSON of the boards: what Grafana's linter asks for, and every exported metric is shown."""

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import msgspec
import promql_parser
import pytest

from deploy.monitoring import files
from deploy.monitoring.boards import rendering
from schemas import telemetry

# Of Python and its client library, each with its reason. Families of our own have no exception.
NOT_SHOWN = {
    "alipay_notify_raw_erased": "nothing is to be done about it, however much it is",
    "process_virtual_memory_bytes": "resident memory is what is limited",
    "python_gc_objects_collected": "the number of collections shows whether they matter",
    "python_gc_objects_uncollectable": "0 since Python 3.4",
}
OF_EVERY_PROCESS = {
    *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
    *("process_cpu_seconds", "process_open_fds", "process_max_fds"),
    *("python_gc_objects_collected", "python_gc_objects_uncollectable", "python_gc_collections"),
}
VARIABLES = {"$__rate_interval": "1m", "$job": ".+", "$instance": ".+"}
BOARDS = {board.id: msgspec.json.decode(rendering.json(board)) for board in rendering.BOARDS}

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, also in collapsed rows."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def queries() -> list[str]:
    return [target["expr"] for board in BOARDS.values() for panel in panels(board) for target in panel["targets"]]


def replaced(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def test_boards_have_different_names_and_the_ids_of_the_alerts_links() -> None:
    assert {board["uid"] for board in BOARDS.values()} == files.BOARDS.keys()
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS) == 4


@each_board
def test_board_has_one_data_source_to_choose_and_two_filters(board: dict[str, Any]) -> None:
    source, job, instance = board["templating"]["list"]
    assert (source["name"], source["label"], source["type"], source["query"]) == (
        "datasource",
        "Data Source",
        "datasource",
        "prometheus",
    )
    for variable, name in ((job, "job"), (instance, "instance")):
        assert (variable["name"], variable["type"], variable["allValue"]) == (name, "query", ".+")
        assert variable["multi"] is variable["includeAll"] is True
        assert variable["refresh"] == 2, "when the time range changes"
        assert variable["datasource"]["uid"] == "${datasource}"


@each_board
def test_board_cannot_be_edited_and_links_to_the_others(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    (link,) = board["links"]
    assert link["type"] == "dashboards"
    assert link["tags"] == board["tags"] == ["alipay-notify"]
    (releases,) = [each for each in board["annotations"]["list"] if each["name"] == "Releases"]
    promql_parser.parse(releases["expr"])


@each_board
def test_panel_has_title_description_unit_source_and_queries(board: dict[str, Any]) -> None:
    found = list(panels(board))
    for panel in found:
        assert panel["title"], panel
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["refId"] for target in panel["targets"])
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    titles = [panel["title"] for panel in found]
    assert len(set(titles)) == len(titles)


@each_board
def test_panels_have_ids_of_their_own_and_do_not_overlap(board: dict[str, Any]) -> None:
    every = [*board["panels"], *(panel for panel in panels(board) if panel not in board["panels"])]
    assert len({panel["id"] for panel in every}) == len(every)
    for group in (board["panels"], *(row["panels"] for row in board["panels"] if row.get("panels"))):
        for one, other in combinations([panel["gridPos"] for panel in group], 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or below


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_query_parses_and_follows_the_rules(query: str) -> None:
    promql_parser.parse(replaced(query))
    for function, window in re.findall(r"\b(rate|increase|irate)\([^\[]*\[([^\]]+)\]", query):
        assert window == "$__rate_interval", function
    for counter in re.findall(r"\w+_total\b", query):
        assert re.search(rf"(rate|increase)\({counter}\b", query), f"{counter} outside of a rate"
    selectors = re.findall(r"\b(?:alipay_notify|http_server|process|python_gc)_\w+(\{[^}]*\})?", query)
    recorded = "job:alipay_notify" in query
    assert recorded or not selectors or all("$job" in each and "$instance" in each for each in selectors), query


def test_every_exported_metric_is_on_a_panel() -> None:
    text = "\n".join(queries())
    families = {family.name for family in telemetry.CATALOGUE} | OF_EVERY_PROCESS
    # The objectives' recording rules read the histogram of answers, which has panels of its own too.
    missing = {name for name in families if not re.search(rf"\b{name}(_total|_bucket|_count|_sum)?\b", text)}
    assert missing == NOT_SHOWN.keys()


def test_only_signed_values_have_no_floor() -> None:
    without = {
        panel["title"]
        for board in BOARDS.values()
        for panel in panels(board)
        if panel["type"] == "timeseries" and "min" not in panel["fieldConfig"]["defaults"]
    }
    assert without == {"Clock", "Certificates expire in", "Retiring keys end in", "Alipay gives up in"}
