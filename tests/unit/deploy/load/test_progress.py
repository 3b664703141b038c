"""Progress on a terminal, and none in a log."""

import sys

import pytest

from deploy.load import progress
from deploy.load.progress import NoProgress


def test_without_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.stage("sending", 10) as stage:
        assert isinstance(stage, NoProgress)
        stage.advance(1)
        stage.reach(10, "500/s")
    assert capsys.readouterr() == ("", "")


def test_at_a_terminal_a_stage_has_its_name_count_and_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.stage("sending", 10) as stage:
        stage.advance(3)
        stage.reach(7, "500/s")
    shown = capsys.readouterr()
    assert "sending" in shown.err
    assert "500/s" in shown.err
    assert "7/10" in shown.err
    assert shown.out == ""
