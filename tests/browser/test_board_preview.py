"""The drawing of a board: every panel of every row, each with its content, and a caption that says what it is."""

import json
from pathlib import Path

import pytest

from deploy.monitoring import files
from tests.browser import board_preview


@pytest.mark.parametrize("path", files.BOARDS.values(), ids=lambda path: path.stem)
def test_every_panel_is_drawn_and_the_picture_is_not_taken_for_grafana(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    panels = [panel for _, row in board_preview.rows(board) for panel in row]
    drawn = {panel["id"]: f"content-{panel['id']}-" for panel in panels}
    text = board_preview.page(board, drawn)
    assert len(panels) >= 10
    assert all(content in text for content in drawn.values())
    assert "Preview renderer, not Grafana" in text


def test_curve_fills_its_chart_from_the_lowest_to_the_highest_value() -> None:
    text = board_preview.curves([("<a>", [(0, 0.0), (10, 5.0), (20, 10.0)])])
    assert 'points="0.0,120.0 200.0,60.0 400.0,0.0"' in text
    assert "0 to 10" in text
    assert "&lt;a&gt;" in text


def test_line_of_zeros_lies_at_the_bottom() -> None:
    assert 'points="0.0,120.0 400.0,120.0"' in board_preview.curves([("a", [(0, 0.0), (10, 0.0)])])


def test_panel_without_series_says_so() -> None:
    assert "no data" in board_preview.curves([])


def test_figures_are_the_last_values() -> None:
    text = board_preview.figures([("a", [(0, 1.0), (10, 2.5)]), ("b", [])])
    assert "<b>2.5</b>" in text
    assert ">b<" not in text
